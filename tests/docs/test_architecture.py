"""The picture of the architecture is drawn from the code as it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDERS = ("base", "format", "models", "calibration", "export", "runtime", "cli")


def check(root: Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(root / "docs" / "architecture.py"), "--check"]
    return subprocess.run(script, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the picture is drawn from, and of the picture."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.md", "*.png"))
    for name in FOLDERS:
        for path in (ROOT / name).rglob("*.py"):
            to = tmp_path / path.relative_to(ROOT)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
    return tmp_path


def test_the_picture_is_up_to_date() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_new_folder_makes_it_out_of_date(copy: Path) -> None:
    assert check(copy).returncode == 0
    new = copy / "runtime" / "radio"
    new.mkdir()
    (new / "__init__.py").write_text("from multires_edge.runtime.bundle import Bundle\n")
    done = check(copy)
    assert done.returncode == 1
    assert "make docs" in done.stderr


def test_a_circle_is_refused(copy: Path) -> None:
    with (copy / "base" / "errors.py").open("a") as file:
        file.write("\nfrom multires_edge.format.manifest import Manifest\n")
    done = check(copy)
    assert done.returncode == 1
    assert "circle" in done.stderr


def test_every_room_is_inside_the_frame() -> None:
    picture = (ROOT / "docs" / "images" / "architecture.svg").read_text()
    frame = re.search(r'class="frame" d="M[\d.]+ [\d.]+ L(\d+) \d+ H(\d+)', picture)
    rooms = re.findall(r'class="room" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', picture)
    assert frame and rooms
    for x, width in rooms:
        assert float(frame[1]) < float(x) and float(x) + float(width) < float(frame[2])


def test_it_shows_every_folder_and_every_room_of_the_runtime() -> None:
    shown = set(
        re.findall(r'class="name"[^>]*>([^<]*)<', (ROOT / "docs/images/architecture.svg").read_text())
    )
    rooms = {path.parent.name + "/" for path in (ROOT / "runtime").glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "runtime").glob("*.py")} - {"__init__.py"}
    assert shown == {f"{name}/" for name in FOLDERS} | rooms | modules | {"cpp/"}
