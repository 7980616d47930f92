"""Write a folder whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import OutputError
from multires_edge.base.files import check_name_free, disk_errors, flush_folder, umask
from multires_edge.format.manifest import FILE_NAME


@dataclass(frozen=True)
class Kind:
    """A kind of folder that is written: what messages call it, and a file that only such a folder has."""

    name: str
    mark: str


BUNDLE = Kind("a bundle", FILE_NAME)


def check_output(final: Path, *, force: bool, kind: Kind = BUNDLE) -> None:
    """Make the checks of :func:`atomic_folder` early. Raises OutputError."""
    with disk_errors(final):
        check_name_free(final, Path.is_dir, "a folder", force=force)
        if final.is_dir():
            _check_replaceable(final, kind)
        nearest = next(ancestor for ancestor in final.absolute().parents if ancestor.exists())
        if not nearest.is_dir():
            raise OutputError(f"{nearest}: is not a folder; choose another place with -o")


@contextlib.contextmanager
def atomic_folder(final: Path, *, force: bool, kind: Kind = BUNDLE) -> Iterator[Path]:
    """A temporary folder next to ``final`` that is renamed to it when the block ends without error.

    All bytes are on the disk before the rename. A crash or power cut leaves the old folder, the new folder or
    no folder, and never half of one. With ``force``, only a folder of the same kind is replaced. Raises
    OutputError when the disk is full or read-only.
    """
    check_output(final, force=force, kind=kind)
    new_parents = [parent for parent in final.absolute().parents if not parent.exists()]
    with disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent)
    temporary = Path(made)
    try:
        with disk_errors(final):
            yield temporary
            temporary.chmod(0o777 & ~umask())
            _flush(temporary)
            _put_in_place(temporary, final, kind, force=force)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in new_parents:
            # A parent of the folder is not empty, and stays.
            with contextlib.suppress(OSError):
                parent.rmdir()


def _put_in_place(temporary: Path, final: Path, kind: Kind, *, force: bool) -> None:
    if force and final.exists():
        _check_replaceable(final, kind)
        # Atomic: the name always refers to a whole folder, the old one or the new one.
        if _exchange(temporary, final):
            flush_folder(final.parent)
            return  # the caller removes the old folder, which now has the temporary name
        aside = temporary.with_suffix(".replaced")
        final.rename(aside)
        try:
            temporary.rename(final)
        except OSError as error:
            raise OutputError(
                f"{final}: cannot be written ({error.strerror}); the old folder is now {aside}"
            ) from error
        shutil.rmtree(aside, ignore_errors=True)
    else:
        temporary.rename(final)
    flush_folder(final.parent)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two folders in one system call. Returns whether the system supports it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0)


def _check_replaceable(folder: Path, kind: Kind) -> None:
    """Refuse a folder that is neither empty nor of this kind: --force does not replace it."""
    if any(folder.iterdir()) and not (folder / kind.mark).is_file():
        raise OutputError(
            f"{folder}: is not {kind.name}, so --force does not replace it; choose another with -o"
        )


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            _flush(path)
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
    flush_folder(folder)
