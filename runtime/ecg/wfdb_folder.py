"""WFDB recordings (PhysioNet's format) as a network's inputs: its leads, its unit, its sampling rate."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, MissingExtraError
from multires_edge.format.arrays import all_finite
from multires_edge.format.card import VOLTS, Preprocessing
from multires_edge.runtime.evaluation.dataset import Dataset

# Ratios of sampling rates are rounded to this denominator: at most 5e-7, half a sample in 10^6.
_LARGEST_DENOMINATOR = 1000


def load_folder(
    folder: str | Path, preprocessing: Preprocessing | None, window: float | None = None
) -> Dataset:
    """All records of a folder and of those in it, in the order of their names.

    ``window`` cuts them into pieces of so many seconds; the rest of a record is a shorter piece of its
    own. Pieces shorter than the longest are padded with zeros, and ``lengths`` says how far each goes.
    Raises DataError for a record that does not fit, MissingExtraError without the ecg extra.
    """
    folder = Path(folder)
    require_ecg_extra()
    if preprocessing is None:
        raise DataError(f"{folder}: recordings need a card with preprocessing: leads, unit and rate")
    if window is not None and not 1 <= window * preprocessing.sampling_rate < float("inf"):
        raise DataError(
            f"a window of {window} s is less than one sample, or endless; whole records need none"
        )
    headers = sorted(folder.rglob("*.hea"))
    if not headers:
        raise DataError(f"{folder}: no WFDB records (.hea) in it")
    pieces: list[NDArray[np.float32]] = []
    for header in headers:
        record = read_record(header.with_suffix(""), preprocessing)
        steps = record.shape[1]
        if window is not None:
            steps = round(window * preprocessing.sampling_rate)
        pieces += [record[:, start : start + steps] for start in range(0, record.shape[1], steps)]
    lengths = np.array([piece.shape[1] for piece in pieces], np.int64)
    inputs = np.zeros((len(pieces), len(pieces[0]), lengths.max()), np.float32)
    for row, piece in zip(inputs, pieces, strict=True):
        row[:, : piece.shape[1]] = piece
    return Dataset(folder, inputs, None if (lengths == lengths[0]).all() else lengths)


def read_record(path: str | Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """One record, normalised: (channels, time) float32 at the card's rate, leads in its order.

    ``path`` is without suffix, as WFDB names a record. Leads are found by name, whatever its case.
    Raises DataError for a missing lead, an unknown unit, gaps, or a file that cannot be read.
    """
    require_ecg_extra()
    import wfdb

    path = Path(path)
    try:
        check_ascii(path)
        record = wfdb.rdrecord(str(path))
        names = [str(name) for name in record.sig_name]
        units = [str(unit) for unit in record.units]
        rate = float(record.fs)
        signals: NDArray[np.float64] = np.asarray(record.p_signal, np.float64)
        if signals.ndim != 2 or signals.shape[1] != len(names) or not len(signals) or not rate > 0:
            raise ValueError(f"{signals.shape} samples of {len(names)} signals at {rate} Hz")
    except DataError:
        raise
    except Exception as error:
        # The reader stumbles in many ways over a damaged file; it is the file that is at fault.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a WFDB record, or damaged ({reason})") from error
    target = preprocessing.unit
    if target not in VOLTS:
        raise DataError(f"the card's unit is {target!r}, recordings are in volts; expected uV, mV or V")
    by_name = {name.casefold(): i for i, name in reversed(list(enumerate(names)))}
    missing = [lead for lead in preprocessing.channels if lead.casefold() not in by_name]
    if missing:
        raise DataError(f"{path}: no lead {', '.join(missing)}; the record has {', '.join(names)}")
    samples = np.empty((len(preprocessing.channels), len(signals)))
    for row, lead in zip(samples, preprocessing.channels, strict=True):
        i = by_name[lead.casefold()]
        if units[i] not in VOLTS:
            raise DataError(f"{path}: lead {lead} is in {units[i]!r}; expected uV, mV or V")
        row[:] = signals[:, i] * (VOLTS[units[i]] / VOLTS[target])
    if not all_finite(samples):
        bad = np.count_nonzero(~np.isfinite(samples).all(0))
        raise DataError(f"{path}: {bad} of {len(signals)} samples are missing; repair or drop the record")
    return preprocessing.normalize(resample(samples, rate, preprocessing.sampling_rate))


def check_ascii(path: Path) -> None:
    """The reader drops what is not ASCII, and so takes a microvolt written with a mu for a volt."""
    header = path.with_name(f"{path.name}.hea")
    for line in header.read_bytes().splitlines():
        if not line.isascii() and not line.startswith(b"#"):
            raise DataError(f"{header}: {line.decode('utf-8', 'replace')!r} is not ASCII; write uV for µV")


def resample(samples: NDArray[np.float64], rate: float, target: float) -> NDArray[np.float64]:
    """Samples (channels, time) at ``rate`` Hz to ``target`` Hz, by a polyphase low-pass filter."""
    ratio = (Fraction(target) / Fraction(rate)).limit_denominator(_LARGEST_DENOMINATOR)
    if ratio == 1:
        return samples
    if not ratio:
        raise DataError(f"cannot resample from {rate} Hz to {target} Hz")
    from scipy.signal import resample_poly

    # Padded by the line from the first to the last sample: zeros would ring on a baseline off zero.
    resampled: NDArray[np.float64] = resample_poly(
        samples, ratio.numerator, ratio.denominator, axis=1, padtype="line"
    )
    return resampled


def require_ecg_extra() -> None:
    """Raise MissingExtraError unless recordings can be read."""
    for module in ("wfdb", "scipy"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "ecg", "reading WFDB recordings")
