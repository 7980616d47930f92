"""What runs a graph: everything but a backend itself knows no more than this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .kit import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StepRunner(Protocol):
    """``batch`` streams of a step graph. All states are zeros at first."""

    def step(self, x: NDArray[Any]) -> NDArray[Any]:
        """Feed (batch, ...); returns the output (batch, d_output)."""

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Zero every state of some rows, or of all."""

    def read(self) -> dict[str, NDArray[Any]]:
        """All states, by the input that takes them at the next step."""

    def capture(self) -> bool:
        """Replay recorded work from now on (a CUDA graph), from zeros; False where there is no such thing."""

    def close(self) -> None:
        """Give the memory back."""


class FullRunner(Protocol):
    """The full graph."""

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Run whole sequences, by input name; returns the output."""


class Backend(Protocol):
    """A way to run the kit's graphs. Everything but this is the same for all."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Versions and device."""

    def step_runner(self, graph: Graph, batch: int) -> StepRunner:
        """Make ``batch`` streams."""

    def full_runner(self, graph: Graph) -> FullRunner:
        """Load the full graph."""


def shape_of(spec: dict[str, Any], batch: int) -> tuple[int, ...]:
    """A tensor's shape for so many streams."""
    return tuple(batch if isinstance(size, str) else size for size in spec["shape"])
