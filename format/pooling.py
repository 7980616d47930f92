"""Pooling over time: the steps that the outputs of a classifier's stream depend on, and how.

Each pooling is a class here, entered in :data:`POOLINGS`. Its PyTorch reference is in
:mod:`multires_edge.models.pooling`, its graphs are in :mod:`multires_edge.export.graphs.pooling`.
A network was trained with one kind of pooling, such as the mean; a stream may pool over a window instead.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from multires_edge.base.errors import ConfigError
from multires_edge.format.specs import StateSpec

MAX_WINDOW = 1 << 20  # three hours at 100 Hz
NO_POOLING = "none"  # an output at every step


@dataclass(frozen=True)
class Pooling(ABC):
    """How the features of a stream are pooled before the head. ``str`` gives what `parse_pooling` reads."""

    name: ClassVar[str]
    usage: ClassVar[str]  # how to write it, for messages
    of_kind: ClassVar[str] = "mean"  # what a network was trained with that a stream may pool so

    @classmethod
    @abstractmethod
    def of(cls, argument: str) -> Pooling | None:
        """The pooling written as "name:argument"; None for an invalid argument."""

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        """The states of a stream for it, as inputs and outputs of the step graph."""

    @property
    def parts(self) -> tuple[Pooling, ...]:
        """The poolings whose results the head reads, one after the other."""
        return (self,)

    @property
    def kind(self) -> str:
        """What the network was trained with: "mean", "max", "last", or several such as "mean+max"."""
        return self.of_kind

    def over(self, steps: int | None) -> Pooling:
        """The pooling of this kind over the last ``steps`` steps, or over all; itself if it has no window."""
        return self

    def sums(self, d_model: int) -> list[str]:
        """The names of the states that add up many steps."""
        return [state.input for state in self.states(d_model)]

    @property
    def window(self) -> int | None:
        """The number of last steps that the logits depend on; None for all steps so far."""
        return None

    @property
    def settling_steps(self) -> int:
        """Steps after which a stream has used and reused all of these states; a proof goes beyond them."""
        return 0

    @property
    def alignment(self) -> int:
        """Two streams have the same bits if their starts are a multiple of so many steps apart."""
        return 1

    @property
    def memory(self) -> int | None:
        """So many steps before a step, and no others, affect the bits of its logits; None for all steps."""
        return self.window

    @property
    def native_window(self) -> int | None:
        """Its window in the native engine, in steps, 0 for all steps; None if the engine has no such
        pooling."""  # fmt: skip
        return None

    @property
    def full_steps(self) -> int | None:
        """Up to so many steps the logits equal those of the full graph; None if always."""
        return None

    def equals_full(self, steps: int) -> bool:
        """Whether the logits after ``steps`` steps equal those of the full graph."""
        return self.full_steps is None or steps <= self.full_steps

    def seen(self, steps: int) -> int:
        """The number of steps that the logits after ``steps`` steps depend on."""
        return steps if self.window is None else min(steps, self.window)


@dataclass(frozen=True)
class Cumulative(Pooling):
    """The mean of all steps so far."""

    name = "cumulative"
    usage = "cumulative for all steps"

    @classmethod
    def of(cls, argument: str) -> Cumulative | None:
        return None if argument else cls()

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        return tuple(_row(name, d_model) for name in ("pool_sum", "pool_sum_error"))

    def over(self, steps: int | None) -> Pooling:
        return self if steps is None else Window(steps)

    @property
    def native_window(self) -> int:
        return 0


@dataclass(frozen=True)
class Window(Pooling):
    """The mean of the last ``steps`` steps. The full graph takes the mean of the whole sequence."""

    name = "window"
    usage = f"window:N for the last N, 1 to {MAX_WINDOW:,}"

    steps: int

    @classmethod
    def of(cls, argument: str) -> Window | None:
        steps = _steps_of(argument)
        return None if steps is None else cls(steps)

    def __str__(self) -> str:
        return f"{self.name}:{self.steps}"

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        names = ("pool_sum", "pool_sum_error", "pool_block", "pool_block_error")
        shape = ("batch", 1, self.steps + 1, 2 * d_model)
        prefix = StateSpec(
            input="pool_prefix", output="next_pool_prefix", dtype="float32", shape=shape, in_place=True
        )
        return (*(_row(name, d_model) for name in names), prefix)

    def over(self, steps: int | None) -> Pooling:
        return CUMULATIVE.over(steps)

    @property
    def window(self) -> int:
        return self.steps

    @property
    def settling_steps(self) -> int:
        return 2 * self.steps

    @property
    def alignment(self) -> int:
        return self.steps  # of the blocks that the sums start in

    @property
    def memory(self) -> int:
        return 2 * self.steps  # the sums of the block before

    @property
    def native_window(self) -> int:
        return self.steps

    @property
    def full_steps(self) -> int:
        return self.steps


@dataclass(frozen=True)
class Max(Pooling):
    """The largest value of each channel in the last ``steps`` steps, or in all steps so far.

    The maximum of a window is that of two shorter windows, which may overlap: of the last 2^k steps, it is
    that of the last 2^(k-1), now and 2^(k-1) steps ago. So a window of N steps takes log2(N) maxima per step,
    rounded up, and the rings of the shorter windows have N rows in all.
    """

    name = of_kind = "max"
    usage = "max or max:N for the largest value"

    steps: int | None = None

    @classmethod
    def of(cls, argument: str) -> Max | None:
        steps = _steps_of(argument)
        return None if argument and steps is None else cls(steps)

    def __str__(self) -> str:
        return self.name if self.steps is None else f"{self.name}:{self.steps}"

    def over(self, steps: int | None) -> Pooling:
        return Max(steps)

    @property
    def delays(self) -> tuple[int, ...]:
        """How many steps ago the ring of each shorter window is read, of the shortest first."""
        reach, delays = 1, []
        while self.steps is not None and reach < self.steps:
            delays.append(min(reach, self.steps - reach))
            reach += delays[-1]
        return tuple(delays)

    @property
    def rings(self) -> list[str]:
        """The states of the shorter windows."""
        return [f"pool_max_{k:02d}" for k in range(len(self.delays))]

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        if self.steps is None:
            return (_row("pool_max", d_model),)
        return tuple(
            StateSpec(
                input=ring,
                output=f"next_{ring}",
                dtype="float32",
                shape=("batch", 1, delay + 1, d_model),
                in_place=True,
            )
            for ring, delay in zip(self.rings, self.delays, strict=True)
        )

    def sums(self, d_model: int) -> list[str]:
        return []

    @property
    def window(self) -> int | None:
        return self.steps

    @property
    def settling_steps(self) -> int:
        return 2 * (self.steps or 0)

    @property
    def native_window(self) -> int:
        return self.steps or 0

    @property
    def full_steps(self) -> int | None:
        return self.steps


@dataclass(frozen=True)
class Last(Pooling):
    """The features of the last step."""

    name = usage = of_kind = "last"

    @classmethod
    def of(cls, argument: str) -> Last | None:
        return None if argument else cls()

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        return ()

    @property
    def window(self) -> int:
        return 1

    @property
    def native_window(self) -> int:
        return 0


@dataclass(frozen=True)
class Concatenation(Pooling):
    """Several poolings of different kinds, side by side: the head reads (batch, parts * d_model)."""

    several: tuple[Pooling, ...]

    @classmethod
    def of(cls, argument: str) -> None:
        return None  # it is written as its parts

    def __str__(self) -> str:
        return "+".join(map(str, self.several))

    @property
    def parts(self) -> tuple[Pooling, ...]:
        return self.several

    @property
    def kind(self) -> str:
        return "+".join(part.kind for part in self.several)

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        return tuple(state for part in self.several for state in part.states(d_model))

    def over(self, steps: int | None) -> Pooling:
        return Concatenation(tuple(part.over(steps) for part in self.several))

    @property
    def window(self) -> int | None:
        windows = [part.window for part in self.several]
        return None if None in windows else max(window for window in windows if window is not None)

    @property
    def settling_steps(self) -> int:
        return max(part.settling_steps for part in self.several)

    @property
    def alignment(self) -> int:
        return math.lcm(*(part.alignment for part in self.several))

    @property
    def memory(self) -> int | None:
        spans = [part.memory for part in self.several]
        return None if None in spans else max(span for span in spans if span is not None)

    @property
    def native_window(self) -> int | None:
        # The engine has one window for all its poolings.
        windows = {part.native_window for part in self.several if part.over(None) != part.over(1)}
        return windows.pop() if len(windows) == 1 else None if windows else 0

    def sums(self, d_model: int) -> list[str]:
        return [name for part in self.several for name in part.sums(d_model)]

    @property
    def full_steps(self) -> int | None:
        return min((part.full_steps for part in self.several if part.full_steps is not None), default=None)


CUMULATIVE = Cumulative()
POOLINGS: dict[str, type[Pooling]] = {each.name: each for each in (Cumulative, Window, Max, Last)}


def parse_pooling(text: str) -> Pooling:
    """Read "cumulative", "window:N" (N in steps), "max", "last", or several such as "cumulative+max".

    "mean" is the same as "cumulative". Raises ConfigError.
    """
    parts = tuple(_parse_one(part) for part in text.split("+"))
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({part.kind for part in known}) < len(known):
        raise ConfigError(f"pool is {text!r}, expected {usages()}")
    return known[0] if len(known) == 1 else Concatenation(tuple(known))


def _parse_one(text: str) -> Pooling | None:
    name, colon, argument = text.partition(":")
    name = CUMULATIVE.name if name == CUMULATIVE.kind else name
    return POOLINGS[name].of(argument) if name in POOLINGS and bool(colon) == bool(argument) else None


def pooling_named(text: str) -> Pooling | None:
    """As :func:`parse_pooling`; None for "none", an output at every step."""
    return None if text == NO_POOLING else parse_pooling(text)


def pooled_as(own: Pooling, other: Pooling) -> Pooling:
    """``other`` for a network that was trained with ``own``: "window:N" is a window of any kind.

    Raises ConfigError for a pooling of another kind.
    """
    if own.kind != other.kind and isinstance(other, Window) and own.over(other.steps) != own.over(None):
        return own.over(other.steps)
    if own.kind != other.kind:
        raise ConfigError(f"pool is {other}, but this network was trained with pooling by {own.kind}")
    return other


def usages() -> str:
    """How every pooling is written, for messages and help."""
    each = " or ".join(kind.usage for kind in POOLINGS.values())
    return f"{each}; several are joined by '+', such as cumulative+max"


def _steps_of(argument: str) -> int | None:
    """The steps of a window; None for an invalid argument."""
    valid = re.fullmatch("[0-9]{1,9}", argument) and 1 <= int(argument) <= MAX_WINDOW
    return int(argument) if valid else None


def _row(name: str, d_model: int) -> StateSpec:
    return StateSpec(input=name, output=f"next_{name}", dtype="float32", shape=("batch", d_model))
