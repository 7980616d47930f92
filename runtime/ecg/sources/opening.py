"""From what a user names to the source of it."""

from __future__ import annotations

from pathlib import Path

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources import live, records, text
from multires_edge.runtime.ecg.sources.protocol import Format, Source


def open_source(spec: str, given: Format | None = None) -> Source:
    """Open a WFDB record, an EDF, .npz or .csv file, ``-`` or ``tcp://HOST:PORT``.

    Raises DataError for one that cannot be read, MissingExtraError without the library for it.
    """
    given = given or Format()
    if spec == "-":
        return live.open_stdin(given)
    if spec.startswith("tcp://"):
        return live.open_tcp(spec, given)
    path = Path(spec)
    suffix = path.suffix.casefold()
    if suffix == ".edf":
        return records.RecordSource(records.EdfRecord(path))
    if suffix == ".npz":
        return records.RecordSource(records.NpzRecord(path, given))
    if suffix in (".csv", ".jsonl", ".ndjson", ".txt"):
        return text.TextFileSource(path, given)
    if suffix in (".hea", ".dat"):
        path = path.with_suffix("")
    if not path.with_name(f"{path.name}.hea").is_file():
        raise DataError(
            f"{spec}: no such source; expected a WFDB record, an .edf, .npz, .csv or .jsonl file, - for "
            "standard input, or tcp://HOST:PORT"
        )
    return records.RecordSource(records.WfdbRecord(path))
