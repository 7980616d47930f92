"""The signed list of a bundle's files: ``files.sha256``, and its signature by minisign.

`minisign -Vm files.sha256 -p KEY.pub && sha256sum -c files.sha256` checks a bundle without this package,
except for files that were added to it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from multires_edge.base.errors import SignatureError
from multires_edge.base.files import read_regular, sha256_of
from multires_edge.base.names import printable
from multires_edge.format.manifest import FILE_NAME
from multires_edge.format.minisign import PublicKey, Signature, check_signature, parse_signature

LIST_FILE = "files.sha256"
SIGNATURE_FILE = f"{LIST_FILE}.minisig"
_MOST_BYTES = 4 << 20
_MOST_SIGNATURE_BYTES = 16_384
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def check_signed(folder: Path, key: PublicKey) -> tuple[dict[str, str], Signature]:
    """Check that a bundle holds the files that were signed with a key, and no others.

    Returns the digest of each file by name, and the signature. The signature is checked before any other file
    is read. Raises SignatureError.
    """
    again = "sign the bundle again, or transfer it again"
    try:
        signature = parse_signature(_read(folder / SIGNATURE_FILE, _MOST_SIGNATURE_BYTES))
        content = _read(folder / LIST_FILE, _MOST_BYTES)
        check_signature(content, signature, key)
    except FileNotFoundError as error:
        raise SignatureError(
            f"{folder}: is not signed, it has no {Path(error.filename).name}; multires-edge sign"
        ) from error
    except OSError as error:
        raise SignatureError(f"{error.filename}: cannot be read ({error.strerror}); {again}") from error
    except ValueError as error:
        reason = "it is not text" if isinstance(error, UnicodeError) else error
        raise SignatureError(f"{folder / SIGNATURE_FILE}: {reason}; {again}") from error
    digests = _parse(content, folder / LIST_FILE)
    _check_files(folder, digests, again)
    return digests, signature


def list_of(digests: dict[str, str]) -> bytes:
    """The content of ``files.sha256``: a line for each file, sorted by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def files_in(folder: Path) -> dict[str, Path]:
    """The files of a bundle by name, except for the list and its signature.

    Raises SignatureError for a link, a device, or a name that cannot be a line of the list; and OSError.
    """
    found = {}
    for place, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise SignatureError(
                    f"{folder}: {printable(relative)} is a link or no regular file; put the file itself there"
                )
            if not relative.isprintable() or "\\" in relative:
                raise SignatureError(f"{folder}: {printable(relative)!r} has characters that are not printed")
            if name in files and relative not in (LIST_FILE, SIGNATURE_FILE):
                found[relative] = path
    return dict(sorted(found.items()))


def every_file_in(folder: Path) -> dict[str, Path]:
    """The files of :func:`files_in`, and the list and its signature where a bundle has them."""
    signature = {name: folder / name for name in (LIST_FILE, SIGNATURE_FILE)}
    return files_in(folder) | {name: path for name, path in signature.items() if path.exists()}


def _check_files(folder: Path, digests: dict[str, str], again: str) -> None:
    try:
        found = files_in(folder)
        for name in found:
            if name not in digests:
                raise SignatureError(f"{folder}: {name} was added after signing; delete it, or sign again")
        for name, digest in digests.items():
            if name not in found:
                raise SignatureError(f"{folder}: {name} is signed, but is missing; {again}")
            if sha256_of(found[name]) != digest:
                raise SignatureError(f"{folder / name}: changed since it was signed; {again}")
    except OSError as error:
        raise SignatureError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _parse(content: bytes, path: Path) -> dict[str, str]:
    digests: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[2] in digests:
            raise SignatureError(f"{path}: {printable(line[:80])!r} is no file with its SHA-256; sign again")
        digests[match[2]] = match[1]
    if FILE_NAME not in digests:
        raise SignatureError(f"{path}: has no {FILE_NAME}, so it was made for no bundle; sign again")
    return digests


def _read(path: Path, limit: int) -> bytes:
    if path.is_symlink():
        raise OSError(0, "it is a link", str(path))
    return read_regular(path, limit)


def _raise(error: OSError) -> None:
    raise error
