"""A file is written whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from multires_edge.base.errors import OutputError
from multires_edge.base.files import write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_is_written_with_the_permissions_of_any_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a.png", b"123", force=False)
    (tmp_path / "other").touch()
    assert (tmp_path / "a.png").read_bytes() == b"123"
    assert names(tmp_path) == ["a.png", "other"]
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already; give --force"):
        write_file(tmp_path / "a.png", b"new", force=False)
    assert (tmp_path / "a.png").read_bytes() == b"old"
    write_file(tmp_path / "a.png", b"new", force=True)
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("folder", "link"):
        with pytest.raises(OutputError, match="is not a file"):
            write_file(tmp_path / name, b"", force=True)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder"):
        write_file(tmp_path / "none" / "a.png", b"", force=False)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses files")
def test_a_read_only_disk() -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_file(Path("/proc/a.png"), b"", force=False)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stops writing half-way, as a full disk does."""
    (tmp_path / "a.png").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="no partial file was left"):
            write_file(tmp_path / "a.png", bytes(5000), force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    """Killed when everything is written but not yet renamed, the last moment it may happen."""
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    code = (
        "import os, pathlib\n"
        "from multires_edge.base.files import write_file\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        f"write_file(pathlib.Path({os.fspath(path)!r}), bytes(5000), force=True)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False)
    assert result.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert all(name == "a.png" or name.startswith(".a.png.") for name in names(tmp_path))
