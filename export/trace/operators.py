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
from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.trace.program import BATCH, MERGED, TIME, Layout, Operator, Program, Ref

_LAST = np.iinfo(np.int64).max


class Nodes:
    """Writes the nodes of a program into a graph: of whole sequences, or of one step.

    ``names`` has the value of the graph for each value of the program.
    """

    def __init__(self, graph: GraphBuilder, program: Program, *, whole: bool) -> None:
        self.graph = graph
        self.program = program
        self.whole = whole
        self.names: dict[str, str] = {}

    def layout(self, ref: Ref) -> Layout:
        return self.program.layouts[ref.name]

    def is_constant(self, argument: Any) -> bool:
        return isinstance(argument, Ref) and argument.name in self.program.constants

    def constant(self, ref: Ref) -> torch.Tensor:
        return self.program.constants[ref.name]

    def value(self, ref: Ref) -> str:
        return self.names[ref.name]

    def axis(self, layout: Layout, axis: int) -> int:
        """An axis of a value, counted from the front, as an axis in the graph."""
        axis %= len(layout.shape)
        time = layout.axis
        dropped = not self.whole and time is not None and layout.shape[time] == TIME and time < axis
        return axis - dropped

    def shape(self, layout: Layout) -> tuple[int | str, ...]:
        """The shape of a value in the graph."""
        return layout.shape if self.whole else layout.step_shape

    def weight(self, name: str, tensor: torch.Tensor | float) -> str:
        """A constant in float32, or int64 for integers."""
        array = np.asarray(tensor.numpy() if isinstance(tensor, torch.Tensor) else float(tensor))
        if array.dtype.kind == "f":
            return self.graph.weight(name, array)
        return self.graph.constant(name, array.astype(np.int64))

    def operand(self, name: str, argument: Any, out: Layout) -> str:
        """An argument that is broadcast to a value of layout ``out``."""
        if not isinstance(argument, Ref):
            return self.weight(f"{name}/{argument:g}".replace("-", "minus_"), float(argument))
        if not self.is_constant(argument):
            return self.value(argument)
        tensor = self.constant(argument)
        time = out.axis
        if not self.whole and time is not None and out.shape[time] == TIME:
            place = tensor.dim() - (len(out.shape) - time)
            if place >= 0:
                return self.weight(f"{argument.name}.row", tensor.squeeze(place))
        return self.weight(argument.name, tensor)

    def reduce(self, op: str, value: str, axes: Sequence[int], name: str, *, keep: bool) -> str:
        """A reduction; from opset 18 axes are an input, for sums from opset 13."""
        graph = self.graph
        if graph.form.axes_as_input or op == "ReduceSum":
            inputs = [value, graph.integers(f"{name}/axes", list(axes))]
            return graph.node(op, inputs, name, keepdims=int(keep))
        return graph.node(op, [value], name, axes=list(axes), keepdims=int(keep))

    def reshape(self, value: str, given: Layout, wanted: Layout, name: str) -> str:
        """A value in another layout with the same order of its elements."""
        before, after = self.shape(given), self.shape(wanted)
        if before == after:
            return value
        sizes: list[int] = []
        free = [i for i, size in enumerate(after) if isinstance(size, str)]
        same = [i for i in free if i < len(before) and before[i] == after[i]]
        if len(free) - len(same) <= 1 or (len(free) == 2 and same):
            inferred = next((i for i in free if i not in same), free[-1] if free else None)
            sizes = [
                -1 if i == inferred else 0 if isinstance(size, str) else size for i, size in enumerate(after)
            ]
            return self.graph.node("Reshape", [value, self.graph.integers(f"{name}/shape", sizes)], name)
        parts = [self._size(size, wanted.extra) for size in after]
        shape = self.graph.node("Concat", parts, f"{name}/shape", axis=0)
        return self.graph.node("Reshape", [value, shape], name)

    def _size(self, size: int | str, extra: int) -> str:
        """A size as a tensor of one number."""
        graph = self.graph
        if not isinstance(size, str):
            return graph.integers(f"sizes/{size}", [size])
        first = self.names[self.program.inputs[0]]
        name = f"sizes/{size}"
        if size == MERGED:
            return graph.integers("sizes/rest", [-1])
        if not graph.has(name):
            start = {BATCH: 0, TIME: len(self.program.layouts[self.program.inputs[0]].shape) - 1}[size]
            graph.node("Shape", [first], name, start=start, end=start + 1, dtype=np.int64)
        if size == TIME and extra:
            longer = f"{name}{extra:+d}"
            if not graph.has(longer):
                graph.node("Add", [name, graph.integers(f"sizes/extra{extra:+d}", [extra])], longer)
            return longer
        return name

    def operator(self, each: Operator) -> str:
        """The nodes of an operator."""
        return OPERATORS[each.kind](self, each, *each.args, **each.options)


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


def affine(
    nodes: Nodes, value: str, rank: int, weight: torch.Tensor, bias: torch.Tensor | None, name: str
) -> str:
    """The product of the last axis with a weight (out, in), and a bias (out,)."""
    graph = nodes.graph
    offsets = [] if bias is None else [nodes.weight(f"{name}/bias", bias)]
    if rank == 2:
        return graph.node("Gemm", [value, nodes.weight(f"{name}/weight", weight), *offsets], name, transB=1)
    factor = nodes.weight(f"{name}/weight", weight.T)
    if not offsets:
        return graph.node("MatMul", [value, factor], name)
    return graph.node("Add", [graph.node("MatMul", [value, factor], f"{name}/product"), *offsets], name)


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
    graph = nodes.graph
    if nodes.is_constant(right):
        shape = nodes.shape(nodes.layout(left))
        return affine(nodes, nodes.value(left), len(shape), nodes.constant(right).T, None, each.name)
    layout, weight = nodes.layout(right), nodes.constant(left)
    if not nodes.whole and layout.axis == len(layout.shape) - 1:
        shape = nodes.shape(layout)  # the axis that is summed over is the last of a step
        return affine(nodes, nodes.value(right), len(shape), weight, None, each.name)
    return graph.node("MatMul", [nodes.weight(f"{each.name}/weight", weight), nodes.value(right)], each.name)


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
    "einsum": _einsum,
}  # fmt: skip
