"""Alarms: a label's onset and offset from its probabilities, by thresholds with hysteresis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from multires_edge.base.errors import InputError, StateError
from multires_edge.format.fields import Natural

MOST_THRESHOLDS = 1000  # the state of all of them travels with every decision


@dataclass(frozen=True)
class Threshold:
    """A label is on from probability ``on`` upwards, and off below ``off``."""

    label: str
    on: float
    off: float

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Read LABEL=0.8, or LABEL=0.8:0.6 with a lower value for off. Raises InputError."""
        label, _, numbers = text.rpartition("=")
        on, _, off = numbers.partition(":")
        try:
            threshold = cls(label, float(on), float(off or on))
        except ValueError:
            threshold = cls("", math.nan, math.nan)
        if not label or not 0 < threshold.off <= threshold.on <= 1:
            raise InputError(f"threshold is {text!r}, expected LABEL=ON or LABEL=ON:OFF, 0 < OFF <= ON <= 1")
        return threshold


@dataclass(frozen=True)
class AlarmsState:
    """Which thresholds are on, and how many decisions in a row have reached each that is off."""

    on: tuple[bool, ...]
    reached: tuple[Natural, ...]


class Alarms:
    """Finds the thresholds that decisions cross; ``decisions`` in a row must reach one for an onset."""

    def __init__(self, thresholds: Iterable[Threshold], labels: Iterable[str], decisions: int = 1) -> None:
        if decisions < 1:
            raise InputError(f"an alarm asks for {decisions} decisions in a row, expected at least 1")
        self._thresholds, self._decisions = list(thresholds), decisions
        if len(self._thresholds) > MOST_THRESHOLDS:
            raise InputError(f"{len(self._thresholds)} thresholds, expected {MOST_THRESHOLDS} or fewer")
        known = list(labels)
        for threshold in self._thresholds:
            if threshold.label not in known:
                raise InputError(f"threshold for {threshold.label!r}, but the labels are {', '.join(known)}")
        self._on = [False] * len(self._thresholds)
        self._reached = [0] * len(self._thresholds)

    def end(self) -> list[str]:
        """Turn all thresholds off, because the signal has ended. Returns the labels that were on."""
        lost = [t.label for t, on in zip(self._thresholds, self._on, strict=True) if on]
        self._on = [False] * len(self._thresholds)
        self._reached = [0] * len(self._thresholds)
        return lost

    def update(self, probabilities: Mapping[str, float]) -> list[tuple[str, str]]:
        """The changes from the previous decision: ("onset" or "offset", label)."""
        changes = []
        for i, threshold in enumerate(self._thresholds):
            p = probabilities[threshold.label]
            if self._on[i]:
                if p < threshold.off:
                    self._on[i] = False
                    changes.append(("offset", threshold.label))
                continue
            self._reached[i] = self._reached[i] + 1 if p >= threshold.on else 0
            if self._reached[i] >= self._decisions:
                self._on[i], self._reached[i] = True, 0
                changes.append(("onset", threshold.label))
        return changes

    def save(self) -> AlarmsState:
        return AlarmsState(tuple(self._on), tuple(self._reached))

    def load(self, saved: AlarmsState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if not len(saved.on) == len(saved.reached) == len(self._on):
            raise StateError(f"the state has {len(saved.on)} thresholds, expected {len(self._on)}")
        self._on, self._reached = list(saved.on), list(saved.reached)
