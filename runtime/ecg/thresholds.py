"""Thresholds with hysteresis: a label's onset and offset from its probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from multires_edge.base.errors import InputError, StateError


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
    """Which thresholds are on."""

    on: tuple[bool, ...]


class Alarms:
    """Finds the thresholds that decisions cross."""

    def __init__(self, thresholds: Iterable[Threshold], labels: Iterable[str]) -> None:
        self._thresholds = list(thresholds)
        known = list(labels)
        for threshold in self._thresholds:
            if threshold.label not in known:
                raise InputError(f"threshold for {threshold.label!r}, but the labels are {', '.join(known)}")
        self._on = [False] * len(self._thresholds)

    def update(self, probabilities: Mapping[str, float]) -> list[tuple[str, str]]:
        """The changes from the previous decision: ("onset" or "offset", label)."""
        changes = []
        for i, threshold in enumerate(self._thresholds):
            on = probabilities[threshold.label] >= (threshold.off if self._on[i] else threshold.on)
            if on != self._on[i]:
                self._on[i] = on
                changes.append(("onset" if on else "offset", threshold.label))
        return changes

    def save(self) -> AlarmsState:
        return AlarmsState(tuple(self._on))

    def load(self, saved: AlarmsState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if len(saved.on) != len(self._on):
            raise StateError(f"the state has {len(saved.on)} thresholds, expected {len(self._on)}")
        self._on = list(saved.on)
