"""Recordings with their diagnoses, to evaluate on: a data file, or a folder of WFDB records."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.format.card import Preprocessing
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.signal import SignalSpec
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Samples
from multires_edge.runtime.ecg.streams import card_of
from multires_edge.runtime.evaluation.dataset import load_data
from multires_edge.runtime.evaluation.scoring import metric_for

LABELS_FILE = "labels.csv"
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Recording:
    """One patient's samples (n, leads), read when they are needed."""

    signal: SignalSpec
    samples: Callable[[], NDArray[np.float64]]


@dataclass(frozen=True)
class LabelledRecordings:
    """``positive`` (recordings, labels): which of the bundle's labels each recording has."""

    path: Path
    recordings: list[Recording]
    positive: NDArray[np.bool_]


def load_recordings(path: str | Path, bundle: Bundle) -> LabelledRecordings:
    """A data file (.npz, with labels), at the card's rate, or a folder of WFDB records at their own.

    The folder has a ``labels.csv``: a header ``record,LABEL,...`` with the bundle's labels in any order,
    then a line for each record, its name in the folder and 0 or 1 for each label. Raises DataError.
    """
    path = Path(path)
    card = card_of(bundle)
    return _from_folder(path, bundle) if path.is_dir() else _from_file(path, bundle, card)


def _from_file(path: Path, bundle: Bundle, card: Preprocessing) -> LabelledRecordings:
    data = load_data(path, bundle.manifest.model, card)
    metric_for(bundle.manifest.model, bundle.labels, data)
    labels = np.asarray(data.labels)
    if labels.ndim == 1:
        labels = labels[:, None] == np.arange(bundle.manifest.model.d_output)
    mean, std = np.asarray(card.mean), np.asarray(card.std)

    def reader(row: int) -> Callable[[], NDArray[np.float64]]:
        stop = None if data.lengths is None else int(data.lengths[row])
        return lambda: data.inputs[row, :, :stop].T * std + mean

    recordings = [
        Recording(
            SignalSpec(card.channels, card.sampling_rate, card.unit, f"{path}, record {row}"),
            reader(row),
        )
        for row in range(len(data))
    ]
    return LabelledRecordings(path, recordings, labels.astype(bool))


def _from_folder(folder: Path, bundle: Bundle) -> LabelledRecordings:
    table = folder / LABELS_FILE
    rows = _read_labels(table, bundle.labels or [])
    recordings = []
    for name in rows:
        source = open_source(str(folder / name))
        source.close()
        recordings.append(Recording(source.signal, _reader(str(folder / name))))
    return LabelledRecordings(folder, recordings, np.array(list(rows.values()), bool))


def _reader(spec: str) -> Callable[[], NDArray[np.float64]]:
    def read() -> NDArray[np.float64]:
        source = open_source(spec)
        parts = []
        while not source.ended:
            for piece in source.read(_AT_ONCE):
                if not isinstance(piece, Samples):
                    raise DataError(f"{spec}: breaks off; repair or drop the record")
                parts.append(piece.values)
        return np.concatenate(parts) if parts else np.empty((0, len(source.signal.leads)))

    return read


def _read_labels(path: Path, labels: list[str]) -> dict[str, list[int]]:
    """By record, 0 or 1 in the order of ``labels``."""
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; a folder of recordings needs one, with lines record,{','.join(labels)}"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    if not labels or sorted(header[1:]) != sorted(labels):
        raise DataError(f"{path}: the header is {','.join(header)}, expected record,{','.join(labels)}")
    order = [header.index(label, 1) for label in labels]
    rows: dict[str, list[int]] = {}
    for number, line in enumerate(lines[1:], 2):
        cells: list[Any] = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if len(cells) != len(header) or cells[0] in rows or not set(cells[1:]) <= {"0", "1"}:
            raise DataError(
                f"{path}: line {number} is {','.join(cells)!r}, expected a record named once, and 0 or "
                f"1 for each of {len(labels)} labels"
            )
        rows[cells[0]] = [int(cells[i]) for i in order]
    if not rows:
        raise DataError(f"{path}: names no record")
    return rows
