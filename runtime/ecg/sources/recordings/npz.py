"""Recordings in .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from multires_edge.base.errors import DataError
from multires_edge.format.arrays import read_arrays
from multires_edge.runtime.ecg.lead_names import listed
from multires_edge.runtime.ecg.sources.protocol import Format, SignalSpec
from multires_edge.runtime.ecg.sources.recordings.record import Record


def open_npz(path: Path, given: Format) -> Record:
    """An .npz file with ``samples`` (n, leads), ``leads``, ``rate`` in Hz and ``unit``, read as a whole."""
    arrays, known = read_arrays(path), {"samples", "leads", "rate", "unit"}
    try:
        samples = arrays["samples"]
        leads = [str(x) for x in arrays["leads"].flat] if "leads" in arrays else list(given.leads or ())
        rate = float(arrays["rate"]) if "rate" in arrays else given.rate
        unit = str(arrays["unit"]) if "unit" in arrays else given.unit
    except (KeyError, TypeError, ValueError) as error:
        found = listed(sorted(known & set(arrays))) or "other arrays"
        raise DataError(f"{path}: has {found}, expected samples (n, leads), leads, rate and unit") from error
    if samples.ndim != 2 or samples.dtype.kind not in "fiu" or samples.shape[1] != len(leads):
        raise DataError(
            f"{path}: samples are {samples.dtype} {samples.shape}, expected numbers (n, leads) with "
            f"{len(leads)} leads"
        )
    if rate is None or unit is None:
        raise DataError(f"{path}: has no {'rate' if rate is None else 'unit'}; give --rate and --unit")
    signal = SignalSpec(leads, rate, unit, str(path))
    return Record(signal, len(samples), lambda start, stop: np.asarray(samples[start:stop], np.float64))
