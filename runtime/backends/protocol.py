"""What a backend is, and what it makes: steppers and runners. Nothing else knows how it runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError
from multires_edge.format.manifest import Manifest
from multires_edge.format.pooling import Pooling

# Takes samples (n, batch, ...), steps through them, and returns the seconds of each step (n,).
StepTimer = Callable[[NDArray[Any]], NDArray[np.float64]]


class Outcome(IntEnum):
    """What a step found when it looked at the values."""

    DONE = 0
    BAD_INPUT = 1  # not finite, or a token out of range; the state is as it was
    BAD_OUTPUT = 2  # not finite, although the inputs were


class Stepper(Protocol):
    """Streams with their state, for a fixed batch. Not for several threads at once.

    A step reads ``input`` (batch, ...), which the caller fills, and leaves its result in ``output``
    (batch, d_output). Both arrays stay the same, so that no call has to look them up.
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


@dataclass(frozen=True)
class RunOptions:
    """How a backend runs a graph.

    ``threads`` None leaves the number to the backend. ``pooling`` is one other than the bundle's.
    """

    precision: str = "fp32"
    threads: int | None = None
    provider: str | None = None
    provider_options: Mapping[str, str] | None = None
    pooling: Pooling | None = None


class Backend(ABC):
    """A way to run bundles. Importing its module is cheap; :meth:`load` imports what it runs with.

    ``ability`` says what it does, for `multires-edge doctor`. ``checked_as`` is what `verify` and the proof
    call its streams, None where they leave it out. ``runs_graphs`` says that it runs the bundle's ONNX
    graphs in any of their forms. ``takes`` names the options that it takes, of "threads" and "provider";
    without them it runs on ``place``.
    """

    name: ClassVar[str]
    ability: ClassVar[str]
    checked_as: ClassVar[str | None] = None
    runs_graphs: ClassVar[bool] = False
    whole_sequences: ClassVar[bool] = True
    changes_pooling: ClassVar[bool] = False
    takes: ClassVar[frozenset[str]] = frozenset()
    place: ClassVar[str] = "one thread of the CPU"

    @abstractmethod
    def missing(self) -> str | None:
        """What this machine lacks to run it and how to get it; None if it can run."""

    @abstractmethod
    def load(self) -> None:
        """Import the library that it runs with. Raises BackendError or MissingExtraError."""

    @abstractmethod
    def precisions(self, folder: Path, manifest: Manifest) -> Collection[str]:
        """The precisions in which it can run a bundle."""

    @abstractmethod
    def make_stepper(self, folder: Path, manifest: Manifest, batch: int, options: RunOptions) -> Stepper:
        """Streams that start at zero. Raises BackendError or BundleError."""

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> Runner:
        """Whole sequences. Raises BackendError or BundleError."""
        raise BackendError(f"backend {self.name!r} runs streams only")

    def step_timer(self, folder: Path, manifest: Manifest, precision: str) -> StepTimer | None:
        """A timer of single streams that leaves Python out; None if the backend has no such clock."""
        return None

    def refusal(self, options: RunOptions) -> str | None:
        """Why it does not take these options; None if it does."""
        asked = {"threads": options.threads not in (None, 1), "provider": options.provider is not None}
        refused = [name for name in asked if asked[name] and name not in self.takes]
        return f"the {self.name} backend takes no {refused[0]}: it runs on {self.place}" if refused else None
