"""How a stream of electrodes is turned into decisions: its pooling, its gaps, and how they are written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from multires_edge.base.errors import ConfigError, InputError
from multires_edge.format.pooling import CUMULATIVE, MAX_WINDOW, POOLINGS, Pooling, Window, parse_pooling
from multires_edge.runtime.ecg.thresholds import Threshold

_DURATION = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|min|h|)", re.ASCII)
# What a stream that never ends is pooled over, where nobody says: docs/windows.md measured the choices.
DEFAULT_POOL = "window:10s"
_SECONDS = {"ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0, "h": 3600.0}


def parse_duration(text: str | float, what: str) -> float:
    """Seconds of "0.5s", "500ms", "2min", "1h" or a number. Raises InputError."""
    match = _DURATION.fullmatch(str(text).strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else math.nan
    if not 0 < seconds <= 366 * 86400:
        raise InputError(f"{what} is {text!r}, expected a duration such as 0.5s, 500ms or 2min")
    return seconds


def whole_steps(seconds: float, rate: float, what: str) -> int:
    """A duration in steps of the network. Raises InputError where it is no whole number of them."""
    steps = round(seconds * rate)
    if steps < 1 or abs(steps - seconds * rate) > 1e-6 * steps:
        raise InputError(f"{what} is {seconds:g} s, expected a whole number of samples at {rate:g} Hz")
    return steps


@dataclass(frozen=True)
class StreamOptions:
    """How samples become decisions, the same for every source of a run.

    ``every``: seconds between decisions, or a duration such as "500ms". ``pool``: cumulative, window:10s,
    reset:10s or bundle; None is the window that the bundle was exported with, or window:10s. ``gap``: hold,
    zero or restart:1s. ``thresholds``: LABEL=ON[:OFF]. ``rename`` maps a channel of the card to the name of
    the source's lead; ``allow_missing`` feeds the card's mean for leads that the source does not have.
    """

    every: float | str = 0.5
    pool: str | None = None
    gap: str = "hold"
    thresholds: Sequence[str | Threshold] = ()
    allow_missing: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    backend: str = "auto"
    precision: str = "fp32"

    def parsed_thresholds(self) -> list[Threshold]:
        """The thresholds, read from text where necessary. Raises InputError."""
        return [t if isinstance(t, Threshold) else Threshold.parse(t) for t in self.thresholds]


@dataclass(frozen=True)
class Pool:
    """Over what a decision's logits are pooled.

    ``pooling`` is the stream's, or None for the bundle's own; with ``reset`` the stream starts over after
    so many steps.
    """

    pooling: Pooling | None = None
    reset: int | None = None

    @classmethod
    def parse(cls, text: str | None, rate: float, own: Pooling | None = None) -> Pool:
        """Read cumulative, window:10s, reset:10s, or bundle, for its ``own``. Raises InputError.

        None is the bundle's own pooling, or a window of ten seconds where that would never forget.
        """
        if text is None:
            text = "bundle" if own not in (None, CUMULATIVE) else DEFAULT_POOL
        if text == "bundle":
            return cls()
        name, _, duration = text.partition(":")
        try:
            if not duration:
                return cls(parse_pooling(text))
            # Without a unit it could as well be steps, as where a bundle is exported.
            if name not in (*POOLINGS, "reset") or duration.strip()[-1:].isdigit():
                raise ConfigError(text)
            steps = whole_steps(parse_duration(duration, f"the pool's {name}"), rate, f"the pool's {name}")
            if name == "reset":
                return cls(CUMULATIVE, steps)
            if steps > MAX_WINDOW:
                longest = MAX_WINDOW / rate
                raise InputError(
                    f"the pool's {name} is {duration}, expected {longest:g} s or less at {rate:g} Hz"
                )
            return cls(parse_pooling(f"{name}:{steps}"))
        except ConfigError:
            raise InputError(
                f"pool is {text!r}, expected cumulative, window:10s, reset:10s or bundle"
            ) from None

    @property
    def pool(self) -> str | None:
        """The pooling to ask the bundle for; None for its own."""
        return None if self.pooling is None else str(self.pooling)

    def suits(self, own: Pooling | None) -> Pool:
        """The same without asking for what the bundle's ``own`` pooling gives anyway."""
        if self.reset and isinstance(own, Window) and own.steps >= self.reset:
            return Pool(None, self.reset)
        return Pool(None if self.pooling == own else self.pooling, self.reset)

    def seen(self, steps: int, own: Pooling | None) -> int:
        """Steps that the logits after ``steps`` steps of the stream are pooled over."""
        return (self.pooling or own or CUMULATIVE).seen(steps)
