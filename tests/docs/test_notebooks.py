"""The notebooks run as they are, and the site shows what they print and draw."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from multires_edge.runtime import Bundle
from tests.conftest import ROOT
from tests.runtime.conftest import twelve_leads

__all__ = ["twelve_leads"]

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """The module of the site that runs notebooks; it is in no package."""
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "site" / "notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebooks"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@each
def test_has_no_outputs_and_valid_cells(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        code: dict[str, Any] = {}
        if cell["cell_type"] == "code":
            code = {"execution_count": None, "outputs": []}
        assert {key: cell[key] for key in cell if key in ("execution_count", "outputs")} == code
        assert set(cell) == {"cell_type", "id", "metadata", "source", *code}


@pytest.mark.slow
@each
def test_runs(
    path: Path, runner: ModuleType, twelve_leads: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo.bundle").symlink_to(twelve_leads.path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")  # where Jupyter runs it
    page, figures = runner.page_of(runner.run_notebook(path), path.stem)
    assert len(figures) >= 2 and all(name in page for name in figures)
    assert all(content.startswith(b"\x89PNG") for content in figures.values())
    assert "largest difference of logits" in page and "decided: HYP, STTC" in page


class TestRunner:
    def written(self, folder: Path, *cells: str) -> Path:
        path = folder / "a.ipynb"
        entries = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
        path.write_text(json.dumps({"cells": entries, "nbformat": 4}))
        return path

    def test_prints_the_last_value_and_keeps_names(self, runner: ModuleType, tmp_path: Path) -> None:
        cells = runner.run_notebook(self.written(tmp_path, "x = 2\nx + 1", "print(x)\nx = 3", "x;None"))
        assert [cell.printed for cell in cells] == ["3\n", "2\n", ""]

    def test_names_the_cell_that_fails(self, runner: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(runner.NotebookError, match="cell 2 failed: ZeroDivisionError: division by zero"):
            runner.run_notebook(self.written(tmp_path, "1", "1 / 0"))
        with pytest.raises(runner.NotebookError, match="cell 1 failed: SyntaxError"):
            runner.run_notebook(self.written(tmp_path, "%matplotlib inline"))

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": [], "nbformat": 3}'])
    def test_refuses_what_is_no_notebook(self, runner: ModuleType, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.ipynb").write_text(text)
        with pytest.raises(runner.NotebookError):
            runner.run_notebook(tmp_path / "a.ipynb")
