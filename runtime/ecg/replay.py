"""Streams that start in the middle of a record, and give the decisions of one that has run all along.

A decision depends on the samples of the last minutes, on the sample that the record started over with, and
on the alarms. So a stream needs no saved state: another one replays the samples of some minutes, and takes
the rest from the carry of a decision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any

from multires_edge.base.errors import InputError
from multires_edge.format.fields import Between
from multires_edge.format.pooling import Pooling
from multires_edge.runtime.ecg.carry import Carry
from multires_edge.runtime.ecg.frontend import FrontEnd
from multires_edge.runtime.ecg.settings import Pool
from multires_edge.runtime.ecg.thresholds import AlarmsState


@dataclass(frozen=True)
class Start:
    """A stream gets the samples of its record from number ``sample`` on.

    The record started over with sample ``origin`` last before that, which is 0 for one without long gaps.
    ``carry`` is that of the decision to continue after; it tells the origin too.
    """

    sample: int = 0
    origin: int = 0
    carry: bytes | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample", _number("start", self.sample))
        object.__setattr__(self, "origin", _number("origin", self.origin))
        if self.carry is None and self.origin > self.sample:
            raise InputError(f"the origin is sample {self.origin}, which is after the start, {self.sample}")


def _number(name: str, value: Any) -> int:
    is_whole = isinstance(value, Integral)
    if not is_whole or not 0 <= value < 1 << 62:
        raise InputError(f"{name} is {value!r}, expected the number of a sample")
    return int(value)


@dataclass(frozen=True)
class Replay:
    """A stream reports nothing up to ``until`` seconds of its record.

    It then continues with ``alarms``.
    """

    until: Annotated[float, Between(-1e18, 1e18)]
    alarms: AlarmsState


def replay_steps(pool: Pool, own: Pooling | None, receptive_field: int, settled: int) -> int | None:
    """After so many steps since its start, a stream has the bits of one that has run all along.

    ``settled`` are the steps until its inputs have them; None is never.
    """
    if pool.reset is not None:
        return settled + pool.reset
    pooling = pool.pooling or own
    memory = 0 if pooling is None else pooling.memory
    return None if memory is None else max(pool.alignment(own), settled) + receptive_field + memory


def replay_samples(
    front: FrontEnd, pool: Pool, own: Pooling | None, receptive_field: int, every: int, alarm_after: float
) -> int | None:
    """After so many samples since its start, a stream makes the decisions of one that has run all along.

    None is never. ``every`` and ``alarm_after`` are steps.
    """
    step = front.samples(1)
    steps = replay_steps(pool, own, receptive_field, math.ceil(front.settled / step) + 1)
    if steps is None:
        return None
    # A decision names the faults since the one before, and warms after the last one without a signal.
    judged = front.judged + math.ceil((2 * every + math.ceil(alarm_after)) * step)
    return max(math.ceil((steps + 1) * step), judged) + 1


def begin(
    start: Start, carry: Carry | None, front: FrontEnd, samples: int | None, alarms: int
) -> Replay | None:
    """What a stream with so many ``alarms`` does first; ``samples`` are those of :func:`replay_samples`.

    Raises InputError for a start after which the decisions would not be those of the record.
    """
    origin, sample = (start.origin if carry is None else carry.origin), start.sample
    if samples is None and sample > origin:
        raise InputError(
            f"start is {sample}, but a pool without an end depends on all samples from {origin} on; choose a "
            "pool such as window:10s"
        )
    if carry is None:
        if sample == origin:
            return None
        assert samples is not None
        off = AlarmsState((False,) * alarms, (0,) * alarms)
        return Replay(math.nextafter((sample + samples) / front.rate, -math.inf), off)
    end = origin + front.samples(carry.step)
    latest = replay_from(origin, end, samples)
    if not origin <= sample <= latest:
        raise InputError(f"start is {sample}, expected {origin} to {latest} to continue after this decision")
    return Replay(end / front.rate, carry.alarms)


def replay_from(origin: int, end: float, samples: int | None) -> int:
    """The sample to start with, for what comes after sample ``end`` of a record."""
    return origin if samples is None else max(origin, math.floor(end) - samples)
