"""Reads data for calibration, evaluation and proofs: a file of arrays, or a folder of recordings."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.format.card import Card, Preprocessing
from multires_edge.format.config import ModelConfig
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.sources.opening import find_records, open_source, read_through
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Samples, SignalSpec
from multires_edge.runtime.ecg.streams import preprocessing_of
from multires_edge.runtime.evaluation.dataset import Dataset, has_inputs, load_file
from multires_edge.runtime.evaluation.pieces import Recording, RecordPieces
from multires_edge.runtime.evaluation.scoring import metric_for

LABELS_FILE = "labels.csv"
# Seconds of a recording that the network runs on at once, and that are in memory.
DEFAULT_WINDOW = 60.0


@dataclass(frozen=True)
class LabelledRecordings:
    """``positive`` (recordings, labels): which of the labels each recording has."""

    path: Path
    labels: list[str]
    recordings: list[Recording]
    positive: NDArray[np.bool_]


def load_data(
    path: str | Path,
    config: ModelConfig | ModuleConfig,
    card: Card | None = None,
    *,
    window: float | None = None,
    allow_missing: bool = False,
    rename: Mapping[str, str] | None = None,
) -> Dataset:
    """Read an .npz file, or a folder of recordings, and check it against the network.

    The recordings of a folder are read as a stream sees them: its leads, gaps, resampler and normalization.
    They are those of ``labels.csv``, with their labels, or else all recordings in the folder and its
    subfolders that name leads, rate and unit. Options of a folder: recordings longer than ``window`` seconds
    (None: 60) are cut into pieces, each a record of its own with the labels of the recording.
    ``allow_missing`` and ``rename`` are those of :class:`StreamOptions`. Raises DataError, and
    MissingExtraError without the library for a recording.
    """
    path = Path(path)
    preprocessing = None if card is None else card.preprocessing
    if not path.is_dir():
        if window is not None or allow_missing or rename:
            raise DataError(
                f"{path}: window, allow-missing and lead are options of a folder of recordings; leave them "
                "out"
            )
        return load_file(path, config, preprocessing)
    if isinstance(config, ModuleConfig):
        raise DataError(
            f"{path}: a folder of recordings, but a module of your own has no card; give an .npz file"
        )
    if config.encoder == "token":
        raise DataError(f"{path}: a folder of recordings, but the network takes tokens; give an .npz file")
    if card is None or preprocessing is None:
        raise DataError(f"{path}: recordings need a card with preprocessing, for leads, unit and rate")
    window = DEFAULT_WINDOW if window is None else window
    if not 1 <= window * preprocessing.sampling_rate < float("inf"):
        raise DataError(f"the window is {window} s, expected a finite time of one sample or more")
    given = _wanted(preprocessing, rename)
    labelled = _read_labels(path, card.labels, given) if (path / LABELS_FILE).is_file() else None
    recordings = labelled.recordings if labelled else _open_all(find_records(path), given)
    if not recordings:
        raise DataError(f"{path}: no recordings in the folder, expected .hea, .edf, .npz or .jsonl files")
    steps = round(window * preprocessing.sampling_rate)
    inputs = RecordPieces(recordings, preprocessing, steps, allow_missing=allow_missing, rename=rename)
    several = inputs.lengths if (inputs.lengths != inputs.lengths[0]).any() else None
    if labelled is None:
        return Dataset(path, inputs, several)
    labels = labelled.positive[inputs.recording].astype(np.uint8)
    return Dataset(path, inputs, several, labels, labelled.labels)


def load_recordings(
    path: str | Path, bundle: Bundle, rename: Mapping[str, str] | None = None
) -> LabelledRecordings:
    """A data file (.npz, with labels), at the card's rate, or a folder of recordings with a ``labels.csv``.

    Its header is ``record,LABEL,...`` with the bundle's labels in any order. Every other line has a record's
    path in the folder, and 0 or 1 for each label. ``rename`` is that of :class:`StreamOptions`. Raises
    DataError.
    """
    path = Path(path)
    preprocessing = preprocessing_of(bundle)
    if not path.is_dir():
        return _from_file(path, bundle, preprocessing)
    return _read_labels(path, bundle.class_names, _wanted(preprocessing, rename))


def _from_file(path: Path, bundle: Bundle, preprocessing: Preprocessing) -> LabelledRecordings:
    # The stream filters the records itself. Inputs of the network are filtered already.
    data = load_file(path, bundle.manifest.model, replace(preprocessing, high_pass=None))
    if preprocessing.high_pass is not None and has_inputs(path):
        raise DataError(
            f"{path}: has inputs of the network, which the card's high_pass has filtered; a stream needs the "
            "records as measured: give x_uv in place of x, or a folder of recordings"
        )
    metric_for(bundle.manifest.model, bundle.labels, data)
    labels = np.asarray(data.labels)
    if labels.ndim == 1:
        labels = labels[:, None] == np.arange(bundle.manifest.model.d_output)
    mean, std = np.asarray(preprocessing.mean), np.asarray(preprocessing.std)

    def samples(row: int, stop: int, start: int = 0) -> Iterator[Samples]:
        yield Samples(data.inputs[row : row + 1][0, :, start:stop].T * std + mean)

    recordings = []
    for row in range(len(data)):
        length = data.inputs.shape[-1] if data.lengths is None else int(data.lengths[row])
        signal = SignalSpec(
            preprocessing.channels, preprocessing.sampling_rate, preprocessing.unit, f"{path}, record {row}"
        )
        recordings.append(Recording(signal, partial(samples, row, length), length))
    return LabelledRecordings(path, bundle.class_names, recordings, labels.astype(bool))


def _wanted(preprocessing: Preprocessing, rename: Mapping[str, str] | None) -> Format:
    return Format(wanted=(*preprocessing.channels, *(rename or {}).values()))


def _open_all(names: Sequence[Path], given: Format) -> list[Recording]:
    """The recordings. Warns once of each note, with the first recording that has it."""
    recordings, notes = [], dict[str, str]()
    for name in names:
        source = open_source(str(name), given)
        source.close()
        for note in source.notes:
            notes.setdefault(note, source.signal.name)
        read = partial(_read, str(name), given)
        recordings.append(Recording(source.signal, read, source.length))
    for note, first in notes.items():
        warnings.warn(f"{first}: {note}", stacklevel=3)
    return recordings


def _read(name: str, given: Format, start: int = 0) -> Iterator[Samples | Missing]:
    return read_through(open_source(name, given), start)


def _read_labels(folder: Path, labels: Sequence[str] | None, given: Format) -> LabelledRecordings:
    """The recordings of a folder's table. ``labels`` is the order of its columns, None that of the file."""
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
    positive = np.array(list(rows.values()), bool)
    return LabelledRecordings(folder, labels, _open_all([folder / name for name in rows], given), positive)
