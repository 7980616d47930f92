"""The operators that treat every step alike, as nodes of ONNX.

Each function takes a :class:`Nodes`, the instruction and its arguments, and returns the name of the value.
In a step graph values have no axis of time; :class:`Nodes` translates axes and constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from multires_edge.export.activations import ACTIVATION_NODES
from multires_edge.export.trace.nodes import Nodes
from multires_edge.export.trace.product_nodes import affine, left_product
from multires_edge.export.trace.program import TIME, Operator, Ref

_LAST = np.iinfo(np.int64).max


def write_operator(nodes: Nodes, each: Operator) -> str:
    """The nodes of an operator."""
    return OPERATORS[each.kind](nodes, each, *each.args, **each.options)


def _unary(op: str, **attributes: Any) -> Callable[..., str]:
    def write(nodes: Nodes, each: Operator, x: Ref, *_: Any, **__: Any) -> str:
        return nodes.graph.node(op, [nodes.value(x)], each.name, **attributes)

    return write


def _binary(op: str, *, swapped: bool = False) -> Callable[..., str]:
    def write(nodes: Nodes, each: Operator, a: Any, b: Any, **options: Any) -> str:
        out = nodes.program.layouts[each.name]
        alpha = options.pop("alpha", 1)
        if options.get("rounding_mode") is not None:
            raise NotImplementedError(each.name)
        left, right = (nodes.operand(f"{each.name}/operand", value, out) for value in (a, b))
        if alpha != 1:
            factor = nodes.weight(f"{each.name}/alpha", float(alpha))
            right = nodes.graph.node("Mul", [right, factor], f"{each.name}/scaled")
        inputs = [right, left] if swapped else [left, right]
        return nodes.graph.node(op, inputs, each.name)

    return write


def _gelu(nodes: Nodes, each: Operator, x: Ref, approximate: str = "none") -> str:
    kind = "gelu" if approximate == "none" else "gelu_tanh"
    return ACTIVATION_NODES[kind](nodes.graph, nodes.value(x), each.name)


def _silu(nodes: Nodes, each: Operator, x: Ref) -> str:
    return ACTIVATION_NODES["silu"](nodes.graph, nodes.value(x), each.name)


def _mish(nodes: Nodes, each: Operator, x: Ref) -> str:
    gate = nodes.graph.node("Softplus", [nodes.value(x)], f"{each.name}/softplus")
    gate = nodes.graph.node("Tanh", [gate], f"{each.name}/tanh")
    return nodes.graph.node("Mul", [nodes.value(x), gate], each.name)


def _softplus(nodes: Nodes, each: Operator, x: Ref, beta: float = 1, *_: Any) -> str:
    if beta != 1:
        raise NotImplementedError(each.name)
    return nodes.graph.node("Softplus", [nodes.value(x)], each.name)


def _clamp(nodes: Nodes, each: Operator, x: Ref, low: float | None = None, high: float | None = None) -> str:
    bounds = [
        "" if bound is None else nodes.weight(f"{each.name}/{what}", float(bound))
        for what, bound in (("least", low), ("most", high))
    ]
    return nodes.graph.node("Clip", [nodes.value(x), *bounds], each.name)


def _elu(nodes: Nodes, each: Operator, x: Ref, alpha: float = 1.0, *_: Any) -> str:
    return nodes.graph.node("Elu", [nodes.value(x)], each.name, alpha=float(alpha))


def _leaky_relu(nodes: Nodes, each: Operator, x: Ref, slope: float = 0.01) -> str:
    return nodes.graph.node("LeakyRelu", [nodes.value(x)], each.name, alpha=float(slope))


def _celu(nodes: Nodes, each: Operator, x: Ref, alpha: float = 1.0) -> str:
    return nodes.graph.node("Celu", [nodes.value(x)], each.name, alpha=float(alpha))


def _prelu(nodes: Nodes, each: Operator, x: Ref, slope: Ref) -> str:
    layout, tensor = nodes.layout(x), nodes.constant(slope)
    rank = len(nodes.shape(layout))
    shape = [-1, *[1] * (rank - 1 - nodes.axis(layout, 1))] if tensor.numel() > 1 else [1]
    return nodes.graph.node(
        "PRelu", [nodes.value(x), nodes.weight(f"{each.name}/slope", tensor.reshape(shape))], each.name
    )


def _pow(nodes: Nodes, each: Operator, x: Ref, exponent: Any = 2) -> str:
    if exponent == 2:
        return nodes.graph.node("Mul", [nodes.value(x), nodes.value(x)], each.name)
    out = nodes.program.layouts[each.name]
    return nodes.graph.node(
        "Pow", [nodes.value(x), nodes.operand(f"{each.name}/exponent", exponent, out)], each.name
    )


def _rsqrt(nodes: Nodes, each: Operator, x: Ref) -> str:
    root = nodes.graph.node("Sqrt", [nodes.value(x)], f"{each.name}/root")
    return nodes.graph.node("Reciprocal", [root], each.name)


def _softmax(op: str) -> Callable[..., str]:
    def write(nodes: Nodes, each: Operator, x: Ref, axis: int, *_: Any, **__: Any) -> str:
        return nodes.graph.node(op, [nodes.value(x)], each.name, axis=nodes.axis(nodes.layout(x), axis))

    return write


def _glu(nodes: Nodes, each: Operator, x: Ref, axis: int = -1) -> str:
    layout, graph, name = nodes.layout(x), nodes.graph, each.name
    half = int(layout.shape[axis % len(layout.shape)]) // 2
    parts = ["value", "gate"]
    value, gate = graph.split(nodes.value(x), [half, half], nodes.axis(layout, axis), f"{name}/split", parts)
    gate = graph.node("Sigmoid", [gate], f"{name}/sigmoid")
    return graph.node("Mul", [value, gate], name)


def _reduction(op: str) -> Callable[..., str]:
    def write(nodes: Nodes, each: Operator, x: Ref, axes: Sequence[int], keep: bool = False, **_: Any) -> str:
        layout = nodes.layout(x)
        at = sorted(nodes.axis(layout, axis) for axis in axes)
        return nodes.reduce(op, nodes.value(x), at, each.name, keep=keep)

    return write


def _vector_norm(
    nodes: Nodes, each: Operator, x: Ref, order: float = 2, axes: Any = None, keep: bool = False, **_: Any
) -> str:
    if order != 2 or axes is None:
        raise NotImplementedError(each.name)
    listed = [axes] if isinstance(axes, int) else list(axes)
    at = sorted(nodes.axis(nodes.layout(x), axis) for axis in listed)
    return nodes.reduce("ReduceL2", nodes.value(x), at, each.name, keep=keep)


def _layer_norm(
    nodes: Nodes, each: Operator, x: Ref, shape: Sequence[int], weight: Any = None, bias: Any = None,
    epsilon: float = 1e-5, *_: Any,
) -> str:  # fmt: skip
    if weight is None:
        scale = nodes.weight(f"{each.name}/ones", torch.ones(*shape))
    else:
        scale = nodes.weight(weight.name, nodes.constant(weight))
    inputs = [nodes.value(x), scale]
    if bias is not None:
        inputs.append(nodes.weight(bias.name, nodes.constant(bias)))
    return nodes.graph.node("LayerNormalization", inputs, each.name, axis=-len(shape), epsilon=epsilon)


def _rms_norm(
    nodes: Nodes, each: Operator, x: Ref, shape: Sequence[int], weight: Any = None, epsilon: Any = None
) -> str:
    graph, name, value = nodes.graph, each.name, nodes.value(x)
    epsilon = torch.finfo(torch.float64).eps if epsilon is None else epsilon
    square = graph.node("Mul", [value, value], f"{name}/square")
    axes = list(range(-len(shape), 0))
    mean = nodes.reduce("ReduceMean", square, axes, f"{name}/mean", keep=True)
    mean = graph.node("Add", [mean, nodes.weight(f"{name}/epsilon", float(epsilon))], f"{name}/shifted")
    root = graph.node("Sqrt", [mean], f"{name}/root")
    if weight is None:
        return graph.node("Div", [value, root], name)
    scaled = graph.node("Div", [value, root], f"{name}/scaled")
    return graph.node("Mul", [scaled, nodes.weight(weight.name, nodes.constant(weight))], name)


def _linear(nodes: Nodes, each: Operator, x: Ref, weight: Ref, bias: Ref | None = None) -> str:
    offset = None if bias is None else nodes.constant(bias)
    shape = nodes.shape(nodes.layout(x))
    return affine(nodes, nodes.value(x), len(shape), nodes.constant(weight), offset, each.name)


def _einsum(nodes: Nodes, each: Operator, equation: str, values: Sequence[Ref]) -> str:
    given = equation.partition("->")[0]
    pairs = list(zip(given.split(","), values, strict=True))
    if not nodes.whole:  # a step has no axis of time
        times = {
            letters[axis]
            for letters, value in pairs
            if not nodes.is_constant(value)
            and (axis := nodes.layout(value).axis) is not None
            and nodes.layout(value).shape[axis] == TIME
        }
        equation = "".join(letter for letter in equation if letter not in times)
    inputs = [
        nodes.weight(value.name, nodes.constant(value)) if nodes.is_constant(value) else nodes.value(value)
        for _, value in pairs
    ]
    return nodes.graph.node("Einsum", inputs, each.name, equation=equation)


def _matmul(nodes: Nodes, each: Operator, left: Ref, right: Ref) -> str:
    if nodes.is_constant(right):
        shape = nodes.shape(nodes.layout(left))
        return affine(nodes, nodes.value(left), len(shape), nodes.constant(right).T, None, each.name)
    layout, weight = nodes.layout(right), nodes.constant(left)
    if not nodes.whole and layout.axis == len(layout.shape) - 1:
        shape = nodes.shape(layout)  # the axis that is summed over is the last of a step
        return affine(nodes, nodes.value(right), len(shape), weight, None, each.name)
    return left_product(nodes, nodes.value(right), weight, each.name)


def _embedding(nodes: Nodes, each: Operator, weight: Ref, x: Ref) -> str:
    table = nodes.weight(weight.name, nodes.constant(weight))
    return nodes.graph.node("Gather", [table, nodes.value(x)], each.name, doc="token embedding")


def _cat(nodes: Nodes, each: Operator, parts: Sequence[Ref], axis: int) -> str:
    at = nodes.axis(nodes.layout(parts[0]), axis)
    return nodes.graph.concat([nodes.value(part) for part in parts], at, each.name)


def _permute(nodes: Nodes, each: Operator, x: Ref, axes: Sequence[int]) -> str:
    layout = nodes.layout(x)
    if not nodes.whole:
        axes = [nodes.axis(layout, axis) for axis in axes if layout.shape[axis] != TIME]
    if list(axes) == sorted(axes):
        return nodes.value(x)
    return nodes.graph.node("Transpose", [nodes.value(x)], each.name, perm=list(axes))


def _to(nodes: Nodes, each: Operator, x: Ref, dtype: torch.dtype) -> str:
    return nodes.value(x)


def _expand(nodes: Nodes, each: Operator, x: Ref) -> str:
    sizes = [1 if isinstance(size, str) else size for size in nodes.shape(nodes.program.layouts[each.name])]
    shape = nodes.graph.integers(f"{each.name}/shape", sizes)
    return nodes.graph.node("Expand", [nodes.value(x), shape], each.name)


def _slice(nodes: Nodes, each: Operator, x: Ref, axis: int, start: int, end: int, step: int = 1) -> str:
    graph, name = nodes.graph, each.name
    at = nodes.axis(nodes.layout(x), axis)
    numbers = {"start": start, "end": min(end, _LAST), "axis": at, "step": step}
    inputs = [graph.integers(f"{name}/{what}", [number]) for what, number in numbers.items()]
    return graph.node("Slice", [nodes.value(x), *inputs], name)


def _select(nodes: Nodes, each: Operator, x: Ref, axis: int, index: int) -> str:
    graph = nodes.graph
    place = graph.integers(f"{each.name}/index", index)
    return graph.node("Gather", [nodes.value(x), place], each.name, axis=nodes.axis(nodes.layout(x), axis))


def _take(nodes: Nodes, each: Operator, x: Ref, axis: int, places: Sequence[int]) -> str:
    index = nodes.graph.integers(f"{each.name}/places", list(places))
    return nodes.graph.node(
        "Gather", [nodes.value(x), index], each.name, axis=nodes.axis(nodes.layout(x), axis)
    )


def _compared(op: str, *, negated: bool = False) -> Callable[..., str]:
    def write(nodes: Nodes, each: Operator, a: Any, b: Any) -> str:
        graph, out = nodes.graph, nodes.program.layouts[each.name]
        left, right = nodes.like(each, a, b, out), nodes.like(each, b, a, out)
        found = graph.node(op, [left, right], f"{each.name}/equal" if negated else each.name, dtype=np.bool_)
        return graph.node("Not", [found], each.name) if negated else found

    return write


def _logical(op: str) -> Callable[..., str]:
    def write(nodes: Nodes, each: Operator, *values: Any) -> str:
        out = nodes.program.layouts[each.name]
        return nodes.graph.node(op, [nodes.operand(each.name, v, out) for v in values], each.name)

    return write


def _where(nodes: Nodes, each: Operator, condition: Any, a: Any, b: Any) -> str:
    out = nodes.program.layouts[each.name]
    inputs = [nodes.operand(f"{each.name}/condition", condition, out)]
    inputs += [nodes.like(each, a, b, out), nodes.like(each, b, a, out)]
    return nodes.graph.node("Where", inputs, each.name, dtype=nodes.graph.type_of(inputs[1]))


OPERATORS: dict[str, Callable[..., str]] = {
    **{name: _unary(op) for name, op in {
        "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
        "neg": "Neg", "abs": "Abs", "erf": "Erf", "softsign": "Softsign", "sin": "Sin", "cos": "Cos",
        "reciprocal": "Reciprocal", "hardswish": "HardSwish", "selu": "Selu",
    }.items()},
    "hardsigmoid": _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    "relu6": lambda nodes, each, x: ACTIVATION_NODES["relu6"](nodes.graph, nodes.value(x), each.name),
    "add": _binary("Add"), "sub": _binary("Sub"), "rsub": _binary("Sub", swapped=True), "mul": _binary("Mul"),
    "div": _binary("Div"), "maximum": _binary("Max"), "minimum": _binary("Min"), "max": _binary("Max"),
    "gelu": _gelu, "silu": _silu, "mish": _mish, "softplus": _softplus, "clamp": _clamp,
    "hardtanh": lambda nodes, each, x, low=-1.0, high=1.0: _clamp(nodes, each, x, low, high),
    "clamp_min": _clamp,
    "clamp_max": lambda nodes, each, x, most: _clamp(nodes, each, x, None, most),
    "elu": _elu, "leaky_relu": _leaky_relu, "celu": _celu, "prelu": _prelu, "pow": _pow, "square": _pow,
    "rsqrt": _rsqrt, "softmax": _softmax("Softmax"), "log_softmax": _softmax("LogSoftmax"),
    "_softmax": _softmax("Softmax"), "_log_softmax": _softmax("LogSoftmax"), "glu": _glu,
    "mean": _reduction("ReduceMean"), "sum": _reduction("ReduceSum"), "amax": _reduction("ReduceMax"),
    "amin": _reduction("ReduceMin"), "linalg_vector_norm": _vector_norm, "layer_norm": _layer_norm,
    "rms_norm": _rms_norm, "linear": _linear, "matmul": _matmul, "mm": _matmul, "embedding": _embedding,
    "cat": _cat, "permute": _permute, "expand": _expand, "to": _to, "slice": _slice, "select": _select,
    "einsum": _einsum, "take": _take, "where": _where,
    "gt": _compared("Greater"), "lt": _compared("Less"), "ge": _compared("GreaterOrEqual"),
    "le": _compared("LessOrEqual"), "eq": _compared("Equal"), "ne": _compared("Equal", negated=True),
    "logical_and": _logical("And"), "logical_or": _logical("Or"), "logical_not": _logical("Not"),
    "bitwise_and": _logical("And"), "bitwise_or": _logical("Or"), "bitwise_not": _logical("Not"),
}  # fmt: skip
