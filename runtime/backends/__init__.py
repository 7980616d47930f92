"""Ways to run a bundle's graphs. A backend offers a step and a full sequence; nothing else knows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from multires_edge.runtime.errors import BackendError
from multires_edge.runtime.manifest import GraphSpec

BACKENDS = ("onnxruntime",)


class Stepper(Protocol):
    """A step graph with its state, for a fixed batch. Not for several threads at once."""

    def step(self, sample: NDArray[Any]) -> NDArray[Any]:
        """Feed one sample; returns the output, valid until the next call."""

    def reset(self, rows: Sequence[int] | None) -> None:
        """Zero the state of some rows of the batch, or of all."""

    def read_state(self) -> dict[str, NDArray[Any]]:
        """Copies of all states, by input name."""

    def write_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Replace all states; shapes and dtypes have been checked."""


class Runner(Protocol):
    """A full graph. May be called by several threads at once."""

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Run a whole sequence; returns the output."""


def make_stepper(
    backend: str, path: Path, spec: GraphSpec, batch: int, threads: int, provider: str | None
) -> Stepper:
    """Make the stepper of a backend. Raises BackendError for one that is not here."""
    _check_name(backend)
    from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeStepper

    return OnnxRuntimeStepper(path, spec, batch, threads, provider)


def make_runner(
    backend: str, path: Path, spec: GraphSpec, threads: int | None, provider: str | None
) -> Runner:
    """Make the runner of a backend. Raises BackendError for one that is not here."""
    _check_name(backend)
    from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(path, spec, threads, provider)


def _check_name(backend: str) -> None:
    if backend not in ("auto", *BACKENDS):
        raise BackendError(
            f"backend {backend!r} is not in this release; expected auto or {', '.join(BACKENDS)}"
        )
