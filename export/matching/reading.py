"""Read a program as forms: what it computes at a step, apart from how it is written."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch

from multires_edge.export.matching.forms import (
    Array,
    Embedded,
    Filter,
    Form,
    Function,
    Index,
    Input,
    Mean,
    Mixed,
    Norm,
    Pooled,
    Softmax,
    UnmatchedError,
    concatenated,
    frozen,
)
from multires_edge.export.matching.functions import SIGMOID, as_function
from multires_edge.export.matching.products import product
from multires_edge.export.trace.executor import run_operator
from multires_edge.export.trace.program import (
    Convolution,
    Cut,
    Delay,
    Filtered,
    Instruction,
    Layout,
    Operator,
    Pad,
    Pool,
    Program,
    Recurrence,
    Ref,
    Reshape,
    references,
)

_MOVES = ("permute", "slice", "select", "expand", "take")
_MOST_SUMMED = 64  # channels that a sum adds up one by one, such as weighted resolutions of a layer
# Operators that may stand between a value and the convolution that reads its past.
_ON_THE_WAY = (Reshape, Pad, Cut)


class Reader:
    """The forms of a program's values by name, each channel in the order of the value's axes."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.forms: dict[str, Form] = {}
        self._past = self._read_in_the_past()
        for name in program.inputs:
            self.forms[name] = Form.of(Input(program.layouts[name].width, name))
        for each in program.instructions:
            form = self._form(each)
            if each.name in self._past and not _is_linear(form):
                form = Form.of(frozen(form, each.name))
            self.forms[each.name] = form

    def _read_in_the_past(self) -> set[str]:
        """The values whose past steps are read, before they are moved, padded and cut."""
        made = {each.name: each for each in self.program.instructions}
        found = set()
        for each in self.program.instructions:
            if not isinstance(each, Convolution | Delay) or each.ring is None:
                continue
            names = [each.source.name]
            while names:
                before = made.get(name := names.pop())
                moved = isinstance(before, Operator) and before.kind in (*_MOVES, "cat")
                if moved or isinstance(before, _ON_THE_WAY):
                    names += references(before)
                else:
                    found.add(name)
        return found

    def _form(self, each: Instruction) -> Form:
        if isinstance(each, Operator):
            return self._operator(each)
        assert not isinstance(each, Filtered)  # only the program of a step has banks
        source = self.forms[each.source.name]
        if isinstance(each, Recurrence):
            raise UnmatchedError("is in no MultiresNet", each.name)
        if isinstance(each, Pad) and each.mask:
            raise UnmatchedError("replaces the first steps of a value", each.name)
        if isinstance(each, Delay | Convolution) and each.ring is not None and each.ring.before is not None:
            raise UnmatchedError("reads values before the first step that are not zero", each.name)
        if isinstance(each, Delay):
            return source.delayed(each.ring.slots - 1)
        if isinstance(each, Convolution):
            return self._convolution(each, source)
        if isinstance(each, Pool):
            return self._pool(each, source)
        return source

    def _pool(self, each: Pool, source: Form) -> Form:
        if each.how not in ("mean", "max", "last"):
            raise UnmatchedError(
                f"takes a {each.how} over time; a head reads a mean, maximum or last step", each.name
            )
        return Form.of(Pooled(source.width, each.name, source, each.how))

    def _convolution(self, each: Convolution, source: Form) -> Form:
        weight = self._constant(each.weight)
        bias = np.zeros(len(weight)) if each.bias is None else self._constant(each.bias)
        if weight.ndim != 3:
            raise UnmatchedError("is over several axes", each.name)
        inputs, taps = source.width, weight.shape[2]
        if each.groups == inputs and (inputs > 1 or len(weight) == 1 < taps):
            y = source.gathered(np.arange(len(weight)) // (len(weight) // inputs))
            if taps == 1:
                return y.scaled(weight[:, 0, 0]) + Form.constant(bias)
            by_delay = np.ascontiguousarray(weight[:, 0, ::-1])
            return y.filtered(Filter(by_delay, each.dilations[0])) + Form.constant(bias)
        if each.dilations[0] != 1 and taps > 1:
            raise UnmatchedError("mixes channels and steps with a dilation", each.name)
        whole = np.zeros((len(weight), inputs, taps))
        outputs, part = len(weight) // each.groups, inputs // each.groups
        for i in range(each.groups):
            rows = slice(i * outputs, (i + 1) * outputs)
            whole[rows, i * part : (i + 1) * part] = weight[rows, :, ::-1]
        return Form.of(Mixed(len(whole), each.name, whole, bias, source))

    # Operators of a step

    def _operator(self, each: Operator) -> Form:
        rule = _RULES.get(each.kind)
        if rule is None:
            raise UnmatchedError("is in no MultiresNet", each.name)
        return rule(self, each, *each.args, **each.options)

    def _sum(self, each: Operator, a: Any, b: Any, alpha: float = 1) -> Form:
        layout = self.program.layouts[each.name]
        left, right = self._operand(a, layout), self._operand(b, layout)
        if each.kind == "rsub":
            left, right = right, left
        right = right.scaled(float(alpha) if each.kind == "add" else -float(alpha))
        for form, other in ((left, right), (right, left)):
            if isinstance(node := form.bare, Mixed) and not other.terms:
                return Form.of(replace(node, bias=node.bias + other.bias))  # a bias that is added apart
        return left + right

    def _negative(self, each: Operator, x: Ref) -> Form:
        return self.forms[x.name].scaled(-1.0)

    def _cast(self, each: Operator, x: Ref, *_: Any) -> Form:
        return self.forms[x.name]

    def _linear(self, each: Operator, x: Ref, weight: Ref, bias: Ref | None = None) -> Form:
        return self._mixed(each, x, self._constant(weight), None if bias is None else self._constant(bias))

    def _matmul(self, each: Operator, left: Ref, right: Ref) -> Form:
        if self._is_constant(right):
            return self._mixed(each, left, self._constant(right).T, None)
        return self._mixed(each, right, self._constant(left), None)

    def _embedding(self, each: Operator, weight: Ref, tokens: Ref) -> Form:
        table, form = self._constant(weight), self.forms[tokens.name]
        if form.width != 1:
            raise UnmatchedError("reads several tokens in a step", each.name)
        return Form.of(Embedded(table.shape[1], each.name, table, form))

    def _product(self, each: Operator, left: Any, right: Any, rounding_mode: Any = None) -> Form:
        layout = self.program.layouts[each.name]
        a, b = self._operand(left, layout), self._operand(right, layout)
        if each.kind == "div":
            if rounding_mode is not None:
                raise UnmatchedError("rounds", each.name)
            if not b.terms:
                return a.divided(b.bias)
            argument, value = as_function(b)
            b = Form.of(Function(b.width, each.name, argument, lambda x: 1 / value(x)))
        if not a.terms or not b.terms:
            return b.scaled(a.bias) if not a.terms else a.scaled(b.bias)
        return product(a, b, each.name)

    def _function(self, each: Operator, x: Ref, *args: Any, **options: Any) -> Form:
        form = self.forms[x.name]
        if any(isinstance(arg, Ref) for arg in args):
            raise UnmatchedError("has parameters of its own", each.name)
        argument, before = as_function(form)

        def value(u: Array) -> Array:
            result: Array = each.target(torch.from_numpy(before(u)), *args, **options).numpy()
            return result

        return Form.of(Function(form.width, each.name, argument, value))

    def _moved(self, each: Operator, x: Ref, *_: Any) -> Form:
        given, layout = self.program.layouts[x.name], self.program.layouts[each.name]
        index = torch.arange(given.width).reshape(given.sizes(1))
        moved = run_operator(each, {x.name: index}, layout, 1)
        return self.forms[x.name].gathered(moved.reshape(-1).numpy())

    def _concatenated(self, each: Operator, parts: Sequence[Ref], axis: int) -> Form:
        layout = self.program.layouts[each.name]
        start, indices = 0, {}
        for part in dict.fromkeys(parts):
            given = self.program.layouts[part.name]
            indices[part.name] = torch.arange(start, start + given.width).reshape(given.sizes(1))
            start += given.width
        joined = concatenated([self.forms[name] for name in indices])
        return joined.gathered(run_operator(each, indices, layout, 1).reshape(-1).numpy())

    def _mixed(self, each: Operator, source: Ref, weight: Array, bias: Array | None) -> Form:
        form = self.forms[source.name]
        if weight.ndim != 2 or weight.shape[1] != form.width:
            raise UnmatchedError("mixes a part of the channels of a step", each.name)
        bias = np.zeros(len(weight)) if bias is None else bias
        return Form.of(Mixed(len(weight), each.name, weight[..., None], bias, form))

    def _gated(self, each: Operator, x: Ref, axis: int = -1) -> Form:
        given = self.program.layouts[x.name]
        index = torch.arange(given.width).reshape(given.sizes(1))
        values, gates = (part.reshape(-1).numpy() for part in index.chunk(2, axis))
        form = self.forms[x.name]
        argument, before = as_function(form.gathered(gates))
        gate = Function(len(gates), each.name, argument, lambda u: SIGMOID(before(u)))
        return product(form.gathered(values), Form.of(gate), each.name)

    def _softmax(self, each: Operator, x: Ref, axis: int, *_: Any) -> Form:
        given, form = self.program.layouts[x.name], self.forms[x.name]
        if given.shape[axis] != form.width:
            raise UnmatchedError("is over a part of the channels of a step", each.name)
        return Form.of(Softmax(form.width, each.name, form))

    def _layer_norm(
        self, each: Operator, x: Ref, shape: Any, weight: Any = None, bias: Any = None,
        epsilon: float = 1e-5, *_: Any,
    ) -> Form:  # fmt: skip
        return self._norm(each, x, shape, weight, bias, epsilon)

    def _rms_norm(self, each: Operator, x: Ref, shape: Any, weight: Any = None, epsilon: Any = None) -> Form:
        if epsilon is None:
            epsilon = float(torch.finfo(torch.float64).eps)  # as the reference has it
        return self._norm(each, x, shape, weight, None, epsilon)

    def _norm(self, each: Operator, x: Ref, shape: Any, weight: Any, bias: Any, epsilon: float) -> Form:
        layout, form = self.program.layouts[x.name], self.forms[x.name]
        size = int(np.prod(shape))
        y = Form.of(Norm(form.width, each.name, form, form.width // size, epsilon, each.kind == "layer_norm"))
        if weight is not None:
            y = y.scaled(self._broadcast(self._constant(weight), layout))
        if bias is not None:
            y = y + Form.constant(self._broadcast(self._constant(bias), layout))
        return y

    def _mean(self, each: Operator, x: Ref, axes: Any, *_: Any) -> Form:
        given, form = self.program.layouts[x.name], self.forms[x.name]
        index = torch.arange(form.width).reshape(given.sizes(1))
        reduced = [axis % index.dim() for axis in axes]
        kept = [axis for axis in range(index.dim()) if axis not in reduced]
        order = index.permute(*kept, *reduced).reshape(-1).numpy()
        count = int(np.prod([index.shape[axis] for axis in reduced]))
        width = form.width // count
        if each.kind == "sum" and width > 1 and count <= _MOST_SUMMED:
            parts = [form.gathered(part) for part in order.reshape(width, count).T]
            return reduce(operator.add, parts)
        mean = Form.of(Mean(width, each.name, form.gathered(order)))
        return mean.scaled(float(count)) if each.kind == "sum" else mean

    # Arguments

    def _is_constant(self, argument: Any) -> bool:
        return isinstance(argument, Ref) and argument.name in self.program.constants

    def _constant(self, ref: Ref) -> Array:
        if not self._is_constant(ref):
            raise UnmatchedError("has weights that depend on the input")
        array: Array = self.program.constants[ref.name].numpy().astype(np.float64)
        return array

    def _operand(self, argument: Any, layout: Layout) -> Form:
        """An argument as a form of all channels of a layout."""
        if not isinstance(argument, Ref):
            return Form.constant(np.full(layout.width, float(argument)))
        if self._is_constant(argument):
            return Form.constant(self._broadcast(self._constant(argument), layout))
        given = self.program.layouts[argument.name]
        index = np.arange(given.width).reshape(given.sizes(1))
        whole: Index = np.broadcast_to(index, layout.sizes(1)).reshape(-1)
        return self.forms[argument.name].gathered(whole)

    def _broadcast(self, array: Array, layout: Layout) -> Array:
        wide: Array = np.broadcast_to(array, layout.sizes(1)).reshape(-1)
        return wide


def _is_linear(form: Form) -> bool:
    """Whether a form is the same in the past: a node, or a filtered one, without a bias."""
    if form.bias.any() or len(form.nodes) != 1:
        return False
    return form.bare is not None or any(not term.is_plain for term in form.terms)


_FUNCTIONS = (
    "relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "erf", "softsign", "sin", "cos", "reciprocal",
    "hardswish", "selu", "hardsigmoid", "relu6", "gelu", "silu", "mish", "softplus", "clamp", "hardtanh",
    "clamp_min", "clamp_max", "elu", "leaky_relu", "celu", "pow", "square", "rsqrt",
)  # fmt: skip
_RULES: dict[str, Callable[..., Form]] = {
    **dict.fromkeys(_FUNCTIONS, Reader._function),
    **dict.fromkeys(_MOVES, Reader._moved),
    **dict.fromkeys(("add", "sub", "rsub"), Reader._sum),
    **dict.fromkeys(("mul", "div"), Reader._product),
    **dict.fromkeys(("matmul", "mm"), Reader._matmul),
    **dict.fromkeys(("mean", "sum"), Reader._mean),
    "cat": Reader._concatenated,
    "neg": Reader._negative,
    "to": Reader._cast,
    "linear": Reader._linear,
    "embedding": Reader._embedding,
    "glu": Reader._gated,
    "layer_norm": Reader._layer_norm,
    "rms_norm": Reader._rms_norm,
    "softmax": Reader._softmax,
    "_softmax": Reader._softmax,
}
