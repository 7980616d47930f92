"""Putting a bundle in the place of another at once, with a way back.

TARGET is a link to a numbered folder: ``ecg.bundle -> ecg.bundle.deployed/7``. A new bundle becomes the next
number, is checked there, and then the link is renamed over the old one. Going back makes the link lead to the
number before. So at any moment, also after a power cut, the link leads to a whole and checked bundle.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import OutputError
from multires_edge.base.files import disk_errors, flush_folder, lock_file, open_regular
from multires_edge.format.minisign import PublicKey
from multires_edge.format.signed_files import every_file_in
from multires_edge.runtime.bundle import open_bundle

_UNCHANGED = "the deployed bundle was not changed"
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Place:
    """A link and the folder with the bundles that it leads to, one after the other."""

    target: Path

    @property
    def store(self) -> Path:
        return self.target.with_name(f"{self.target.name}.deployed")

    def current(self) -> int:
        """The number of the bundle that the link leads to; 0 if there is no link. Raises OutputError."""
        if self.target.name in ("", ".."):
            raise OutputError(f"{self.target}: cannot be the name of a link; choose another target")
        if not self.target.is_symlink():
            if self.target.exists():
                raise OutputError(
                    f"{self.target}: exists and was not deployed; move it away, or choose another name"
                )
            return 0
        leads_to = self.target.readlink()
        if leads_to.parent != Path(self.store.name) or not _NUMBER.fullmatch(leads_to.name):
            raise OutputError(f"{self.target}: is a link to {leads_to}, which was not deployed")
        return int(leads_to.name)

    def numbers(self) -> list[int]:
        """The numbers of the bundles that are there."""
        return sorted(int(path.name) for path in self.store.iterdir() if _NUMBER.fullmatch(path.name))

    def folder(self, number: int) -> Path:
        return self.store / str(number)

    def lead_to(self, number: int) -> None:
        """Make the link lead to a bundle, in one step."""
        link = self.store / ".link.partial"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(self.store.name) / str(number))
        link.replace(self.target)
        flush_folder(self.target.parent)

    def remove(self, number: int) -> None:
        """Remove a bundle. Its name goes first, so no part of it stays under it."""
        gone = self.store / f".{number}.partial"
        self.folder(number).rename(gone)
        shutil.rmtree(gone)


def deploy(bundle: Path, target: Path, *, key: PublicKey | None = None, keep: int = 2) -> Path:
    """Copy a bundle beside ``target`` and make ``target`` lead to it. Returns the folder of the copy.

    ``target`` is a link, or a name that is free. With a ``key``, a bundle that is not signed is refused. The
    ``keep`` newest bundles stay, with this one; bundles that were gone back from are removed.

    Raises BundleError for a bundle that is damaged, not signed, or whose proof failed, and OutputError if
    another process deploys there or the disk is full. Then the link leads where it led before.
    """
    open_bundle(bundle, key=key).check_proof("deployed")
    if bundle.resolve() in target.absolute().parent.resolve().joinpath(target.name).parents:
        raise OutputError(f"{target}: lies in the bundle {bundle}; choose a place outside it")
    place = Place(target)
    with _locked(place):
        current = place.current()
        for number in place.numbers():
            if number > current:
                place.remove(number)
        copied = place.store / f".{current + 1}.partial"
        _copy(bundle, copied)
        # What runs is what was checked, not what it was copied from.
        open_bundle(copied, key=key).check_proof("deployed")
        copied.rename(place.folder(current + 1))
        flush_folder(place.store)
        place.lead_to(current + 1)
        for number in place.numbers()[:-keep]:
            place.remove(number)
    return place.folder(current + 1)


def go_back(target: Path, *, key: PublicKey | None = None) -> Path:
    """Make ``target`` lead to the bundle before the current one. Returns the folder of that bundle.

    The current one stays until the next :func:`deploy`. Raises OutputError if there is no earlier bundle, and
    BundleError if it is damaged, or not signed with ``key``.
    """
    place = Place(target)
    with _locked(place):
        before = [number for number in place.numbers() if number < place.current()]
        if not before:
            raise OutputError(f"{target}: has no earlier bundle to go back to; deploy one")
        open_bundle(place.folder(before[-1]), key=key).check_proof("deployed")
        place.lead_to(before[-1])
    return place.folder(before[-1])


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[None]:
    """Keep other processes out, and what was left half done away."""
    with disk_errors(place.target, _UNCHANGED):
        place.current()
        if place.store.is_symlink() or (place.store.exists() and not place.store.is_dir()):
            raise OutputError(f"{place.store}: exists and is not a folder; choose another target")
        place.store.mkdir(exist_ok=True)
        with (place.store / ".lock").open("a") as lock:
            if not lock_file(lock.fileno()):
                raise OutputError(f"{place.target}: another process deploys there; try again when it is done")
            _clean(place)
            try:
                yield
            finally:
                _clean(place)


def _clean(place: Place) -> None:
    for path in place.store.glob(".*.partial"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copy(bundle: Path, to: Path) -> None:
    """Copy the files of a bundle, and write them to the disk."""
    files = every_file_in(bundle)
    to.mkdir()
    folders = {to}
    for name, path in files.items():
        copy = to / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        folders |= set(copy.parents[: len(Path(name).parents)])
        with open_regular(path) as source, copy.open("xb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
    for folder in folders:
        flush_folder(folder)
