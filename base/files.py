"""Write files whole or not at all, read regular files, and compute digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from multires_edge.base.descriptors import open_file
from multires_edge.base.errors import OutputError
from multires_edge.base.memory import available_memory

if sys.platform != "win32":
    import fcntl


def check_file(final: Path, *, force: bool) -> None:
    """Make the checks of :func:`write_file` early. Raises OutputError."""
    with disk_errors(final):
        check_name_free(final, Path.is_file, "a file", force=force)
        if not final.parent.is_dir():
            raise OutputError(f"{final.parent}: no such folder; create it or choose another")


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path leads into a folder, also through links. Neither has to exist."""
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def is_utf8(name: str) -> bool:
    """Whether a name can be written into JSON, Parquet and HTML. A file system also has others."""
    try:
        name.encode()
    except UnicodeError:
        return False
    return True


def check_name_free(final: Path, is_kind: Callable[[Path], bool], kind: str, *, force: bool) -> None:
    """Raise OutputError if a name is not UTF-8, is of another kind, or exists and ``force`` is not given."""
    if not is_utf8(str(final)):
        raise OutputError(f"{str(final)!r}: is not UTF-8; choose another name")
    if final.is_symlink() or (final.exists() and not is_kind(final)):
        raise OutputError(f"{final}: exists and is not {kind}; choose another name")
    if final.exists() and not force:
        raise OutputError(f"{final}: exists already; give --force to replace it, or choose another name")


def write_file(final: Path, content: bytes, *, force: bool) -> None:
    """Write a file whole or not at all, even if the process is killed or the power fails.

    The file is written under the hidden name ``.NAME.*.partial`` next to its final name, and renamed when
    every byte is on the disk. Raises OutputError if it exists (without ``force``) or cannot be written.
    """
    check_file(final, force=force)
    with staged_file(final, content) as temporary:
        check_file(final, force=force)
        temporary.replace(final)
        flush_folder(final.parent)


@contextlib.contextmanager
def staged_file(final: Path, content: bytes) -> Iterator[Path]:
    """Write a file to the disk under a hidden name next to its final name, for the caller to rename.

    A file that was not renamed is deleted at the end. Raises OutputError.
    """
    temporary = None
    with disk_errors(final):
        try:
            handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent)
            temporary = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~umask())
            yield temporary
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(final: Path, remedy: str = "no partial file was left") -> Iterator[None]:
    """Raise an OSError as an OutputError with the system's reason, and ``remedy``."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        if error.errno == errno.EEXIST and not final.parent.is_dir():
            raise OutputError(f"{final.parent}: exists and is not a folder; choose another") from error
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise OutputError(f"{final}: another process wrote it; it was not replaced") from error
        raise OutputError(f"{final}: cannot be written ({error.strerror or error}); {remedy}") from error


def flush_folder(folder: Path) -> None:
    """Write the entries of a folder to the disk, except on Windows, which opens no folders."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock_file(descriptor: int) -> bool:
    """Lock an open file for this process until it is closed. Returns False if another process has locked it.

    A process that is killed leaves no lock. Windows, and disks without such locks, lock nothing.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
    return True


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Wait for other processes that have locked a folder, and lock it. Windows locks none. Raises OSError."""
    if sys.platform == "win32":
        yield
    else:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some network disks have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def umask() -> int:
    """The umask of the process."""
    # The only way to read it is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError, also for a pipe or a device, which may never end."""
    # Opening a device may already do something, so look first. A pipe would wait for a writer.
    _check_regular(path, path.stat())
    descriptor = open_file(path, os.O_RDONLY)
    try:
        _check_regular(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """The content of a regular file, read once.

    Raises OSError, also for a file of more than ``limit`` bytes. The default is the available memory.
    """
    with open_regular(path) as file:
        size, most = os.fstat(file.fileno()).st_size, available_memory() if limit is None else limit
        if size > most:
            raise OSError(errno.EFBIG, f"has {size:,} bytes, expected at most {most:,}", str(path))
        return file.read(size)  # if the file grows meanwhile, its reader finds that it is damaged


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file in hex. Raises OSError."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """SHA-256 of the digests and names of all files in a folder, sorted by name. Raises OSError."""
    digest = hashlib.sha256()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name, path in sorted(files.items()):
        digest.update(f"{sha256_of(path)}  {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
