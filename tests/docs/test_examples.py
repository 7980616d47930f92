"""The examples in docstrings, and the program in the README, run as they are printed."""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.export import export_bundle, export_module
from multires_edge.models import load_checkpoint, save_checkpoint
from multires_edge.runtime import EcgStream, Stream, open_bundle
from tests.conftest import DEMO, ROOT, random_net, save_published, variant

WITH_EXAMPLES = [
    load_checkpoint,
    save_checkpoint,
    export_bundle,
    export_module,
    open_bundle,
    Stream,
    EcgStream,
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: a checkpoint with its card, and their bundle, of a small network."""
    folder = tmp_path_factory.mktemp("home")
    save_published(random_net(variant(d_input=12, d_output=5)), folder)
    shutil.copy(DEMO / "card.json", folder)
    (folder / "out").mkdir()
    export_bundle(folder / "ckpt.pth", folder / "out" / "demo.bundle", card=folder / "card.json")
    return folder


@pytest.mark.parametrize("documented", WITH_EXAMPLES, ids=lambda documented: documented.__name__)
def test_docstring(documented: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (example,) = doctest.DocTestFinder(recurse=False).find(documented, globs={})
    printed: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=printed.append)
    assert result.attempted and not result.failed, "".join(printed)


def program_of(page: str) -> str:
    """The only Python program on a page."""
    programs = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    (program,) = map(str, programs)
    return program


def test_the_program_in_the_readme(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    names: dict[str, Any] = {}
    exec(program_of("README.md"), names)
    assert names["logits"].shape == (1, 5)
    assert names["y"].shape == (2, 5)
    assert names["ys"].shape == (2, 5, 50)
    assert all(np.isfinite(names[name]).all() for name in ("logits", "y", "ys"))


def test_the_loop_with_plain_onnxruntime(home: Path) -> None:
    """It computes what a stream computes, and ONNX Runtime has nothing to say about it."""
    program = program_of("docs/bundle.md") + "\nnp.save('logits.npy', logits)"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=home, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    expected = open_bundle(home / "out" / "demo.bundle").stream().run(np.zeros((1, 12, 100), np.float32))
    np.testing.assert_allclose(np.load(home / "logits.npy"), expected[..., -1], rtol=0, atol=1e-5)


def test_the_program_of_the_page_on_training(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (program,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs/training.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(program, names)
    assert load_checkpoint("trained.pth").config == names["config"]


@pytest.mark.slow
def test_the_program_for_own_networks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    names: dict[str, Any] = {}
    exec(program_of("docs/own-networks.md"), names)
    import torch

    with torch.no_grad():
        expected = names["net"](torch.from_numpy(names["x"][..., :20])).numpy()
    np.testing.assert_allclose(names["ys"][..., 19], expected, rtol=0, atol=1e-5)
