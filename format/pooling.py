"""Pooling over time: the steps that the logits of a classifier's stream depend on, and how.

Each kind is a class here, entered in :data:`POOLINGS`. Its PyTorch reference is in
:mod:`multires_edge.models.pooling`, its graphs are in :mod:`multires_edge.export.graphs.pooling`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from multires_edge.base.errors import ConfigError
from multires_edge.format.specs import StateSpec

MAX_WINDOW = 1 << 20  # three hours at 100 Hz


@dataclass(frozen=True)
class Pooling(ABC):
    """How the features of a stream are pooled before the head. ``str`` gives what `parse_pooling` reads."""

    name: ClassVar[str]
    usage: ClassVar[str]  # how to write it, for messages

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
    def window(self) -> int | None:
        """The number of last steps that the logits depend on; None for all steps so far."""
        return None

    @property
    def settling_steps(self) -> int:
        """Steps after which a stream has used and reused all of these states; a proof goes beyond them."""
        return 0

    @property
    def native_window(self) -> int | None:
        """Its window in the native engine, in steps, 0 for all steps; None if the engine has no such
        pooling."""  # fmt: skip
        return None

    def equals_full(self, steps: int) -> bool:
        """Whether the logits after ``steps`` steps equal those of the full graph."""
        return True

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
        valid = re.fullmatch("[0-9]{1,9}", argument) and 1 <= int(argument) <= MAX_WINDOW
        return cls(int(argument)) if valid else None

    def __str__(self) -> str:
        return f"{self.name}:{self.steps}"

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        names = ("pool_sum", "pool_sum_error", "pool_block", "pool_block_error")
        shape = ("batch", 1, self.steps + 1, 2 * d_model)
        prefix = StateSpec(
            input="pool_prefix", output="next_pool_prefix", dtype="float32", shape=shape, in_place=True
        )
        return (*(_row(name, d_model) for name in names), prefix)

    @property
    def window(self) -> int:
        return self.steps

    @property
    def settling_steps(self) -> int:
        return 2 * self.steps

    @property
    def native_window(self) -> int:
        return self.steps

    def equals_full(self, steps: int) -> bool:
        return steps <= self.steps


CUMULATIVE = Cumulative()
POOLINGS: dict[str, type[Pooling]] = {kind.name: kind for kind in (Cumulative, Window)}


def parse_pooling(text: str) -> Pooling:
    """Read "cumulative" or "window:N", N in steps. Raises ConfigError."""
    name, colon, argument = text.partition(":")
    pooling = POOLINGS[name].of(argument) if name in POOLINGS and bool(colon) == bool(argument) else None
    if pooling is None:
        raise ConfigError(f"pool is {text!r}, expected {usages()}")
    return pooling


def usages() -> str:
    """How every pooling is written, for messages and help."""
    return " or ".join(kind.usage for kind in POOLINGS.values())


def _row(name: str, d_model: int) -> StateSpec:
    return StateSpec(input=name, output=f"next_{name}", dtype="float32", shape=("batch", d_model))
