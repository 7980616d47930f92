"""The options of a stream, and how a user writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from multires_edge.base.errors import ConfigError, InputError
from multires_edge.format.pooling import (
    CUMULATIVE,
    MAX_WINDOW,
    POOLINGS,
    Pooling,
    parse_pooling,
    pooled_as,
)
from multires_edge.runtime.ecg.thresholds import Threshold

_DURATION = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|min|h|)", re.ASCII)
# The default for streams that never end. docs/windows.md compares the choices.
DEFAULT_POOL = "window:10s"
# For a pooling without a window.
DEFAULT_ALARM_AFTER = "10s"
_SECONDS = {"ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0, "h": 3600.0}


def parse_duration(text: str | float, what: str, *, zero: bool = False) -> float:
    """Seconds of "0.5s", "500ms", "2min", "1h" or a number. Raises InputError, for 0 too unless ``zero``."""
    match = _DURATION.fullmatch(str(text).strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else math.nan
    if not 0 <= seconds <= 366 * 86400 or (seconds == 0 and not zero):
        raise InputError(f"{what} is {text!r}, expected a duration such as 0.5s, 500ms or 2min")
    return seconds


def whole_steps(seconds: float, rate: float, what: str) -> int:
    """A duration as a number of steps of the network. Raises InputError if that is not a whole number."""
    steps = round(seconds * rate)
    if steps < 1 or abs(steps - seconds * rate) > 1e-6 * steps:
        raise InputError(f"{what} is {seconds:g} s, expected a whole number of samples at {rate:g} Hz")
    return steps


def _steps_of(part: str, rate: float) -> int:
    """The steps of a part of a pool, such as "window:10s". Raises ConfigError or InputError."""
    name, _, duration = part.partition(":")
    # A number without a unit could mean steps, as in an export.
    if name not in (*POOLINGS, "reset") or duration.strip()[-1:].isdigit():
        raise ConfigError(part)
    steps = whole_steps(parse_duration(duration, f"the pool's {name}"), rate, f"the pool's {name}")
    if name != "reset" and steps > MAX_WINDOW:
        longest = MAX_WINDOW / rate
        raise InputError(f"the pool's {name} is {duration}, expected {longest:g} s or less at {rate:g} Hz")
    return steps


@dataclass(frozen=True)
class StreamOptions:
    """How samples become decisions, the same for every source of a run.

    ``every``: seconds between decisions, or a duration such as "500ms". ``pool``: cumulative, window:10s,
    reset:10s or bundle; None is the window that the bundle was exported with, or window:10s, and the bundle's
    own pooling for networks that do not take the mean. ``gap``: hold,
    zero or restart:1s. ``thresholds``: LABEL=ON[:OFF]. An alarm sets in only after ``alarm_after`` seconds of
    signal (None: the window), and when ``alarm_decisions`` in a row reach its threshold. ``rename`` maps a
    channel of the card to the name of the source's lead; ``allow_missing`` feeds the card's mean for leads
    that the source does not have.
    """

    every: float | str = 0.5
    pool: str | None = None
    gap: str = "hold"
    thresholds: Sequence[str | Threshold] = ()
    alarm_after: float | str | None = None
    alarm_decisions: int = 1
    allow_missing: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    backend: str = "auto"
    precision: str = "fp32"

    def parsed_thresholds(self) -> list[Threshold]:
        """The thresholds, read from text where necessary. Raises InputError."""
        return [t if isinstance(t, Threshold) else Threshold.parse(t) for t in self.thresholds]


@dataclass(frozen=True)
class Pool:
    """The pooling of a decision's logits.

    ``pooling`` is that of the stream, or None for the bundle's own. After every ``reset`` steps the stream
    starts over.
    """

    pooling: Pooling | None = None
    reset: int | None = None

    @classmethod
    def parse(cls, text: str | None, rate: float, own: Pooling | None = CUMULATIVE) -> Pool:
        """Read cumulative, window:10s, reset:10s, or bundle for its ``own`` pooling. Raises InputError.

        ``own`` is None for a network with an output at every step. ``text`` None is the bundle's own pooling,
        or a window of ten seconds if that is cumulative.
        """
        if text is None:
            endless = own is not None and own.window is None and own.over(1) != own
            text = DEFAULT_POOL if endless else "bundle"
        if text == "bundle":
            return cls()
        if own is None:
            raise InputError(
                f"pool is {text!r}, but this network has an output at every step, and a decision is that of "
                "its sample: leave the pool out"
            )
        try:
            if text.startswith("reset:"):
                steps = _steps_of(text, rate)
                return cls(own.over(None), steps)
            parts = (
                f"{part.partition(':')[0]}:{_steps_of(part, rate)}" if ":" in part else part
                for part in text.split("+")
            )
            pooling = parse_pooling("+".join(parts))
        except ConfigError:
            raise InputError(
                f"pool is {text!r}, expected cumulative, window:10s, reset:10s or bundle"
            ) from None
        return cls(pooled_as(own, pooling))

    @property
    def pool(self) -> str | None:
        """The argument ``pool`` of :meth:`Bundle.stream`."""
        return None if self.pooling is None else str(self.pooling)

    def suits(self, own: Pooling | None) -> Pool:
        """The same pooling, as the bundle's own if the bundle's ``own`` has the same result."""
        if self.reset and own is not None and own.equals_full(self.reset):
            return Pool(None, self.reset)
        return Pool(None if self.pooling == own else self.pooling, self.reset)

    def window(self, own: Pooling | None) -> int | None:
        """The number of steps after which a decision has seen all that it will see; None if it never has."""
        pooling = self.pooling or own
        return self.reset or (None if pooling is None or pooling.window is None else pooling.full_steps)

    def alignment(self, own: Pooling | None) -> int:
        """Two streams have the same bits if their starts are a multiple of so many steps apart."""
        pooling = self.pooling or own
        return self.reset or (1 if pooling is None else pooling.alignment)

    def seen(self, steps: int, own: Pooling | None) -> int:
        """The number of steps that the logits after ``steps`` steps of the stream are pooled over.

        It is 1 for a network with an output at every step.
        """
        pooling = self.pooling or own
        return 1 if pooling is None else pooling.seen(steps)
