"""Opens a source by its name, and finds the recordings of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime.ecg.sources import live, records, text_file
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Note, Samples, Source

_SELF_DESCRIBED = (".hea", ".edf", ".npz", ".jsonl", ".ndjson")
_SAMPLES_AT_ONCE = 1 << 14


def open_source(spec: str, given: Format | None = None) -> Source:
    """Open a WFDB record, an EDF, .npz or .csv file, ``-`` or ``tcp://HOST:PORT``.

    Raises DataError if it cannot be read, InputError if it should be followed and is no text file, and
    MissingExtraError without the library for it.
    """
    given = given or Format()
    if spec == "-":
        return live.open_stdin(given)
    if spec.startswith("tcp://"):
        return live.open_tcp(spec, given)
    path = Path(spec)
    suffix = path.suffix.casefold()
    if suffix in (".csv", ".jsonl", ".ndjson", ".txt"):
        return text_file.TextFileSource(path, given)
    if given.follow:
        raise InputError(f"{spec}: cannot be followed, expected a .csv or .jsonl file; leave --follow out")
    if suffix == ".edf":
        return records.RecordSource(records.open_edf(path))
    if suffix == ".npz":
        return records.RecordSource(records.open_npz(path, given))
    if suffix in (".hea", ".dat"):
        path = path.with_suffix("")
    if not Path(f"{path}.hea").is_file():
        raise DataError(
            f"{spec}: no such source, expected a WFDB record, an .edf, .npz, .csv or .jsonl file, - for "
            "standard input, or tcp://HOST:PORT"
        )
    return records.RecordSource(records.open_wfdb(path))


def find_records(folder: Path) -> list[Path]:
    """The recordings in a folder and its subfolders, sorted by name. Their files must name rate and unit."""
    found = [path for path in folder.rglob("*") if path.suffix.casefold() in _SELF_DESCRIBED]
    segments = {header.parent / f"{name}.hea" for header in found for name in records.segments_of(header)}
    return sorted(path for path in found if path not in segments)


def read_through(source: Source) -> Iterator[Samples | Missing]:
    """Read a recording from its start to its end, in parts. Raises DataError if it is damaged."""
    try:
        while not source.ended:
            for piece in source.read(_SAMPLES_AT_ONCE):
                if not isinstance(piece, Note):
                    yield piece
                elif piece.fault:
                    raise DataError(
                        f"{source.signal.name}: {piece.kind} ({piece.details['message']}); repair or remove "
                        "the record"
                    )
    finally:
        source.close()
