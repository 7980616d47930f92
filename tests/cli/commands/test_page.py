"""``multires-edge page``, without the compiler."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from multires_edge.cli.main import main
from multires_edge.export.web import page as pages
from tests.conftest import DEMO, ROOT
from tests.runtime.conftest import LUDB, opened, two_leads

__all__ = ["opened", "two_leads"]


def page(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["page", *map(str, arguments)])


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that were compiled before."""
    monkeypatch.setattr(pages, "compiled", lambda *_: b"\0asm")


@pytest.mark.usefixtures("compiled")
def test_json(two_leads: Path, tmp_path: Path) -> None:
    result = page(two_leads, "-o", tmp_path / "out", "--example", LUDB, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "bundle": str(two_leads),
        "page": str(tmp_path / "out"),
        "precision": "fp32",
        "wasm_bytes": 4,
    }
    about = json.loads((tmp_path / "out" / "page.json").read_text())
    assert about["labels"] == ["A", "B", "C"] and about["every"] == 0.5 and about["pool"] == "window:1000"
    assert about["example"] == {"files": ["1.hea", "1.dat"], "rate": None, "unit": None}
    assert (tmp_path / "out" / "example" / "1.dat").read_bytes() == LUDB.with_suffix(".dat").read_bytes()
    index = (tmp_path / "out" / "index.html").read_text()
    assert '<template id="patient">' in index and "<!--" not in index


@pytest.mark.usefixtures("compiled")
def test_a_page_alone_is_replaced(two_leads: Path, tmp_path: Path) -> None:
    assert page(two_leads, "-o", tmp_path / "out").exit_code == 0
    assert "exists already" in page(two_leads, "-o", tmp_path / "out").stderr
    assert page(two_leads, "-o", tmp_path / "out", "--force").exit_code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert page(two_leads, "-o", tmp_path / "mine", "--force").exit_code == 2
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_missing_compiler(two_leads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name == "ziglang" else there(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    result = page(two_leads, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "ziglang, which is not installed" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "it has: fp32"),
        (["--every", "1ms"], "expected a whole number of samples"),
        (["--example", "nothing.csv"], "No such file"),
        (["--example", ROOT], "is a folder"),
        (["--example", ROOT / "README.md"], "has no rate"),
        (["--example", ROOT / "examples" / "ecg.csv", "--rate", 100, "--unit", "bar"], "the unit of I"),
        (["--example", DEMO / "records.npz"], "expected samples"),
    ],
)
def test_errors(arguments: list[object], message: str, two_leads: Path, tmp_path: Path) -> None:
    result = page(two_leads, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert not (tmp_path / "out").exists()


def test_a_bundle_without_a_card(bundle: Path, token_predictor: Path, tmp_path: Path) -> None:
    for path in (bundle, token_predictor):
        result = page(path, "-o", tmp_path / "out")
        assert result.exit_code == 2 and "classifiers whose card has preprocessing" in result.stderr
