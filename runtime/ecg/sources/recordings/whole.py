"""Recordings of seconds to minutes that are read as a whole: the leads of a resting ECG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multires_edge.format.card import is_voltage
from multires_edge.runtime.ecg.sources.protocol import Format, SignalSpec
from multires_edge.runtime.ecg.sources.recordings.record import Channel, Damaged, Record, Values, choose

# Bytes of a file that is read as a whole, and samples of all its leads.
BYTES_MOST, SAMPLES_MOST = 1 << 26, 1 << 25


@dataclass(frozen=True)
class Lead:
    """``values`` (samples,) in ``unit`` at ``rate`` Hz. ``fault`` says why it is not read, or is empty."""

    name: str
    rate: float
    unit: str
    values: Values
    fault: str = ""


def record_of(path: Path, leads: Sequence[Lead], given: Format, notes: Sequence[str] = ()) -> Record:
    """A recording of leads. A lead that is shorter than the longest ends without values. Raises DataError."""
    channels = [
        Channel(
            each.name, each.rate, each.unit, each.fault or ("" if is_voltage(each.unit) else "no voltage")
        )
        for each in leads
    ]
    chosen, more = choose(channels, given, str(path))
    length = max(len(leads[i].values) for i in chosen)
    if not length:
        raise Damaged("leads without samples")
    if length * len(chosen) > SAMPLES_MOST:
        raise Damaged("leads of too many samples")
    samples = np.full((length, len(chosen)), np.nan)
    for k, i in enumerate(chosen):
        samples[: len(leads[i].values), k] = leads[i].values
    units = [leads[i].unit for i in chosen]
    signal = SignalSpec([leads[i].name for i in chosen], leads[chosen[0]].rate, units, str(path))
    return Record(signal, length, lambda start, stop: samples[start:stop], notes=[*notes, *more])
