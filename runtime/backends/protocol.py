"""What a backend offers: a step and a full sequence. Nothing else knows how it runs them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Protocol

from numpy.typing import NDArray


class Outcome(IntEnum):
    """What a step found when it looked at the values."""

    DONE = 0
    BAD_INPUT = 1  # not finite, or a token out of range; the state is as it was
    BAD_OUTPUT = 2  # not finite, although the inputs were


class Stepper(Protocol):
    """Streams with their state, for a fixed batch. Not for several threads at once.

    A step reads ``input`` (batch, ...), which the caller fills, and leaves its result in ``output``
    (batch, d_output): two arrays for ever, so that no call has to take one apart.
    """

    input: NDArray[Any]
    output: NDArray[Any]

    def step(self) -> int:
        """Feed ``input``; returns an Outcome's value."""

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Feed dense samples (steps, batch, ...); returns the outputs (steps, batch, d_output)."""

    def reset(self, rows: Sequence[int] | None) -> None:
        """Zero the state of some rows of the batch, or of all."""

    def read_state(self) -> dict[str, NDArray[Any]]:
        """Copies of all states, by the input names of the step graph."""

    def write_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Replace all states; shapes and dtypes have been checked."""


class Runner(Protocol):
    """Whole sequences. May be called by several threads at once."""

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Run a whole sequence, by the full graph's input names; returns the output."""
