"""Decisions as tables in Parquet: a part for each piece, and one file of all parts."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multires_edge.base.errors import require_extra
from multires_edge.base.files import disk_errors, flush_folder, umask
from multires_edge.runtime.ecg.decision import Decision

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that are written together, whatever pieces they come from: the file does not depend on the pieces.
_ROWS_TOGETHER = 1 << 17
METADATA = b"multires-edge"


def need_parquet() -> None:
    """Raise MissingExtraError without the library for Parquet."""
    require_extra("archive", "writing Parquet", "pyarrow")


def part_bytes(decisions: Iterable[Decision], labels: Sequence[str]) -> bytes:
    """The decisions of a piece as a file of Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(decisions)
    columns: dict[str, Any] = {
        "time": [each.time for each in rows],
        "seen": [each.seen for each in rows],
        "warming": [each.warming for each in rows],
        "quality": [[f"{k}:{flag}" for k, flags in each.quality.items() for flag in flags] for each in rows],
    }
    for label in labels:
        columns[f"p_{label}"] = [each.probabilities and each.probabilities[label] for each in rows]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=_part_schema(labels)), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _part_schema(labels: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    fields = [("time", pa.float64()), ("seen", pa.float64()), ("warming", pa.bool_())]
    fields += [("quality", pa.list_(pa.string())), *((f"p_{label}", pa.float64()) for label in labels)]
    return pa.schema(fields)


def is_part(path: Path) -> bool:
    """Whether a part is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def read_part(path: Path) -> pa.Table | None:
    """A part, or None if the file is damaged or not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException):
        return None


def write_table(
    final: Path, parts: Iterable[tuple[str, Iterable[pa.Table]]], labels: Sequence[str], about: dict[str, Any]
) -> int:
    """Write the parts of each recording, by its name, into one file; returns the number of decisions.

    The file appears whole or not at all. ``about`` is what its metadata say. Raises OutputError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _part_schema(labels).insert(0, pa.field("record", pa.dictionary(pa.int32(), pa.string())))
    schema = schema.with_metadata({METADATA: json.dumps(about, sort_keys=True).encode()})
    count = 0
    with _staged(final) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for name, tables in parts:
            table = pa.concat_tables([_part_schema(labels).empty_table(), *tables])
            record = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), [name])
            table = table.add_column(0, schema.field(0), record).cast(schema)
            writer.write_table(table, row_group_size=_ROWS_TOGETHER)
            count += len(table)
    return count


@contextlib.contextmanager
def _staged(final: Path) -> Iterator[Path]:
    """A hidden file beside ``final``, which takes its name at the end. Raises OutputError."""
    temporary = None
    with disk_errors(final):
        try:
            with tempfile.NamedTemporaryFile(
                prefix=f".{final.name}.", suffix=".partial", dir=final.parent, delete=False
            ) as file:
                temporary = Path(file.name)
            yield temporary
            temporary.chmod(0o666 & ~umask())
            flush_file(temporary)
            temporary.replace(final)
            flush_folder(final.parent)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


def flush_file(path: Path) -> None:
    """Write a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def about(path: Path) -> dict[str, Any] | None:
    """What the metadata of a file say that :func:`write_table` has written; None for another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
        said: dict[str, Any] = json.loads(metadata[METADATA])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return said
