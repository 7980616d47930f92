"""Reads recordings in parts: a folder as a data set, or labelled recordings for the decisions of a stream."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.format.card import Card, Preprocessing
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.frontend import Block, FrontEnd
from multires_edge.runtime.ecg.quality import FILLED
from multires_edge.runtime.ecg.signal import SignalSpec
from multires_edge.runtime.ecg.sources.opening import find_records, open_source, read_through
from multires_edge.runtime.ecg.sources.protocol import Missing, Samples
from multires_edge.runtime.ecg.streams import preprocessing_of
from multires_edge.runtime.evaluation.dataset import Dataset, load_file
from multires_edge.runtime.evaluation.pieces import RecordPieces
from multires_edge.runtime.evaluation.scoring import metric_for

LABELS_FILE = "labels.csv"
# Seconds of a recording that the network runs on at once, and that are in memory.
DEFAULT_WINDOW = 60.0


@dataclass(frozen=True)
class Recording:
    """A recording that is read when it is needed. ``parts`` reads it from its start. Raises DataError."""

    signal: SignalSpec
    parts: Callable[[], Iterator[Samples | Missing]]
    known_length: int | None = None

    @property
    def length(self) -> int:
        """The number of samples. Raises DataError."""
        if self.known_length is not None:
            return self.known_length
        return sum(len(part.values) if isinstance(part, Samples) else part.count for part in self.parts())


@dataclass(frozen=True)
class LabelledRecordings:
    """``positive`` (recordings, labels): which of the bundle's labels each recording has."""

    path: Path
    recordings: list[Recording]
    positive: NDArray[np.bool_]


def load_folder(
    folder: Path,
    card: Card | None,
    *,
    window: float | None = None,
    allow_missing: bool = False,
    rename: Mapping[str, str] | None = None,
) -> Dataset:
    """The recordings of a folder as a stream sees them: its leads, gaps, resampler and normalization.

    They are those of ``labels.csv``, with their labels, or else all WFDB, EDF, .npz and JSON lines records in
    the folder and its subfolders. Recordings longer than ``window`` seconds are cut into pieces, each a
    record of its own with the recording's labels. Raises DataError, MissingExtraError without the ecg extra.
    """
    preprocessing = None if card is None else card.preprocessing
    if card is None or preprocessing is None:
        raise DataError(f"{folder}: recordings need a card with preprocessing, for leads, unit and rate")
    window = DEFAULT_WINDOW if window is None else window
    if not 1 <= window * preprocessing.sampling_rate < float("inf"):
        raise DataError(f"the window is {window} s, expected a finite time of one sample or more")
    steps = round(window * preprocessing.sampling_rate)
    table = _read_labels(folder, card.labels) if (folder / LABELS_FILE).is_file() else None
    recordings = table.recordings() if table else [_open(name) for name in find_records(folder)]
    if not recordings:
        raise DataError(f"{folder}: no recordings in the folder, expected .hea, .edf, .npz or .jsonl files")
    readers, lengths = [], []
    for recording in recordings:
        front = partial(
            FrontEnd, recording.signal, preprocessing, every=steps, allow_missing=allow_missing, rename=rename
        )
        try:
            total = front().outputs(recording.length)
        except InputError as error:
            raise DataError(str(error)) from error
        if not total:
            raise DataError(f"{recording.signal.name}: has no samples")
        readers.append(_Pieces(recording, front))
        lengths.append(np.diff([*range(0, total, steps), total]))
    inputs = RecordPieces(
        [each.signal.name for each in recordings], readers, lengths, len(preprocessing.channels)
    )
    several = inputs.lengths if (inputs.lengths != inputs.lengths[0]).any() else None
    if table is None:
        return Dataset(folder, inputs, several)
    labels = np.repeat(table.positive(), [len(each) for each in lengths], axis=0)
    return Dataset(folder, inputs, several, labels.astype(np.uint8), table.labels)


class _Pieces:
    """Reads the pieces of a recording. It warns once of each lead and flag whose samples are missing."""

    def __init__(self, recording: Recording, front: Callable[[], FrontEnd]) -> None:
        self._recording, self._front = recording, front
        self._warned: set[str] = set()

    def __call__(self) -> Iterator[NDArray[np.float32]]:
        for block in self._blocks():
            found = {
                f"{channel} {flag}"
                for channel, flags in block.quality.items()
                for flag in flags
                if flag in FILLED
            }
            if new := sorted(found - self._warned):
                self._warned |= found
                warnings.warn(f"{self._recording.signal.name}: {', '.join(new)}", stacklevel=2)
            assert block.x is not None  # only the gap policy "restart" has blocks without samples
            yield block.x

    def _blocks(self) -> Iterator[Block]:
        front = self._front()
        for part in self._recording.parts():
            if isinstance(part, Samples):
                front.add_mapped(front.leads(part.values))
            else:
                front.add_missing(part.count)
            while front.ready:
                yield front.ready.popleft()
        front.finish()
        yield from front.ready
        if rest := front.rest():
            yield rest


def load_recordings(path: str | Path, bundle: Bundle) -> LabelledRecordings:
    """A data file (.npz, with labels), at the card's rate, or a folder of recordings with a ``labels.csv``.

    Its header is ``record,LABEL,...`` with the bundle's labels in any order. Every other line has a record's
    path in the folder, and 0 or 1 for each label. Raises DataError.
    """
    path = Path(path)
    preprocessing = preprocessing_of(bundle)
    if not path.is_dir():
        return _from_file(path, bundle, preprocessing)
    table = _read_labels(path, bundle.class_names)
    return LabelledRecordings(path, table.recordings(), table.positive())


def _from_file(path: Path, bundle: Bundle, preprocessing: Preprocessing) -> LabelledRecordings:
    data = load_file(path, bundle.manifest.model, preprocessing)
    metric_for(bundle.manifest.model, bundle.labels, data)
    labels = np.asarray(data.labels)
    if labels.ndim == 1:
        labels = labels[:, None] == np.arange(bundle.manifest.model.d_output)
    mean, std = np.asarray(preprocessing.mean), np.asarray(preprocessing.std)

    def samples(row: int, stop: int) -> Iterator[Samples | Missing]:
        yield Samples(data.inputs[row : row + 1][0, :, :stop].T * std + mean)

    recordings = []
    for row in range(len(data)):
        length = data.inputs.shape[-1] if data.lengths is None else int(data.lengths[row])
        signal = SignalSpec(
            preprocessing.channels, preprocessing.sampling_rate, preprocessing.unit, f"{path}, record {row}"
        )
        recordings.append(Recording(signal, partial(samples, row, length), length))
    return LabelledRecordings(path, recordings, labels.astype(bool))


def _open(name: Path) -> Recording:
    source = open_source(str(name))
    source.close()
    return Recording(source.signal, lambda: read_through(open_source(str(name))), source.length)


@dataclass(frozen=True)
class _LabelTable:
    """A ``labels.csv``: 0 or 1 for each of ``labels``, by record."""

    folder: Path
    labels: list[str]
    rows: dict[str, list[int]]

    def recordings(self) -> list[Recording]:
        return [_open(self.folder / name) for name in self.rows]

    def positive(self) -> NDArray[np.bool_]:
        return np.array(list(self.rows.values()), bool)


def _read_labels(folder: Path, labels: Sequence[str] | None) -> _LabelTable:
    """The table of a folder, its columns in the order of ``labels``; None is that of the file."""
    path = folder / LABELS_FILE
    expected = ",".join(["record", *(labels or ["LABEL", "..."])])
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a table with the header {expected}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    labels = list(header[1:] if labels is None else labels)
    if not labels or sorted(header[1:]) != sorted(labels) or len(set(labels)) < len(labels):
        raise DataError(f"{path}: the header is {','.join(header)}, expected {expected}")
    order = [header.index(label, 1) for label in labels]
    rows: dict[str, list[int]] = {}
    for number, line in enumerate(lines[1:], 2):
        cells: list[Any] = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if len(cells) != len(header) or cells[0] in rows or not set(cells[1:]) <= {"0", "1"}:
            raise DataError(
                f"{path}: line {number} is {','.join(cells)!r}, expected the path of a record, "
                f"once in the table, and 0 or 1 for each of {len(labels)} labels"
            )
        rows[cells[0]] = [int(cells[i]) for i in order]
    if not rows:
        raise DataError(f"{path}: has no records after the header")
    return _LabelTable(folder, labels, rows)
