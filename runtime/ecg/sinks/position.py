"""The position of a sink in the output: a small file beside it, which survives crashes and power cuts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from multires_edge.base.errors import OutputError
from multires_edge.base.files import read_regular, write_file
from multires_edge.format.fields import FieldError, Pattern, Utf8, parse_json, plain, read_fields
from multires_edge.runtime.ecg.file_mark import FileMark

_FORMAT = "multires-edge sink position 1"
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Position:
    """The sink's address, the ids' first part, the output up to the last line that was sent, and what the
    sink saved there."""  # fmt: skip

    sink: Utf8
    run: Annotated[str, Pattern("[0-9a-f]{16}", "16 hexadecimal digits")]
    output: FileMark
    saved: Utf8


class PositionFile:
    """The position of the sink with the address ``name`` in the file ``output``."""

    def __init__(self, output: Path, name: str) -> None:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        self._name = name
        self.path = output.with_name(f"{output.name}.{name.partition(':')[0]}-{digest}.position")

    def read(self) -> tuple[Position | None, str | None]:
        """The position, or None, and what is wrong with the file."""
        try:
            entry = parse_json(read_regular(self.path, _LARGEST).decode())
            if not isinstance(entry, dict) or entry.pop("format", None) != _FORMAT:
                return None, f"{self.path}: is no position of a sink, or damaged"
            position = read_fields(Position, entry)
        except FileNotFoundError:
            return None, None
        except OSError as error:
            return None, f"{self.path}: cannot be read ({error.strerror or error})"
        except (ValueError, FieldError, RecursionError):
            return None, f"{self.path}: is no position of a sink, or damaged"
        if position.sink != self._name:
            return None, f"{self.path}: is the position of another sink"
        return position, None

    def write(self, position: Position) -> None:
        """Replace the position. Raises OutputError; the old one is then kept."""
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise OutputError(f"{self.path}: exists and is not a file; move it away")
        content = json.dumps({"format": _FORMAT, **plain(position)}) + "\n"
        write_file(self.path, content.encode(), force=True)
