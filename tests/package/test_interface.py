"""The fingerprint by which Python knows an engine that fits it."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

FILES = ["include/multires.h", "src/banks.h", "python/native.cpp", "python/cuda.cpp"]


@pytest.fixture
def interface(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "package"))
    return importlib.import_module("interface")


def test_the_package_has_that_of_the_sources(interface: Any) -> None:
    assert interface.FILE.read_text() == interface.text(), "run python package/interface.py"


@pytest.mark.parametrize("file", FILES)
def test_a_change_of_the_code_changes_it(
    interface: Any, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("include", "src", "python"):
        shutil.copytree(ROOT / "runtime" / "cpp" / folder, tmp_path / folder)
    before = interface.fingerprint()
    monkeypatch.setattr(interface, "_CPP", tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text().replace("\n", "  \r\n") + "// a comment\n/* and\nanother */\n")
    assert interface.fingerprint() == before
    path.write_text(path.read_text() + "int more;\n")
    assert interface.fingerprint() != before
