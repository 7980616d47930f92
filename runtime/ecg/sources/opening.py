"""Opens a source by its name, and finds the recordings of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from multires_edge.base.errors import DataError, InputError
from multires_edge.base.files import is_utf8
from multires_edge.runtime.ecg.sources.devices.registry import open_device
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Note, Samples, Source
from multires_edge.runtime.ecg.sources.recordings.record import Record, RecordSource
from multires_edge.runtime.ecg.sources.recordings.wfdb_record import segments_of
from multires_edge.runtime.ecg.sources.text.file import TextFileSource
from multires_edge.runtime.ecg.sources.unread import check_kind

# The module and function that opens a recording. Those of a recording that names leads, rate and unit.
_SUFFIXES = {
    ".npz": "npz:open_npz",
    ".hea": "wfdb_record:open_wfdb",
    ".edf": "edf:open_edf",
    ".bdf": "edf:open_edf",
    ".rec": "edf:open_edf",
    ".dcm": "dicom:open_dicom",
    ".xml": "xml_record:open_xml",
    ".ecg": "ishne:open_ishne",
}
_SIGNATURES = (
    (b"0       ", 0, ".edf"),
    (b"\xffBIOSEMI", 0, ".bdf"),
    (b"DICM", 128, ".dcm"),
    (b"ISHNE1.0", 0, ".ecg"),
    (b"PK\3\4", 0, ".npz"),
    (b"<?xml", 0, ".xml"),
    (b"\xef\xbb\xbf<?xml", 0, ".xml"),
    (b"\xff\xfe<\0?\0", 0, ".xml"),
)
_TEXT = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".asc")
_WFDB = (".hea", ".dat", ".mat")
_EXPECTED = (
    "expected a WFDB record, an EDF, BDF, DICOM, XML, ISHNE, .npz, .csv or .jsonl file, - for standard "
    "input, or the address of a device"
)
_SAMPLES_AT_ONCE = 1 << 14


def open_source(spec: str, given: Format | None = None) -> Source:
    """Open a recording, a text file, ``-`` or the address of a device, such as ``tcp://HOST:PORT``.

    A file is known by its suffix, or else by its first bytes. Raises DataError if it cannot be read,
    InputError if it should be followed and is no text file, and MissingExtraError without the library for it.
    """
    given = given or Format()
    if (device := open_device(spec, given)) is not None:
        return device
    path = Path(spec)
    if not path.name:
        raise DataError(f"{spec!r}: is not the name of a source, {_EXPECTED}")
    suffix = path.suffix.casefold()
    start = _start(path)
    if suffix not in _WFDB:
        check_kind(path, start)
    is_text = suffix in _TEXT and (path.exists() or not Path(f"{path}.hea").exists())
    kind = None if is_text else _kind(path, suffix, start)
    if is_text or kind == ".txt":
        return TextFileSource(path, given)
    if given.follow:
        raise InputError(f"{spec}: cannot be followed, expected a .csv or .jsonl file; leave --follow out")
    if kind is None:
        raise DataError(f"{spec}: {_why_not(path)}, {_EXPECTED}")
    if kind == ".hea":
        path = path if Path(f"{path}.hea").is_file() else path.with_suffix("")
    return RecordSource(_opener(kind)(path, given))


def _start(path: Path) -> bytes:
    """The first bytes of a file, if it can be read."""
    try:
        if path.is_file():  # a pipe gives its bytes once
            with path.open("rb") as file:
                return file.read(256)
    except OSError:
        pass
    return b""


def _kind(path: Path, suffix: str, start: bytes) -> str | None:
    """The suffix of the files of this kind, or None for a file of no kind."""
    is_wfdb = Path(f"{path}.hea").is_file() or path.with_suffix(".hea").is_file()
    if suffix in _SUFFIXES and not (suffix == ".rec" and is_wfdb):
        return suffix
    if is_wfdb and (suffix in _WFDB or not path.is_file()):
        return ".hea"
    for signature, at, kind in _SIGNATURES:
        if start[at : at + len(signature)] == signature:
            return kind
    if is_wfdb:
        return ".hea"
    return ".txt" if start and suffix not in _WFDB and not set(start) & {*range(9), *range(14, 32)} else None


def _why_not(path: Path) -> str:
    try:
        if path.is_dir():
            return "is a folder"
        if not path.exists():
            return "no such source"
        if not path.is_file():  # opening a pipe would wait for its writer
            return "is not a regular file"
        with path.open("rb"):
            pass
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"
    if path.suffix.casefold() in _WFDB:
        return f"has no header {path.with_suffix('.hea').name} beside it"
    return "is a file of an unknown kind"


def _opener(kind: str) -> Callable[[Path, Format], Record]:
    # Each kind is imported when it is used.
    module, _, function = _SUFFIXES[kind].partition(":")
    opener: Callable[[Path, Format], Record] = getattr(
        import_module(f"multires_edge.runtime.ecg.sources.recordings.{module}"), function
    )
    return opener


def find_records(folder: Path) -> list[Path]:
    """The recordings in a folder and its subfolders, sorted by name. Their files must name rate and unit.

    Raises DataError for a name that is not UTF-8, which no output can have.
    """
    suffixes = (*_SUFFIXES, ".jsonl", ".ndjson")
    found = [path for path in folder.rglob("*") if path.suffix.casefold() in suffixes]
    for path in found:
        if not is_utf8(str(path)):
            raise DataError(f"{str(path)!r}: is not UTF-8; rename it")
    segments = {header.parent / f"{name}.hea" for header in found for name in segments_of(header)}
    return sorted(path for path in found if path not in segments)


def read_through(source: Source, start: int = 0) -> Iterator[Samples | Missing]:
    """Read a recording from a sample to its end, in parts. Raises DataError if it is damaged."""
    try:
        before = start
        if start and source.gaps is not None:
            source.seek(start)
            before = 0
        while not source.ended:
            for piece in source.read(_SAMPLES_AT_ONCE):
                if not isinstance(piece, Note):
                    skipped = min(piece.count, before)
                    before -= skipped
                    if isinstance(piece, Samples):
                        yield Samples(piece.values[skipped:], piece.arrived)
                    else:
                        yield Missing(piece.count - skipped)
                elif piece.fault:
                    raise DataError(
                        f"{source.signal.name}: {piece.kind} ({piece.details['message']}); repair or remove "
                        "the record"
                    )
    finally:
        source.close()
