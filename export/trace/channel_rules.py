"""Rules for operators that treat every step alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from multires_edge.export.trace.executor import run_operator
from multires_edge.export.trace.program import Delay, Operator, Ref
from multires_edge.export.trace.signals import Signal
from multires_edge.export.trace.tracing import base_name, refusal
from multires_edge.export.trace.values import Values, path_of

aten = torch.ops.aten
# What operators along an axis do, for the message if it is time.
ALONG = {
    "softmax": "takes a softmax", "log_softmax": "takes a softmax", "_softmax": "takes a softmax",
    "_log_softmax": "takes a softmax", "glu": "gates", "linalg_vector_norm": "takes a norm",
}  # fmt: skip


class ChannelRules(Values):
    """Operators on the values of one step."""

    def operator(self, node: fx.Node, *args: Any, **options: Any) -> Ref:
        """An operator as it is, on values of the same time."""
        args = tuple(self._operand(node, each) for each in args)
        layout = self._layout(node)
        timed = [each for each in args if isinstance(each, Ref) and self._timed(each)]
        if not timed:
            return self._apply(node, layout, Signal(layout, reach=self._reach(args)), args, options)
        for each in args:
            if isinstance(each, Ref) and each.name in self.signals and each not in timed:
                raise refusal(node, "combines a value of all steps with every step, as a norm over time does")
        self._same_axis(node, timed)
        shift = min(self._signal(each).shift for each in timed)
        args = tuple(
            self._delay(each, self._signal(each).shift - shift)
            if each in timed and self._signal(each).shift > shift
            else each
            for each in args
        )
        cause = next((cause for each in timed if (cause := self._signal(each).cause)), None)
        return self._apply(node, layout, Signal(layout, shift, None, self._reach(args), cause), args, options)

    def along(self, node: fx.Node, x: Any, *args: Any, **options: Any) -> Ref:
        """An operator along axes that must not be time."""
        axes = _axes_of(node, base_name(node.target), len(self._signal(x).layout.shape))
        if self._signal(x).layout.axis in axes:
            raise refusal(node, f"{ALONG[base_name(node.target)]} over time")
        return self.operator(node, x, *args, **options)

    def identity(self, node: fx.Node, x: Ref, *_: Any, **__: Any) -> Ref:
        return x

    def convert(self, node: fx.Node, x: Ref, *_: Any, **__: Any) -> Ref:
        layout, given = self._layout(node), self._signal(x).layout
        if layout.dtype == given.dtype:
            return x
        if layout.dtype.is_floating_point and given.dtype.is_floating_point:
            # The reference of a step rounds as the module does; graphs are in float32 anyway.
            args, signal = (x, layout.dtype), replace(self._signal(x), layout=layout)
            before = None if signal.before is None else signal.before.to(layout.dtype)
            step = Operator(path_of(node), "to", aten.to.dtype, args)
            return self._emit(step, replace(signal, before=before))
        raise refusal(node, f"turns {given.dtype} into {layout.dtype}; give the input in that type")

    def dropout(self, node: fx.Node, x: Ref, _: float, train: bool, **__: Any) -> Ref:
        if train:
            raise refusal(node, "drops values at random: call eval() on every part of the module")
        return x

    def linear(self, node: fx.Node, x: Ref, weight: Any, bias: Any = None) -> Ref:
        self._constants_only(node, weight, bias)
        if self._signal(x).layout.axis == len(self._signal(x).layout.shape) - 1:
            raise refusal(node, "sums over time: its input has time as the last axis")
        args = (x, weight) if bias is None else (x, weight, bias)
        return self.operator(node, *args)

    def matmul(self, node: fx.Node, left: Any, right: Any) -> Ref:
        if isinstance(left, Ref) and isinstance(right, Ref):
            raise refusal(node, "multiplies two values of the input, as attention does")
        ref, weight, axis = (left, right, -1) if isinstance(left, Ref) else (right, left, -2)
        layout = self._signal(ref).layout
        if weight.dim() != 2 or len(layout.shape) < 2:
            raise refusal(node, f"has a weight of {weight.dim()} axes, expected 2")
        if layout.axis == len(layout.shape) + axis:
            raise refusal(node, "sums over time")
        return self.operator(node, left, right)

    def einsum(self, node: fx.Node, equation: str, values: Sequence[Any], **_: Any) -> Ref:
        """A sum of products, over axes that are not time."""
        equation = equation.replace(" ", "")
        if "->" not in equation or "." in equation:
            raise refusal(node, f"is {equation!r}; write all axes and the result, such as 'bct,oc->bot'")
        given, result = equation.split("->")
        times = set()
        for letters, value in zip(given.split(","), values, strict=True):
            if isinstance(value, Ref) and (axis := self._signal(value).layout.axis) is not None:
                times.add(letters[axis])
        constants = [
            letters
            for letters, value in zip(given.split(","), values, strict=True)
            if not isinstance(value, Ref)
        ]
        if len(times) > 1 or not times <= set(result) or any(times & set(each) for each in constants):
            raise refusal(node, "sums over time, or relates steps to other steps")
        operands = tuple(self._operand(node, value) for value in values)
        refs = [each for each in operands if each.name in self.signals]
        aligned = dict(zip(refs, self._aligned(node, refs), strict=True))
        joined = self._joined(list(aligned.values()))
        signal = Signal(self._layout(node), joined.shift, None, joined.reach, joined.cause)
        args = (equation, tuple(aligned.get(each, each) for each in operands))
        return self._apply(node, signal.layout, signal, args, {})

    def _constants_only(self, node: fx.Node, *tensors: Any) -> None:
        if any(isinstance(each, Ref) for each in tensors):
            raise refusal(node, "has weights that depend on the input")

    def embedding(self, node: fx.Node, weight: Any, x: Any, *_: Any, **__: Any) -> Ref:
        self._constants_only(node, weight)
        root = self._root(x)
        while isinstance(delay := self.instructions.get(root.name), Delay):
            root = self._root(delay.source)
        if root.name in self.trace.inputs:
            self.tokens[root.name] = min(len(weight), self.tokens.get(root.name, len(weight)))
        return self.operator(node, weight, x)

    def norm(self, node: fx.Node, x: Ref, shape: Sequence[int], *args: Any, **options: Any) -> Ref:
        layout = self._signal(x).layout
        if layout.axis is not None and layout.axis >= len(layout.shape) - len(shape):
            raise refusal(node, "normalises over time")
        return self.operator(node, x, list(shape), *args, **options)

    def batch_norm(
        self,
        node: fx.Node,
        x: Ref,
        weight: Any,
        bias: Any,
        mean: Any,
        var: Any,
        training: bool,
        *rest: Any,
        **_: Any,
    ) -> Ref:
        if training or mean is None:
            raise refusal(
                node, "takes its statistics from the input: call eval() on it, and keep running statistics"
            )
        layout = self._signal(x).layout
        if layout.axis == 1:
            raise refusal(node, "has time as its channels")
        epsilon = rest[1]
        scale = (torch.ones_like(var) if weight is None else weight) / torch.sqrt(var + epsilon)
        shift = (0.0 if bias is None else bias) - mean * scale
        column = [-1, *[1] * (len(layout.shape) - 2)]
        path, signal = path_of(node), self._signal(x)
        for kind, target, constant in (("mul", aten.mul.Tensor, scale), ("add", aten.add.Tensor, shift)):
            args = (x, self._constant(node, constant.reshape(column), f"{kind}_by"))
            step = Operator(f"{path}/{kind}", kind, target, args)
            before = None
            if signal.shift > 0:
                values = {**self.constants, x.name: self._signal(x).past}
                before = run_operator(step, values, layout, 1)
            x = self._emit(step, replace(signal, before=before))
        return x

    def decomposed_batch_norm(self, node: fx.Node, x: Ref, *args: Any) -> tuple[Any, ...]:
        """A batch norm as PyTorch decomposes it, with statistics that evaluation does not have."""
        *parameters, momentum, epsilon = args
        unread = refusal(node, "gives the statistics of a batch")
        return self.batch_norm(node, x, *parameters, False, momentum, epsilon), unread, unread

    def group_norm(self, node: fx.Node, x: Ref, *_: Any, **__: Any) -> Ref:
        raise refusal(node, "normalises over time: its groups hold all steps")


def _axes_of(node: fx.Node, name: str, rank: int) -> list[int]:
    place = 2 if name == "linalg_vector_norm" else 1
    given: Any = node.args[place] if len(node.args) > place else node.kwargs.get("dim", -1)
    axes = given if isinstance(given, list | tuple) else [given]
    return [int(axis) % rank for axis in axes]
