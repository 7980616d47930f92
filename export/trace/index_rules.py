"""Rules for operators that choose, repeat and replace channels, and for windows over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from multires_edge.export.trace.axis_rules import AxisRules
from multires_edge.export.trace.program import BATCH, MERGED, Operator, Ref
from multires_edge.export.trace.tracing import refusal
from multires_edge.export.trace.values import Fill, path_of

aten = torch.ops.aten

_ALL = 2**62  # PyTorch has the largest integer for "to the end"


def take(x: torch.Tensor, axis: int, places: Sequence[int]) -> torch.Tensor:
    """The elements of an axis at these places."""
    return x.index_select(axis, torch.tensor(places))


class IndexRules(AxisRules):
    """Operators that choose elements of an axis."""

    def _taken(self, node: fx.Node, x: Ref, axis: int, places: Sequence[int], name: str = "") -> Ref:
        signal = self._signal(x)
        axis %= len(signal.layout.shape)
        if axis == signal.layout.axis or signal.layout.shape[axis] in (BATCH, MERGED):
            raise refusal(node, "moves steps, or the streams of a batch")
        shape = (*signal.layout.shape[:axis], len(places), *signal.layout.shape[axis + 1 :])
        layout = replace(signal.layout, shape=shape)
        return self._piece(name or path_of(node), "take", take, (x, axis, tuple(places)), layout)

    def index(self, node: fx.Node, x: Ref, indices: Sequence[Any]) -> Ref:
        given = [(axis, each) for axis, each in enumerate(indices) if each is not None]
        if len(given) != 1 or not isinstance(given[0][1], torch.Tensor) or given[0][1].dim() != 1:
            raise refusal(node, "reads by several indices, or by values of the input")
        ((axis, index),) = given
        places = index.nonzero()[:, 0] if index.dtype == torch.bool else index
        return self._taken(node, x, axis, self._counted(x, axis, places))

    def index_select(self, node: fx.Node, x: Ref, axis: int, index: Any) -> Ref:
        if not isinstance(index, torch.Tensor):
            raise refusal(node, "reads by values of the input")
        return self._taken(node, x, axis, self._counted(x, axis, index))

    def _counted(self, x: Ref, axis: int, index: torch.Tensor) -> list[int]:
        size = self._signal(x).layout.shape[axis]
        return [place % size if isinstance(size, int) else place for place in index.reshape(-1).tolist()]

    def flip(self, node: fx.Node, x: Ref, axes: Sequence[int]) -> Ref:
        for axis in axes:
            if self._is_time(x, axis):
                raise refusal(node, "turns time around")
            x = self._taken(node, x, axis, self._all(x, axis)[::-1], f"{path_of(node)}/{axis}")
        return x

    def roll(self, node: fx.Node, x: Ref, shifts: Sequence[int], axes: Sequence[int] = ()) -> Ref:
        if not axes or any(self._is_time(x, axis) for axis in axes):
            raise refusal(node, "moves the last steps to the start")
        for axis, shift in zip(axes, shifts, strict=True):
            places = self._all(x, axis)
            places = [places[(i - shift) % len(places)] for i in range(len(places))]
            x = self._taken(node, x, axis, places, f"{path_of(node)}/{axis}")
        return x

    def _is_time(self, x: Ref, axis: int) -> bool:
        layout = self._signal(x).layout
        return axis % len(layout.shape) == layout.axis

    def repeat(self, node: fx.Node, x: Ref, counts: Sequence[Any]) -> Ref:
        layout = self._signal(x).layout
        if len(counts) != len(layout.shape):
            raise refusal(node, "adds axes; call unsqueeze before it")
        path = path_of(node)
        for axis, count in enumerate(counts):
            if count != 1:
                x = self._taken(node, x, axis, self._all(x, axis) * int(count), f"{path}/{axis}")
        return x

    def repeat_interleave(self, node: fx.Node, x: Ref, count: Any, axis: Any = None, **_: Any) -> Ref:
        if not isinstance(count, int) or axis is None:
            raise refusal(node, "repeats by values of the input, or over all axes")
        return self._taken(node, x, axis, [place for place in self._all(x, axis) for _ in range(count)])

    def _all(self, x: Ref, axis: int) -> list[int]:
        size = self._signal(x).layout.shape[axis]
        return list(range(size)) if isinstance(size, int) else []

    def copy(self, node: fx.Node, old: Any, x: Any, *_: Any) -> Ref:
        """All values of ``old`` replaced by those of ``x``."""
        return self.expand(node, x)

    def slice_scatter(
        self,
        node: fx.Node,
        x: Ref,
        part: Any,
        axis: int = 0,
        start: Any = None,
        end: Any = None,
        step: int = 1,
    ) -> Ref:
        """Some channels of ``x`` replaced by ``part``."""
        layout = self._signal(x).layout
        axis %= len(layout.shape)
        size = layout.shape[axis]
        if not start and (end is None or end >= _ALL):
            return self.copy(node, x, part)
        if not isinstance(size, int) or not isinstance(part, Ref) or step != 1:
            raise refusal(node, "replaces some steps, or by a constant; join the parts by torch.cat")
        first, last, _ = slice(start, end).indices(size)
        pieces, path = [part], path_of(node)
        if first > 0:
            pieces.insert(0, self._taken(node, x, axis, range(first), f"{path}/before"))
        if last < size:
            pieces.append(self._taken(node, x, axis, range(last, size), f"{path}/behind"))
        return self._side_by_side(node, self._aligned(node, pieces), axis)

    def select_scatter(self, node: fx.Node, x: Ref, part: Ref, axis: int, index: int) -> Ref:
        layout = self._signal(x).layout
        axis %= len(layout.shape)
        if not isinstance(size := layout.shape[axis], int):
            raise refusal(node, "replaces a step, or a stream of the batch")
        lone = replace(layout, shape=(*layout.shape[:axis], 1, *layout.shape[axis + 1 :]))
        row = self._reshaped(node, part, lone, f"{path_of(node)}/row")
        return self.slice_scatter(node, x, row, axis, index % size, index % size + 1)

    def unfold(self, node: fx.Node, x: Ref, axis: int, size: int, step: int) -> Ref:
        """Windows over time: a value of each delay, on a new last axis."""
        if axis % len(self._signal(x).layout.shape) != self._signal(x).layout.axis or step != 1:
            raise refusal(node, "takes windows over another axis than time, or not at every step")
        path = path_of(node)
        pieces = [self._cut(node, x, k, size - 1 - k, f"{path}/cut_{k}") for k in range(size)]
        return self.stack(node, pieces, -1)

    def counted(self, node: fx.Node, fill: Fill) -> Ref:
        """The same number at each step of each stream, as a value (batch, 1, time)."""
        path, shape = path_of(node), fill.layout.shape
        for name in self.trace.inputs:
            given = self.signals[name].layout
            if given.dtype.is_floating_point and len(given.shape) == len(shape) == 3 and shape[1] == 1:
                ref = self._taken(node, Ref(name), 1, [0], f"{path}/channel")
                signal = self._signal(ref)
                for what, target, number in (
                    ("mul", aten.mul.Tensor, 0.0),
                    ("add", aten.add.Tensor, fill.value),
                ):
                    ref = self._emit(Operator(f"{path}/{what}", what, target, (ref, number)), signal)
                return ref
        raise refusal(node, "counts steps; write torch.ones_like(x[:, :1]).cumsum(-1), of an input x")
