"""Labelled 12-lead records for training: an .npz file, or the folder of PTB-XL as PhysioNet has it."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.format.arrays import read_arrays
from multires_edge.format.card import volts_per
from multires_edge.runtime.ecg.sources.opening import open_source, read_through
from multires_edge.runtime.ecg.sources.protocol import Samples

SUPERCLASSES = ("CD", "HYP", "MI", "NORM", "STTC")
RATE = 100


@dataclass(frozen=True)
class Records:
    """Signals int16 (records, leads, time) in microvolt at 100 Hz, and labels uint8 (records, classes).

    ``fold`` is the fold of each record: PTB-XL has ten, of whole patients. The last two were checked by
    people, and are for validation and test.
    """

    x_uv: NDArray[np.int16]
    labels: NDArray[np.uint8]
    fold: NDArray[np.integer[Any]]
    leads: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.x_uv)
        if self.x_uv.ndim != 3 or self.labels.shape != (count, len(self.classes)) or len(self.fold) != count:
            raise SystemExit(
                f"error: records of shape {self.x_uv.shape} with labels {self.labels.shape} for "
                f"{len(self.classes)} classes and {len(self.fold)} folds do not belong together"
            )

    def of(self, rows: NDArray[Any]) -> Records:
        """Some of the records."""
        return Records(self.x_uv[rows], self.labels[rows], self.fold[rows], self.leads, self.classes)


def load_records(path: Path, folds: set[int] | None = None) -> Records:
    """Read records, those of ``folds`` only if it is given.

    A file needs ``x_uv``, ``labels``, ``leads`` and ``classes``; without ``fold``, every record is of fold 0.
    """
    if path.is_dir():
        return _load_ptbxl(path, folds)
    try:
        arrays = read_arrays(path)
    except DataError as error:
        raise SystemExit(f"error: {error}") from None
    missing = {"x_uv", "labels", "leads", "classes"} - set(arrays)
    if missing:
        raise SystemExit(f"error: {path}: has no {', '.join(sorted(missing))}")
    fold = arrays.get("fold", np.zeros(len(arrays["x_uv"]), np.int64))
    leads, classes = (tuple(map(str, arrays[name].flat)) for name in ("leads", "classes"))
    records = Records(arrays["x_uv"], arrays["labels"], fold, leads, classes)
    return records if folds is None else records.of(np.isin(fold, list(folds)))


def _load_ptbxl(folder: Path, folds: set[int] | None) -> Records:
    """Records with a diagnostic superclass, from ptbxl_database.csv and the signals at 100 Hz."""
    for name in ("scp_statements.csv", "ptbxl_database.csv"):
        if not (folder / name).is_file():
            raise SystemExit(f"error: {folder}: has no {name}; expected the folder of PTB-XL")
    with (folder / "scp_statements.csv").open(encoding="utf-8") as file:
        superclass = {row[""]: row["diagnostic_class"] for row in csv.DictReader(file) if row["diagnostic"]}
    signals, labels, fold = [], [], []
    leads: tuple[str, ...] = ()
    for row in _rows(folder / "ptbxl_database.csv"):
        if folds is not None and int(row["strat_fold"]) not in folds:
            continue
        found = {superclass.get(code) for code in ast.literal_eval(row["scp_codes"])}
        if not found & set(SUPERCLASSES):
            continue
        source = open_source(str(folder / row["filename_lr"]))
        leads = tuple(source.signal.leads)
        x = np.concatenate([each.values for each in read_through(source) if isinstance(each, Samples)])
        scale = [volts_per(unit) / volts_per("uV") for unit in source.signal.unit]
        signals.append(np.round(x * scale).T.astype(np.int16))
        labels.append([name in found for name in SUPERCLASSES])
        fold.append(int(row["strat_fold"]))
    if not signals:
        raise SystemExit(f"error: {folder}: has no record of the folds {sorted(folds or ())}")
    names = {"AVR": "aVR", "AVL": "aVL", "AVF": "aVF"}
    return Records(
        np.stack(signals),
        np.array(labels, np.uint8),
        np.array(fold),
        tuple(names.get(lead, lead) for lead in leads),
        SUPERCLASSES,
    )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        yield from csv.DictReader(file)
