"""Recordings as electrodes, cables and amplifiers change them at the bedside.

Every disturbance is computed sample by sample, so a recording of any length is read in pieces, from any
sample on. Its parameters are random, different for each recording and lead, and always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.card import volts_per
from multires_edge.runtime.ecg.lead_names import plain_names
from multires_edge.runtime.ecg.sources.protocol import Missing, Samples
from multires_edge.runtime.evaluation.pieces import Recording

Array = NDArray[np.float64]
# Takes the number of a recording, samples in millivolt (n, leads), and their times in seconds (n, 1).
Disturb = Callable[[int, Array, Array], Array]

_SWAPPED_ARMS = {"ii": "iii", "iii": "ii", "avr": "avl", "avl": "avr"}
_NOISE_RMS = 0.05
_NOISE_BLOCK = 4096


@dataclass(frozen=True)
class FieldCondition:
    """Recordings under one condition, and what it is."""

    name: str
    description: str
    recordings: Sequence[Recording]


def field_conditions(recordings: Sequence[Recording]) -> list[FieldCondition]:
    """Recordings under each condition, the clean ones first.

    Swapped arms are left out where a recording lacks a limb lead. Raises DataError for a unit that is no
    voltage.
    """
    drawn = _Parameters(recordings)
    conditions = [FieldCondition("clean", "as recorded", recordings)]
    for name, description, disturb in (
        ("offsets", "up to 1 mV in each lead", drawn.offsets()),
        ("wander", "0.2 to 0.6 mV in each lead, at 0.15 to 0.4 Hz", drawn.wander()),
        ("motion", "four seconds of three waves of 0.5 to 5 Hz, up to 1 mV each", drawn.motion()),
        ("electrode moves", "the offsets change by up to 1 mV, once in a recording", drawn.moves()),
        ("mains", "0.1 mV at 49.8 Hz", drawn.mains()),
        ("gain", "one factor from 0.8 to 1.25 for each recording", drawn.gain()),
        ("noise", f"white noise of {_NOISE_RMS} mV (RMS)", drawn.noise()),
    ):
        conditions.append(FieldCondition(name, description, _disturbed(recordings, disturb)))
    swapped = _swapped_arms(recordings)
    if swapped is not None:
        description = "the electrodes of right and left arm"
        conditions.append(FieldCondition("arms swapped", description, _disturbed(recordings, swapped)))
    return conditions


class _Parameters:
    """The random parameters, drawn in one order for all recordings together."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._random = np.random.default_rng(0)
        self._count = len(recordings)
        self._leads = max(len(recording.signal.leads) for recording in recordings)
        self._rates = [recording.signal.rate for recording in recordings]
        seconds = [recording.length / recording.signal.rate for recording in recordings]
        self._seconds = np.reshape(seconds, (-1, 1, 1))

    def offsets(self) -> Disturb:
        offset = self._each_lead(-1, 1)
        return lambda row, x, t: x + _of(offset, row, x)

    def wander(self) -> Disturb:
        amplitude, phase = self._each_lead(0.2, 0.6), self._each_lead(0, 2 * np.pi)
        frequency = self._each_recording(0.15, 0.4)
        return lambda row, x, t: x + _wave(row, x, t, amplitude, frequency, phase)

    def motion(self) -> Disturb:
        start = self._each_recording(0, np.maximum(0, self._seconds - 4))
        waves = []
        for _ in range(3):
            phase, frequency = self._each_lead(0, 2 * np.pi), self._each_recording(0.5, 5)
            waves.append((self._each_lead(0, 1), frequency, phase))

        def disturb(row: int, x: Array, t: Array) -> Array:
            inside = (t - start[row]) / 4
            envelope = np.where((inside > 0) & (inside < 1), np.sin(np.pi * np.clip(inside, 0, 1)) ** 2, 0)
            return x + sum(_wave(row, x, t, *wave) for wave in waves) * envelope

        return disturb

    def moves(self) -> Disturb:
        moment = self._each_recording(0.1 * self._seconds, 0.9 * self._seconds)
        offset = self._each_lead(-1, 1)
        return lambda row, x, t: x + (t >= moment[row]) * _of(offset, row, x)

    def mains(self) -> Disturb:
        # At 100 Hz, 50 Hz is half the rate and would depend on its phase: mains is never exactly at 50 Hz.
        frequency, phase = np.full((self._count, 1), 49.8), self._each_lead(0, 2 * np.pi)
        amplitude = np.full_like(phase, 0.1)
        return lambda row, x, t: x + _wave(row, x, t, amplitude, frequency, phase)

    def gain(self) -> Disturb:
        factor = np.exp(self._each_recording(np.log(0.8), np.log(1.25)))
        return lambda row, x, t: x * factor[row]

    def noise(self) -> Disturb:
        def disturb(row: int, x: Array, t: Array) -> Array:
            # A block of noise depends on its number alone, so a reader may begin anywhere.
            first = round(float(t[0, 0]) * self._rates[row])
            numbers = range(first // _NOISE_BLOCK, (first + len(x) - 1) // _NOISE_BLOCK + 1)
            shape = (_NOISE_BLOCK, x.shape[1])
            blocks = [np.random.default_rng((row, number)).standard_normal(shape) for number in numbers]
            start = first % _NOISE_BLOCK
            return x + _NOISE_RMS * np.concatenate(blocks)[start : start + len(x)]

        return disturb

    def _each_lead(self, low: float, high: float) -> Array:
        """(recordings, leads)"""
        return self._random.uniform(low, high, (self._count, self._leads, 1))[..., 0]

    def _each_recording(self, low: float | Array, high: float | Array) -> Array:
        """(recordings, 1)"""
        return self._random.uniform(low, high, (self._count, 1, 1))[..., 0]


def _of(of_leads: Array, row: int, x: Array) -> Array:
    return of_leads[row, : x.shape[1]]


def _wave(row: int, x: Array, t: Array, amplitude: Array, frequency: Array, phase: Array) -> Array:
    wave = np.sin(2 * np.pi * frequency[row] * t + _of(phase, row, x))
    waves: Array = _of(amplitude, row, x) * wave
    return waves


def _swapped_arms(recordings: Sequence[Recording]) -> Disturb | None:
    orders, signs = [], []
    for recording in recordings:
        names = plain_names(list(recording.signal.leads))
        if not {"i", *_SWAPPED_ARMS} <= set(names):
            return None
        orders.append([names.index(_SWAPPED_ARMS.get(name, name)) for name in names])
        signs.append(np.where(np.array(names) == "i", -1.0, 1.0))
    return lambda row, x, t: x[:, orders[row]] * signs[row]


def _disturbed(recordings: Sequence[Recording], disturb: Disturb) -> list[Recording]:
    changed = []
    for row, recording in enumerate(recordings):
        signal = recording.signal
        units = [signal.unit] * len(signal.leads) if isinstance(signal.unit, str) else signal.unit
        millivolt = np.array([volts_per(unit) / volts_per("mV") for unit in units])
        changed.append(replace(recording, parts=partial(_parts, recording, millivolt, disturb, row)))
    return changed


def _parts(
    recording: Recording, millivolt: Array, disturb: Disturb, row: int, start: int = 0
) -> Iterator[Samples | Missing]:
    at = start
    for part in recording.parts(start) if start else recording.parts():
        if isinstance(part, Samples) and part.count:
            t = (np.arange(at, at + part.count) / recording.signal.rate)[:, None]
            yield replace(part, values=disturb(row, part.values * millivolt, t) / millivolt)
        else:
            yield part
        at += part.count
