"""Hostile values for every argument and option of every command.

The command refuses a value with one line and exit code 2, or runs correctly.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.base.files import sha256_of, sha256_of_folder
from multires_edge.cli.main import main
from multires_edge.export import ExportOptions, export_bundle
from multires_edge.export.mcu import writing
from multires_edge.export.mcu.firmware import Firmware
from multires_edge.export.mcu.sizes import Sizes, sizes_of
from multires_edge.export.web import page
from multires_edge.runtime.bundle import Bundle
from tests.conftest import SMALL, random_inputs, random_net, save_published
from tests.hostile import COUNT, within
from tests.minisign_keys import make_keys
from tests.runtime.conftest import CARD, beats

VALUES = (
    "", "-1", "0", "1", "nan", "inf", "1e400", "0.5", "99999999999999999999", "x" * 300, "\x1b[31mred",
    "\udcff", "a=b", "=", "1,2", ",", "a:b", "window:1s", "10s", "none", "auto", "fp32", "int8", "cpu",
    "I=II", "..", "/", "/dev/null", "missing", "empty", "junk", "zeros", "object.json", "list.json", "folder",
    "cut.csv", "cut.npz", "pipe", "other.csv", "a.bundle/manifest.json", "ckpt.pth", "data.npz",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what each command takes, and the files that :data:`VALUES` name."""
    home, random_bytes = tmp_path_factory.mktemp("home"), np.random.default_rng(0).bytes(2000)
    for name, content in {"empty": b"", "junk": random_bytes, "zeros": bytes(5000)}.items():
        (home / name).write_bytes(content)
    for name, text in {"object.json": "{}", "list.json": "[1]", "cut.csv": "time,I,II\n0,1"}.items():
        (home / name).write_text(text)
    (home / "cut.npz").write_bytes(b"PK\x03\x04" + random_bytes)
    (home / "other.csv").write_text("time,X,Y\n" + "".join(f"{i / 250},0,0\n" for i in range(500)))
    (home / "folder").mkdir()
    (home / "card.json").write_text(json.dumps(CARD))
    save_published(random_net(SMALL), home)
    make_keys(home)
    np.savez(home / "data.npz", x=random_inputs(SMALL, 20, 100), labels=np.arange(20) % SMALL.d_output)
    np.savez(home / "ecg.npz", samples=beats(5, 250), leads=["I", "II"], rate=250, unit="mV")
    export_bundle(home / "ckpt.pth", home / "a.bundle", ExportOptions(card=home / "card.json"))
    with pytest.MonkeyPatch.context() as patch:
        _compile_once(patch)
        yield home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of the folder, and a pipe without a writer."""
    home = Path(shutil.copytree(made, tmp_path / "home"))
    os.mkfifo(home / "pipe")
    return home


def _compile_once(patch: pytest.MonkeyPatch) -> None:
    """Keep what was compiled: that takes seconds, and the arguments are what is tried."""
    modules: dict[tuple[object, ...], bytes] = {}
    sizes: dict[str, Sizes] = {}
    compiled = page.compiled

    def module(bundle: Bundle, precision: str, every: str = page.EVERY) -> bytes:
        key = (bundle.path.absolute(), precision, every)
        if key not in modules:
            modules[key] = compiled(bundle, precision, every)
        return modules[key]

    def size(firmware: Firmware, folder: Path) -> Sizes:
        if (key := sha256_of_folder(folder)) not in sizes:
            sizes[key] = sizes_of(firmware, folder)
        return sizes[key]

    patch.setattr(page, "compiled", module)
    patch.setattr(writing, "sizes_of", size)


# What each command takes; `monitor` and `serve`, which run until they are stopped, get no right bundle.
COMMANDS = {
    "export": "ckpt.pth -o b.bundle --force",
    "verify": "a.bundle",
    "calibrate": "ckpt.pth --data data.npz -o table.json --force",
    "build": "a.bundle",
    "evaluate": "a.bundle --data data.npz",
    "stream": "a.bundle ecg.npz --speed max",
    "monitor": "empty ecg.npz",
    "serve": "empty",
    "archive": "a.bundle folder -o decisions.parquet",
    "sample": "a.bundle -o image.npz",
    "bench": "a.bundle --steps 3 --quick",
    "kit": "a.bundle -o kit.tar.gz --force",
    "mcu": "a.bundle -o program --force",
    "sign": "a.bundle --key 1.key",
    "deploy": "a.bundle target",
    "push": "empty hf://org/net",  # no bundle: nothing may reach a network
    "page": "a.bundle -o page --force",
    "triton": "a.bundle -o repository --force",
    "inspect": "a.bundle",
    "targets": "",
    "doctor": "",
    "cmake-dir": "",
}


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) == set(main.commands)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_hostile_arguments(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    wrong, draw = [], random.Random(0)
    # `sign` and `build` alone write into a bundle.
    right = () if name in ("sign", "build") else COMMANDS[name].split()
    inputs = [Path(word) for word in right if Path(word).exists()]
    before = _digests(inputs)
    for arguments in draw.sample(every := list(_every_call(name)), min(COUNT // 2, len(every))):
        with within(60):
            result = CliRunner().invoke(main, arguments, input="")
        lines = result.stderr.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if (
            result.exit_code not in (0, 1, 2)
            or (result.exit_code == 2) != (len(errors) == 1)
            or any("this is a bug" in line or "Traceback" in line or not line.isprintable() for line in lines)
            or (result.exception is not None and not isinstance(result.exception, SystemExit))
        ):
            wrong.append(f"{arguments}: {result.exit_code} {result.exception!r}\n{result.stderr}")
        assert _digests(inputs) == before, f"{arguments}: changed what it reads"
    assert not wrong, "\n".join(wrong)


def _digests(paths: list[Path]) -> list[str]:
    return [sha256_of_folder(path) if path.is_dir() else sha256_of(path) for path in paths]


def _every_call(name: str) -> list[list[str]]:
    """The command's right arguments with each of them changed, and with each option added."""
    right, calls = COMMANDS[name].split(), []
    arguments = [p for p in main.commands[name].params if isinstance(p, click.Argument)]
    for option in main.commands[name].params:
        if isinstance(option, click.Option) and option.name not in ("version", "help", "debug"):
            values = [[]] if option.is_flag else [[value] for value in VALUES]
            calls += [[name, *right, option.opts[-1], *value] for value in values]
    for place in range(len(arguments)):
        calls += [[name, *right[:place], value, *right[place + 1 :]] for value in VALUES]
    return calls or [[name]]
