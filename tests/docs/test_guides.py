"""The commands in the README and the guides run, with files in the places of their placeholders.

Calls of this package run in this process, in the order of their page. A call that is not run has a reason.
The tutorials run whole: see ``test_tutorials``.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from multires_edge.cli.main import main
from multires_edge.export import Int8Options, export_bundle
from multires_edge.models import MultiresNet, save_checkpoint
from tests.conftest import DEMO, ROOT, random_net, save_published, variant
from tests.docs.test_pages import BLOCK
from tests.minisign_keys import make_keys

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = ("multires-edge", "multires-export")

# Calls that are not run here, and why.
NOT_HERE = {
    r"hf://": "needs a hub: tests/export/test_hub.py has one",
    r" bench (?!.*--quick)": "takes ten seconds a call; --quick is run",
    r" monitor ": "runs until Ctrl-C: tests/runtime/monitor",
    r" serve ": "runs until Ctrl-C, and needs a server: the tutorial about a fleet has both",
    r"tcp://": "needs a device: the tutorial about ECG plays one",
    r" page BUNDLE$": "compiles for long: tests/export/web",
    r" build .*--target (?!cuda)": "needs a GPU, or takes long: tests/runtime/engine_builder",
    r" build .*--target cuda": "needs CUDA's compiler: tests/runtime/backends/cuda",
    r" --device-report ": "needs a Jetson: tests/runtime/kit",
    r" --module my_net:build": "the network is the reader's: tests/export/test_module.py",
    r" --block norm=rms": "the network is the reader's: tests/models/test_block_options.py",
    r" -o out/runtimes.bundle": "takes long: tests/benchmarks",
}
PLACES = {
    "BUNDLE": "out/demo.bundle",
    "RECORD": "tests/data/ludb/1",
    "FOLDER": "recordings",
    "TARGET": "device/ecg",
    "demo.bundle": "out/demo.bundle",
    "/opt/bundles/ecg": "device/ecg",
    "/etc/multires-edge/release.pub": "release.pub",
}


def calls(page: Path) -> list[list[str]]:
    """The words of each call of this package in the page's indented blocks."""
    blocks = [match["indented"] or "" for match in BLOCK.finditer(page.read_text())]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines:
        if line.startswith(OURS):
            words = shlex.split(line, comments=True)
            end = next((i for i, word in enumerate(words) if word in ("|", "&&", "<")), len(words))
            found.append(words[:end])
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the guides name, of small networks."""
    folder = tmp_path_factory.mktemp("guides")
    for name in ("examples", "models", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("out", "device", "recordings"):
        (folder / name).mkdir()
    net = random_net(variant(d_input=12, d_output=5))
    shutil.copy(save_published(net, folder), folder / "model.ckpt")
    token = variant(encoder="token", task="autoregressive", d_output=11, shifted=False)
    save_checkpoint(random_net(token), folder / "language-model.ckpt")
    shutil.copy(DEMO / "card.json", folder)
    write_data(net, folder)
    keys = make_keys(folder)
    keys.secret.rename(folder / "release.key")
    keys.public.rename(folder / "release.pub")
    export_bundle(
        folder / "ckpt.pth",
        folder / "out" / "demo.bundle",
        card=folder / "card.json",
        target="cpu,jetpack6",
        precisions=("fp16", "int8"),
        int8=Int8Options(data=folder / "records.npz"),
    )
    # A bundle to go back to.
    signed = shutil.copytree(folder / "out" / "demo.bundle", folder / "signed.bundle")
    for call in (
        ["sign", signed, "--key", folder / "release.key"],
        ["deploy", signed, folder / PLACES["TARGET"]],
    ):
        result = CliRunner().invoke(main, [str(word) for word in call])
        assert result.exit_code == 0, result.output
    return folder


def write_data(net: MultiresNet, folder: Path) -> None:
    """Records with labels, outputs of the network, and a folder of recordings."""
    random = np.random.default_rng(0)
    for name in ("records", "labelled", "test", "other"):
        uv = random.normal(0, 300, (24, 12, 1000)).astype(np.int16)
        np.savez(folder / f"{name}.npz", x_uv=uv, labels=random.integers(0, 2, (24, 5)))
    x = random.standard_normal((2, 12, 1000)).astype(np.float32)
    with torch.no_grad():
        np.savez(folder / "own.npz", x=x, y=net(torch.from_numpy(x)).numpy())
    card = json.loads((folder / "card.json").read_text())
    for suffix in (".hea", ".dat"):
        shutil.copy(folder / "tests" / "data" / "ludb" / f"1{suffix}", folder / "recordings")
    (folder / "recordings" / "labels.csv").write_text(f"record,{','.join(card['labels'])}\n1,1,0,0,0,0\n")


@pytest.fixture(scope="module")
def pixels(home: Path) -> Path:
    """A bundle that images can be sampled from."""
    net = random_net(variant(task="autoregressive", d_input=1, d_output=6))
    return export_bundle(save_published(net, home / "pixels"), home / "pixels.bundle").path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if calls(page)], ids=lambda page: page.stem)
def test_commands_run(page: Path, home: Path, pixels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    failed = []
    for words in calls(page):
        if any(re.search(pattern, " ".join(words)) for pattern in NOT_HERE):
            continue
        call, _, output = " ".join(map(shlex.quote, words)).partition(" '>' ")
        arguments = arguments_of(shlex.split(call), pixels)
        result = CliRunner().invoke(main, arguments)
        if output:
            (home / output).write_text(result.stdout)
        if result.exit_code:
            failed.append(f"{' '.join(arguments)}\n{result.output[-500:]}{result.exception!r}")
    assert not failed, "\n\n".join(failed)


def arguments_of(words: list[str], pixels: Path) -> list[str]:
    """A call of a page as arguments of multires-edge, with files in the places of placeholders."""
    program, *arguments = [PLACES.get(word, word) for word in words]
    if program == "multires-export":
        arguments = ["export", *arguments]
    if arguments[0] in ("export", "page"):
        arguments.append("--force")
    if arguments[:2] == ["sample", PLACES["BUNDLE"]]:
        arguments[1] = str(pixels)
    return arguments


def test_no_reason_is_stale() -> None:
    given = [" ".join(words) for page in PAGES for words in calls(page)]
    for pattern in NOT_HERE:
        assert any(re.search(pattern, call) for call in given), pattern
