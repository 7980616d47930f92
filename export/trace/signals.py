"""What is known of a value in a trace: its axes, and which step of it a stream has at which time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from multires_edge.base.errors import ModuleError
from multires_edge.export.trace.program import BATCH, MERGED, TIME, Layout


@dataclass(frozen=True)
class Signal:
    """A value that depends on the inputs.

    A stream that has read t + 1 steps has element t + ``shift`` of the value, which has ``layout.extra`` more
    elements than the inputs. So the last element is there as soon as ``shift`` is ``extra``. With less, the
    value waits for the future; ``cause`` is the error for that. ``before`` is what all elements before
    ``shift`` are, with sizes of 1 for batch and time; None for zeros. ``reach`` is the number of past steps
    that an element depends on.
    """

    layout: Layout
    shift: int = 0
    before: torch.Tensor | None = None
    reach: int = 0
    cause: ModuleError | None = None

    @property
    def complete(self) -> bool:
        """Whether the last element of the whole value is there as soon as the last input is read."""
        return self.shift == self.layout.extra

    @property
    def past(self) -> torch.Tensor:
        """``before`` as a tensor."""
        if self.before is not None:
            return self.before
        return torch.zeros(self.layout.sizes(1), dtype=self.layout.dtype)

    def at(self, layout: Layout) -> Signal:
        """The signal of another value with the same timing and no values before the first step."""
        return replace(self, layout=layout, before=None)


class Symbols:
    """Reads the shapes of a trace. The sizes of batch and time are symbols in them, so no size is guessed."""

    def __init__(self, batches: frozenset[Any], times: frozenset[Any]) -> None:
        self.batches, self.times = batches, times

    def layout(self, value: torch.Tensor) -> Layout:
        """The layout of a traced value. Raises ValueError for a size that is neither batch nor time."""
        shape: list[int | str] = []
        extra = 0
        sizes: tuple[Any, ...] = tuple(value.shape)
        for size in sizes:
            if isinstance(size, int):
                shape.append(size)
                continue
            kind, more = self._kind(size.node.expr)
            shape.append(kind)
            extra = more if kind in (TIME, MERGED) else extra
        if sum(size in (TIME, MERGED) for size in shape) > 1:
            raise ValueError("relates all steps to all steps, as attention does")
        return Layout(tuple(shape), value.dtype, extra)

    def steps_after(self, size: Any) -> int | None:
        """How many more steps than the inputs a symbolic number is; None if it is another number."""
        expression = getattr(getattr(size, "node", None), "expr", None)
        for time in self.times:
            if expression is not None and (expression - time).is_Integer:
                return int(expression - time)
        return None

    def _kind(self, expression: Any) -> tuple[str, int]:
        if expression in self.batches:
            return BATCH, 0
        for time in self.times:
            if (expression - time).is_Integer:
                return TIME, int(expression - time)
            for batch in self.batches:
                rest = (expression / batch).expand() - time
                if rest.is_Integer:
                    return MERGED, int(rest)
        raise ValueError(
            f"makes an axis of size {expression}: it strides, pools or interleaves steps, and a stream "
            "has one output for each step"
        )


def places(layout: Layout) -> tuple[Any, Any]:
    """The distance of two neighbours in time, and in the batch: a reshape that keeps both keeps the order."""
    time = batch = None
    inner: tuple[int, int, int] = (1, 0, 0)  # a product of a number, batches and times
    for size in reversed(layout.shape):
        number, batches, times = inner
        if size == TIME:
            time, inner = inner, (number, batches, times + 1)
        elif size == BATCH:
            batch, inner = inner, (number, batches + 1, times)
        elif size == MERGED:
            time, batch = inner, (number, batches, times + 1)
            inner = (number, batches + 1, times + 1)
        else:
            inner = (number * int(size), batches, times)
    return time, batch
