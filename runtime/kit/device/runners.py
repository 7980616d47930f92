"""The interface of a backend: all that the rest of the kit knows about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from multires_edge.format.specs import Shape

from .kit import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StepRunner(Protocol):
    """``batch`` streams of a step graph. All states start as zeros."""

    def step(self, x: NDArray[Any]) -> NDArray[Any]:
        """Run one step on (batch, ...). Returns the output (batch, d_output)."""

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Set every state of ``rows``, or of all rows, to zero."""

    def read(self) -> dict[str, NDArray[Any]]:
        """All states, by the name of the graph's input."""

    def capture(self) -> bool:
        """Reset, and run later steps by a CUDA graph. Returns False if the backend has no CUDA graphs."""

    def close(self) -> None:
        """Free the memory."""


class FullRunner(Protocol):
    """The full graph."""

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Run whole sequences: ``feeds`` has an array per input name. Returns the output."""


class Backend(Protocol):
    """A way to run the kit's graphs."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Versions and facts about the device."""

    def step_runner(self, graph: Graph, batch: int) -> StepRunner:
        """Make ``batch`` streams."""

    def full_runner(self, graph: Graph) -> FullRunner:
        """Load the full graph."""


def shape_of(shape: Shape, batch: int) -> tuple[int, ...]:
    """The shape of a tensor for ``batch`` streams."""
    return tuple(batch if isinstance(size, str) else size for size in shape)
