"""The interface of a backend, and of the steppers and runners that it makes."""

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
    """The result of a step's check of its values."""

    DONE = 0
    BAD_INPUT = 1  # not finite, or a token out of range; the state is unchanged
    BAD_OUTPUT = 2  # not finite, although the inputs were


class Stepper(Protocol):
    """Streams with their states, for a fixed batch. Only one thread may call it at a time.

    The caller fills ``input`` (batch, ...); a step writes its result to ``output`` (batch, d_output). Both
    arrays stay the same objects, so callers may keep references to them.
    """

    input: NDArray[Any]
    output: NDArray[Any]

    def step(self) -> int:
        """Run one step on ``input``. Returns a value of Outcome."""

    def prepare(self) -> None:
        """Do all of the next step that does not depend on its sample, or nothing. No result changes."""
        return

    def commit(self) -> None:
        """Do what a step after :meth:`prepare` has left. Every other call does it too."""
        return

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Run dense samples (steps, batch, ...). Returns the outputs (steps, batch, d_output)."""

    def reset(self, rows: Sequence[int] | None) -> None:
        """Set the states of ``rows`` of the batch, or of all rows, to zero."""

    def read_state(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        """Copies of the states of ``rows``, or of all rows, by the input names of the step graph."""

    def write_state(self, arrays: dict[str, NDArray[Any]], rows: Sequence[int] | None = None) -> None:
        """Replace the states of ``rows``, or of all rows. The caller has checked shapes and dtypes."""


class Runner(Protocol):
    """Runs whole sequences. Several threads may call it at the same time."""

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Run whole sequences: ``feeds`` has an array per input of the full graph. Returns the output."""


@dataclass(frozen=True)
class RunOptions:
    """How a backend runs a graph.

    With ``threads`` None the backend chooses the number. ``pooling`` replaces the bundle's pooling.
    """

    precision: str = "fp32"
    threads: int | None = None
    provider: str | None = None
    provider_options: Mapping[str, str] | None = None
    pooling: Pooling | None = None


def index_of(rows: Sequence[int] | None) -> slice | list[int]:
    """The index of ``rows``, or of all rows, in the arrays of a batch."""
    return slice(None) if rows is None else list(rows)


def copy_of(array: NDArray[Any], rows: Sequence[int] | None) -> NDArray[Any]:
    """A copy of ``rows``, or of all rows, of an array of a batch."""
    return array.copy() if rows is None else array[index_of(rows)]


class Backend(ABC):
    """A way to run bundles. Importing its module is cheap: :meth:`load` imports the library.

    ``ability`` is shown by `multires-edge doctor`. ``checked_as`` is the name of its streams in `verify` and
    in the parity proof; with None they skip the backend. The proof also skips it with ``needs_gpu``: a proof
    must not depend on the machine. With ``runs_graphs`` it runs the bundle's ONNX graphs in any form.
    ``takes`` has the options that it supports, of "threads" and "provider".
    ``place`` names where it runs without these options.
    """

    name: ClassVar[str]
    ability: ClassVar[str]
    checked_as: ClassVar[str | None] = None
    runs_graphs: ClassVar[bool] = False
    needs_gpu: ClassVar[bool] = False
    whole_sequences: ClassVar[bool] = True
    changes_pooling: ClassVar[bool] = False
    takes: ClassVar[frozenset[str]] = frozenset()
    place: ClassVar[str] = "one thread of the CPU"

    @abstractmethod
    def missing(self) -> str | None:
        """The missing requirement and how to install it; None if the backend can run on this machine."""

    def unable(self, folder: Path, manifest: Manifest) -> str | None:
        """Why the backend cannot run a bundle here, and what to install; None if it can."""
        return self.missing()

    @abstractmethod
    def load(self) -> None:
        """Import the backend's library. Raises BackendError or MissingExtraError."""

    @abstractmethod
    def precisions(self, folder: Path, manifest: Manifest) -> Collection[str]:
        """The precisions in which the backend can run a bundle."""

    @abstractmethod
    def make_stepper(self, folder: Path, manifest: Manifest, batch: int, options: RunOptions) -> Stepper:
        """Make streams with zero states. Raises BackendError or BundleError."""

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> Runner:
        """Load the full graph. Raises BackendError or BundleError."""
        raise BackendError(f"backend {self.name!r} runs only streams")

    def step_timer(self, folder: Path, manifest: Manifest, precision: str) -> StepTimer | None:
        """A timer of single streams without Python's overhead; None if the backend has no timer."""
        return None

    def refusal(self, options: RunOptions) -> str | None:
        """Why the backend does not support these options; None if it supports them."""
        asked = {"threads": options.threads not in (None, 1), "provider": options.provider is not None}
        refused = [name for name in asked if asked[name] and name not in self.takes]
        if not refused:
            return None
        return f"the {self.name} backend does not support {refused[0]}: it runs on {self.place}"
