"""A bundle is written whole or not at all."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from multires_edge.base.errors import OutputError
from multires_edge.export.bundle_folder import atomic_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out", force=False) as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["a"]
    assert (tmp_path / "out").stat().st_mode & 0o700 == 0o700


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        atomic_folder(tmp_path / "out", force=False) as folder,
    ):
        (folder / "a").write_text("1")
        raise ZeroDivisionError
    assert names(tmp_path) == []


class TestExisting:
    def test_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        with (
            pytest.raises(OutputError, match="exists already"),
            atomic_folder(tmp_path / "out", force=False),
        ):
            pass

    def test_bundle_is_replaced_by_force(self, bundle: Path) -> None:
        with atomic_folder(bundle, force=True) as folder:
            (folder / "new").touch()
        assert names(bundle) == ["new"]
        assert names(bundle.parent) == [bundle.name]

    def test_bundle_survives_a_failed_replacement(self, bundle: Path) -> None:
        before = names(bundle)
        with pytest.raises(ZeroDivisionError), atomic_folder(bundle, force=True):
            raise ZeroDivisionError
        assert names(bundle) == before

    def test_folder_of_something_else_is_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter1.tex").touch()
        with (
            pytest.raises(OutputError, match="is not a bundle"),
            atomic_folder(tmp_path / "thesis", force=True),
        ):
            pass
        assert names(tmp_path / "thesis") == ["chapter1.tex"]

    def test_file_is_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "out").touch()
        with (
            pytest.raises(OutputError, match="is not a folder"),
            atomic_folder(tmp_path / "out", force=True),
        ):
            pass

    def test_made_by_another_process_meanwhile(self, tmp_path: Path) -> None:
        with (
            pytest.raises(OutputError, match="another process"),
            atomic_folder(tmp_path / "out", force=False) as folder,
        ):
            (folder / "a").touch()
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").touch()
        assert names(tmp_path) == ["out"]
        assert names(tmp_path / "out") == ["theirs"]


class TestMissingParents:
    def test_are_made(self, tmp_path: Path) -> None:
        with atomic_folder(tmp_path / "a" / "b" / "out", force=False) as folder:
            (folder / "file").touch()
        assert names(tmp_path / "a" / "b") == ["out"]

    def test_are_gone_again_after_an_error(self, tmp_path: Path) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            atomic_folder(tmp_path / "a" / "b" / "out", force=False),
        ):
            raise ZeroDivisionError
        assert names(tmp_path) == []

    def test_cannot_be_made_in_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        with (
            pytest.raises(OutputError, match="is not a folder"),
            atomic_folder(tmp_path / "a" / "b" / "out", force=False),
        ):
            pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses files")
def test_a_read_only_disk() -> None:
    with (
        pytest.raises(OutputError, match="cannot be written"),
        atomic_folder(Path("/proc/out.bundle"), force=False),
    ):
        pass


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stops writing half-way, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with (
            pytest.raises(OutputError, match="no partial file was left"),
            atomic_folder(tmp_path / "out", force=False) as folder,
        ):
            (folder / "a").write_bytes(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


@pytest.mark.slow
def test_a_killed_process_leaves_no_bundle_of_that_name(checkpoint: Path, tmp_path: Path) -> None:
    """Killed when the whole folder is written but not yet renamed, the last moment it may happen."""
    out = tmp_path / "out"
    program = (
        "import os, sys\n"
        "from multires_edge.cli.main import main\n"
        "def hear(event, arguments):\n"
        "    if event == 'os.rename' and str(arguments[0]).endswith('.partial'):\n"
        "        os.kill(os.getpid(), 9)\n"
        "sys.addaudithook(hear)\n"
        "main(['export', *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", program, str(checkpoint), "-o", str(out)]
    process = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists() and list(tmp_path.glob(".out.*.partial/manifest.json"))
