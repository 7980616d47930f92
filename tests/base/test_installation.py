"""A message about a missing extra has a command that can be pasted."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from multires_edge.base.errors import MissingExtraError
from multires_edge.base.installation import pip_install


def installed_from(monkeypatch: pytest.MonkeyPatch, entry: Any) -> None:
    """Pretend that pip wrote this direct_url.json, or none."""
    text = None if entry is None else json.dumps(entry)
    found = SimpleNamespace(read_text=lambda _: text)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: found)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that the package could have been installed from."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    return folder


@pytest.mark.parametrize("entry", [None, {"url": "https://host/multires.whl", "archive_info": {}}])
def test_from_an_index(monkeypatch: pytest.MonkeyPatch, entry: Any) -> None:
    installed_from(monkeypatch, entry)
    assert pip_install("export") == "pip install 'multires-edge[export]'"


@pytest.mark.parametrize(("editable", "option"), [(True, "-e "), (False, "")])
def test_in_the_folder(monkeypatch: pytest.MonkeyPatch, clone: Path, editable: bool, option: str) -> None:
    installed_from(monkeypatch, {"url": clone.as_uri(), "dir_info": {"editable": editable}})
    monkeypatch.chdir(clone)
    assert pip_install("ecg") == f"pip install {option}'.[ecg]'"


def test_elsewhere(monkeypatch: pytest.MonkeyPatch, clone: Path, tmp_path: Path) -> None:
    installed_from(monkeypatch, {"url": clone.as_uri(), "dir_info": {"editable": True}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("multires_edge.base.installation._LONGEST_PATH", len(str(clone)))
    assert pip_install("ecg") == f"pip install -e '{clone}[ecg]'"
    monkeypatch.setattr("multires_edge.base.installation._LONGEST_PATH", len(str(clone)) - 1)
    assert pip_install("ecg") == "pip install -e '.[ecg]' in the folder of multires-edge"


def test_a_folder_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed_from(monkeypatch, {"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    assert pip_install("ecg") == "pip install 'multires-edge[ecg]'"


def test_the_package_again(monkeypatch: pytest.MonkeyPatch, clone: Path) -> None:
    installed_from(monkeypatch, None)
    assert pip_install(again=True) == "pip install --force-reinstall --no-deps multires-edge"
    installed_from(monkeypatch, {"url": clone.as_uri(), "dir_info": {"editable": True}})
    monkeypatch.chdir(clone)
    assert pip_install(again=True) == "pip install -e ."


def test_the_error_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch, None)
    error = MissingExtraError("torch", "export", "exporting")
    assert str(error) == "exporting needs torch, which is not installed: pip install 'multires-edge[export]'"
