"""Annotation files of WFDB: wfdb:FOLDER. Each source has a file, which any program for WFDB reads.

The format is that of annotation files of MIT, in annot(5) of the WFDB Applications Guide.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from multires_edge.base.descriptors import NO_LINKS, open_file, write_at
from multires_edge.base.errors import InputError, OutputError
from multires_edge.base.files import disk_errors
from multires_edge.format.fields import Natural, parse_json, read_fields
from multires_edge.runtime.ecg.sinks.address import SinkAddress
from multires_edge.runtime.ecg.sinks.choice import COMMON_OPTIONS, is_alarm
from multires_edge.runtime.ecg.sinks.protocol import About, DeliveryError, Line, Sink

ANNOTATOR = "multires"
_NOTE, _SKIP, _AUX = 22, 59, 63
_LONGEST_AUX, _FARTHEST = 255, 1023
_LATEST = (1 << 31) - 1
# Numbers of events.
_COUNTS = ("seconds", "samples", "events", "lines")
_END = b"\0\0"


@dataclass(frozen=True)
class _Place:
    """Where a file ends, its last word left out, and the sample of its last annotation."""

    size: Natural
    sample: Natural


def open_sink(address: SinkAddress, about: About) -> Sink:
    """Raises InputError and OutputError."""
    address.check_options(*COMMON_OPTIONS)
    folder = Path(address.rest)
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder; create it or choose another")
    return AnnotationFiles(folder, about)


class AnnotationFiles(Sink):
    """Writes a note for each line that has a source: a decision's probabilities, or the kind of an event.

    Files are valid at any time after a write. A file that is there and not this run's is renamed.
    """

    settled = True

    def __init__(self, folder: Path, about: About) -> None:
        self._folder = folder
        self._rates = about.sources
        self._paths = {
            source: folder / f"{record}.{ANNOTATOR}" for source, record in record_names(about.sources).items()
        }
        self._places: dict[str, _Place] = {}

    def load(self, saved: str | None) -> None:
        try:
            places = parse_json(saved) if saved else {}
            self._places = {source: read_fields(_Place, entry) for source, entry in places.items()}
        except (ValueError, AttributeError) as error:
            raise InputError("has no places in annotation files") from error
        for source, path in self._paths.items():
            with disk_errors(path):
                if source in self._places and not _ends(path, self._places[source]):
                    del self._places[source]
                if source not in self._places and path.exists():
                    path.rename(_free_name(path))

    def save(self) -> str:
        return json.dumps({s: {"size": p.size, "sample": p.sample} for s, p in self._places.items()})

    def send(self, lines: Sequence[Line]) -> None:
        by_source: dict[str, list[Line]] = {}
        for line in lines:
            if line.entry.get("source") in self._paths:
                by_source.setdefault(line.entry["source"], []).append(line)
        # If one file cannot be written, all are written again, at the same places.
        places = dict(self._places)
        for source, its in by_source.items():
            place = places.get(source)
            data, sample = b"", 0
            if place is None:
                data = _annotation(0, f"## time resolution: {self._rates[source]:.10g}")
                place = _Place(0, 0)
            else:
                sample = place.sample
            for line in its:
                # Readers take notes at sample 0 for definitions.
                at = max(1, min(_LATEST, round(line.entry["time"] * self._rates[source])))
                distance = max(0, at - sample)  # a reader expects them in order
                data += _annotation(distance, note(line.entry))
                sample += distance
            self._write(self._paths[source], place.size, data)
            places[source] = _Place(place.size + len(data), sample)
        self._places = places

    @staticmethod
    def _write(path: Path, size: int, data: bytes) -> None:
        """Replace what follows ``size``. A reader never finds half an annotation but during the write."""
        try:
            file = open_file(path, os.O_RDWR | os.O_CREAT | NO_LINKS)
            try:
                if os.fstat(file).st_size < size:
                    raise DeliveryError(f"{path}: another program cut it; the next run begins a new file")
                written, content = 0, data + _END
                while written < len(content):
                    written += write_at(file, content[written:], size + written)
                os.ftruncate(file, size + len(content))
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise DeliveryError(f"{path}: cannot be written ({error.strerror or error})") from error


def note(entry: Mapping[str, Any]) -> str:
    """The text of an annotation, of at most 255 bytes."""
    if entry["type"] == "decision":
        chances = entry["probabilities"]
        parts = ["no_signal"] if chances is None else [f"{label}={p:.3f}" for label, p in chances.items()]
        parts += [f"{lead}:{','.join(flags)}" for lead, flags in entry["quality"].items()]
    elif is_alarm(entry):
        parts = [entry["event"], entry["label"]]
        parts += [f"{entry['probability']:.3f}"] if "probability" in entry else []
    else:
        parts = [str(entry["event"])]
        parts += [f"{key}={entry[key]:g}" for key in _COUNTS if key in entry]
    return _joined(parts)


def record_names(sources: Iterable[str]) -> dict[str, str]:
    """A record's name for each source: different ones of letters, digits, _ and -."""
    names: dict[str, str] = {}
    for source in sources:
        last = PurePath(source.rstrip("/")).name if "://" not in source else source.partition("://")[2]
        stem = last.rpartition(".")[0] if "://" not in source and "." in last[1:] else last
        name = unique = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:60] or "source"
        number = 2
        while unique in names.values():
            unique, number = f"{name}_{number}", number + 1
        names[source] = unique
    return names


def _joined(parts: Iterable[str]) -> str:
    """Parts with blanks, as many as fit."""
    text = ""
    for part in parts:
        longer = f"{text} {part}" if text else part
        if len(longer.encode()) > _LONGEST_AUX:
            break
        text = longer
    return text


def _annotation(distance: int, text: str) -> bytes:
    """A note ``distance`` samples after the annotation before it."""
    aux = text.encode()[:_LONGEST_AUX]
    head = b""
    if distance > _FARTHEST:
        # A long word of a PDP-11: its higher half comes first.
        head = struct.pack("<HHH", _SKIP << 10, distance >> 16, distance & 0xFFFF)
        distance = 0
    padding = b"\0" * (len(aux) % 2)
    return head + struct.pack("<HH", _NOTE << 10 | distance, _AUX << 10 | len(aux)) + aux + padding


def _ends(path: Path, place: _Place) -> bool:
    """Whether a file is as it was at a place, or was written further. Raises OSError."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size >= place.size + len(_END)


def _free_name(path: Path) -> Path:
    number = 1
    while (free := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return free
