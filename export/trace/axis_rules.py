"""Rules for operators that move, split and join axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from multires_edge.export.trace.program import MERGED, Layout, Operator, Ref, Reshape
from multires_edge.export.trace.signals import places
from multires_edge.export.trace.time_rules import TimeRules
from multires_edge.export.trace.tracing import base_name, refusal
from multires_edge.export.trace.values import Fill, path_of

aten = torch.ops.aten

OF_A_TABLE = (
    "takes as much of a table as there are steps: a stream has no last step, and would run over the end of a "
    "table of positions"
)


class AxisRules(TimeRules):
    """Operators on the axes of a value."""

    def cat(self, node: fx.Node, parts: Sequence[Any], axis: int = 0) -> Ref:
        layout = self._layout(node)
        axis %= len(layout.shape)
        if layout.axis == axis:
            return self._cat_over_time(node, parts)
        if not all(isinstance(each, Ref) for each in parts):
            raise refusal(node, "puts constants beside values of the input")
        return self._side_by_side(node, self._aligned(node, parts), axis)

    def _side_by_side(self, node: fx.Node, parts: Sequence[Ref], axis: int) -> Ref:
        """Values of the same time, joined along an axis."""
        signal = replace(self._joined(parts), layout=self._layout(node))
        instruction = Operator(path_of(node), "cat", aten.cat.default, (tuple(parts), axis))
        if signal.shift > 0 and signal.layout.axis is not None:
            past = [self._signal(each).past for each in parts]
            signal = replace(signal, before=torch.cat(past, axis))
        return self._emit(instruction, signal)

    def _cat_over_time(self, node: fx.Node, parts: Sequence[Any]) -> Ref:
        if len(parts) == 2 and sum(isinstance(each, Ref) for each in parts) == 1:
            first = isinstance(parts[0], Ref)
            x, fill = parts if first else reversed(parts)
            if isinstance(fill, torch.Tensor) and len(torch.unique(fill)) == 1:
                fill = Fill(Layout(tuple(fill.shape), fill.dtype), float(fill.flatten()[0]))
            axis = self._signal(x).layout.axis
            if (
                isinstance(fill, Fill)
                and axis is not None
                and isinstance(steps := fill.layout.shape[axis], int)
            ):
                return self._pad(node, x, 0 if first else steps, steps if first else 0, fill.value)
        raise refusal(node, "puts steps in front of others; pad with a constant instead")

    def stack(self, node: fx.Node, parts: Sequence[Any], axis: int = 0) -> Ref:
        layout = self._layout(node)
        axis %= len(layout.shape)
        if not all(isinstance(each, Ref) for each in parts):
            raise refusal(node, "puts constants beside values of the input")
        lone = replace(layout, shape=(*layout.shape[:axis], 1, *layout.shape[axis + 1 :]))
        columns = [
            self._reshaped(node, each, lone, f"{path_of(node)}/{i}")
            for i, each in enumerate(self._aligned(node, parts))
        ]
        return self._side_by_side(node, columns, axis)

    def reshape(self, node: fx.Node, x: Ref, *_: Any, **__: Any) -> Ref:
        return self._reshaped(node, x, self._layout(node), path_of(node))

    def _reshaped(self, node: fx.Node, x: Ref, layout: Layout, name: str) -> Ref:
        given = self._signal(x)
        if layout.shape == given.layout.shape:
            return x
        if given.layout.axis is not None and places(layout) != places(given.layout):
            raise refusal(node, "mixes steps or streams with the other axes")
        before = given.before
        if before is not None:
            before = before.reshape(layout.sizes(1))
        return self._emit(Reshape(name, x), replace(given, layout=layout, before=before))

    def permute(self, node: fx.Node, x: Ref, *given: Any) -> Ref:
        layout = self._signal(x).layout
        axes = list(range(len(layout.shape)))
        if base_name(node.target) == "permute":
            axes = [axis % len(axes) for axis in given[0]]
        else:
            first, second = given or (0, 1)
            axes[first], axes[second] = axes[second], axes[first]
        if MERGED in layout.shape and axes[0] != 0:
            raise refusal(node, "moves an axis of both batch and time")
        signal = self._signal(x)
        before = None if signal.before is None else signal.before.permute(axes)
        instruction = Operator(path_of(node), "permute", aten.permute.default, (x, axes))
        return self._emit(instruction, replace(signal, layout=self._layout(node), before=before))

    def expand(self, node: fx.Node, x: Any, *_: Any, **__: Any) -> Ref:
        layout = self._layout(node)
        if not isinstance(x, Ref):
            raise refusal(node, "copies a constant to every step or row; leave its axis at size 1 instead")
        signal = self._signal(x)
        if layout.shape == signal.layout.shape:
            return x
        if layout.axis is not None and signal.layout.axis is None:
            raise refusal(node, "combines a value of all steps with every step, as a norm over time does")
        before = None if signal.before is None else signal.before.expand(layout.sizes(1))
        instruction = Operator(path_of(node), "expand", None, (x,))
        return self._emit(instruction, replace(signal, layout=layout, before=before))

    def split(self, node: fx.Node, x: Ref, *args: Any, **options: Any) -> tuple[Any, ...]:
        parts, name = node.meta["val"], base_name(node.target)
        position = 0 if name == "unbind" else 1
        layout = self._signal(x).layout
        axis = int(args[position] if len(args) > position else options.get("dim", 0)) % len(layout.shape)
        if axis == layout.axis:
            raise refusal(node, "takes time apart")
        refs, start = [], 0
        for i, part in enumerate(parts):
            at, shape = f"{path_of(node)}/{i}", self.symbols.layout(part)
            if name == "unbind":
                refs.append(self._piece(at, "select", aten.select.int, (x, axis, i), shape))
                continue
            end = start + int(part.shape[axis])
            refs.append(self._piece(at, "slice", aten.slice.Tensor, (x, axis, start, end), shape))
            start = end
        return tuple(refs)

    def _piece(self, name: str, kind: str, target: Any, args: tuple[Any, ...], layout: Layout) -> Ref:
        signal = self._signal(args[0])
        before = None if signal.before is None else target(signal.before, *args[1:])
        return self._emit(Operator(name, kind, target, args), replace(signal, layout=layout, before=before))

    def select(self, node: fx.Node, x: Ref, axis: int, index: int) -> Ref:
        signal = self._signal(x)
        axis %= len(signal.layout.shape)
        if axis != signal.layout.axis:
            return self._piece(path_of(node), "select", aten.select.int, (x, axis, index), self._layout(node))
        if index != -1 and self.symbols.steps_after(index) != signal.layout.extra - 1:
            raise refusal(node, f"reads step {index} of the whole sequence")
        return self._pool(node, x, "last", keep=False)

    def slice(
        self,
        node: fx.Node,
        x: Ref | torch.Tensor,
        axis: int = 0,
        start: Any = None,
        end: Any = None,
        step: int = 1,
    ) -> Ref:
        if isinstance(x, torch.Tensor):
            raise refusal(node, OF_A_TABLE)
        signal, layout = self._signal(x), self._layout(node)
        given = signal.layout
        axis %= len(given.shape)
        if layout.shape == given.shape and layout.extra == given.extra:
            return x
        if axis != given.axis:
            end = min(int(end), int(given.shape[axis])) if end is not None else given.shape[axis]
            how = (x, axis, start or 0, end, step)
            return self._piece(path_of(node), "slice", aten.slice.Tensor, how, layout)
        if step != 1:
            raise refusal(node, f"takes every {step}th step")
        if layout.axis is None:
            last = start == -1 or self.symbols.steps_after(start) == given.extra - 1
            if last and layout.shape[axis] == 1:
                return self._pool(node, x, "last", keep=True)
            raise refusal(node, "keeps steps at a fixed place of the sequence")
        first = int(start or 0)
        if first < 0:
            raise refusal(node, "keeps steps at a fixed place of the sequence")
        return self._cut(node, x, first, given.extra - first - layout.extra)
