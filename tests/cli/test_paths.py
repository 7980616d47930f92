"""The paths of a command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from multires_edge.base.files import sha256_of_folder
from multires_edge.cli.main import main
from tests.conftest import SMALL, random_net, save_published


@pytest.fixture
def home(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_published(random_net(SMALL), tmp_path)
    shutil.copytree(exported, tmp_path / "a.bundle")
    (tmp_path / "link").symlink_to("ckpt.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("kit a.bundle -o a.bundle/manifest.json --force", "lies in the bundle a.bundle"),
        ("page a.bundle -o a.bundle/page", "lies in the bundle a.bundle"),
        ("triton a.bundle -o a.bundle", "lies in the bundle a.bundle"),
        ("deploy a.bundle ./a.bundle/next", "lies in the bundle a.bundle"),
        ("stream a.bundle x.csv --output a.bundle/x.jsonl", "lies in the bundle a.bundle"),
        ("calibrate ckpt.pth --data x.npz -o ./ckpt.pth --force", "would replace ckpt.pth"),
        ("calibrate link --data x.npz -o ckpt.pth --force", "would replace link"),
        ("export a.bundle/ckpt.pth -o a.bundle --force", "would replace a.bundle/ckpt.pth"),
        ("sample a.bundle -o x.png --npz ./x.png", "for two outputs"),
    ],
)
def test_an_output_replaces_no_input(home: Path, arguments: str, message: str) -> None:
    before = sha256_of_folder(home)
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and message in result.stderr
    assert sha256_of_folder(home) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", ""],
        ["kit", "a.bundle", "-o", ""],
        ["archive", "a.bundle", "", "-o", "x.parquet"],
        ["stream", "a.bundle", ""],
        ["deploy", "a.bundle", ""],
        ["deploy", "a.bundle", "."],
    ],
)
def test_an_empty_path_is_not_the_current_folder(home: Path, arguments: list[str]) -> None:
    before = sha256_of_folder(home)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "bug" not in result.stderr
    assert sha256_of_folder(home) == before


def test_an_output_without_a_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home / "a.bundle" / "native")
    result = CliRunner().invoke(main, ["kit", ".."])
    assert result.exit_code == 0, result.stderr
    assert (home / "a.kit.tar.gz").is_file()
