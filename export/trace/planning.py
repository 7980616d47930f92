"""From a trace to a program: a rule for every operator that mixes time, all others as they are.

Which axis is time follows from the symbolic shapes of the trace. An operator without a rule is refused, by its
name and the line of the user's code, when something depends on its value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from multires_edge.base.errors import ModuleError
from multires_edge.export.trace.executor import run_operator
from multires_edge.export.trace.operators import OPERATORS
from multires_edge.export.trace.program import (
    BATCH,
    MERGED,
    TIME,
    Convolution,
    Cut,
    Delay,
    Instruction,
    Layout,
    Operator,
    Pad,
    Pool,
    Pooled,
    Program,
    Ref,
    Reshape,
    Ring,
    references,
)
from multires_edge.export.trace.signals import Signal, Symbols, places
from multires_edge.export.trace.tracing import Trace, base_name, refusal

aten = torch.ops.aten


@dataclass(frozen=True)
class Plan:
    """The program, and how many tokens each integer input knows, by name."""

    program: Program
    tokens: dict[str, int]


@dataclass(frozen=True)
class _Fill:
    """A tensor of one number, whose shape may depend on the inputs."""

    layout: Layout
    value: float

    def scalar(self) -> torch.Tensor:
        return torch.tensor(self.value, dtype=self.layout.dtype)


def make_plan(trace: Trace) -> Plan:
    """The program of a trace. Raises ModuleError for what no stream can do."""
    return _Planner(trace).run()


class _Planner:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.symbols = Symbols(trace.batches, trace.times)
        self.values: dict[fx.Node, Any] = {}
        self.signals: dict[str, Signal] = {}
        self.instructions: dict[str, Instruction] = {}
        self.constants: dict[str, torch.Tensor] = {}
        self.tokens: dict[str, int] = {}
        self._rings: list[tuple[tuple[Any, ...], Ring]] = []
        self._states: dict[str, int] = {}

    def run(self) -> Plan:
        outputs: dict[str, str] = {}
        for node in self.trace.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function":
                try:
                    self.values[node] = self._call(node)
                except ModuleError as error:
                    self.values[node] = error  # raised where something depends on the value
        for name, node in self.trace.outputs.items():
            outputs[name] = self._output(name, node)
        needed, kept = set(outputs.values()), []
        for name, instruction in reversed(self.instructions.items()):
            if name in needed:
                kept.append(instruction)
                needed |= set(references(instruction))
        layouts = {name: signal.layout for name, signal in self.signals.items() if name in needed}
        layouts |= {name: self.signals[name].layout for name in self.trace.inputs}
        constants = {name: tensor for name, tensor in self.constants.items() if name in needed}
        reach = max(self.signals[name].reach for name in outputs.values())
        program = Program(self.trace.inputs, outputs, tuple(reversed(kept)), layouts, constants, reach)
        return Plan(_numbered(program), self.tokens)

    def _placeholder(self, node: fx.Node) -> None:
        if node.name in self.trace.constants:
            self.values[node] = self.trace.constants[node.name]
        elif node.name in self.trace.inputs:
            self.signals[node.name] = Signal(self.symbols.layout(node.meta["val"]))
            self.values[node] = Ref(node.name)

    def _output(self, name: str, node: fx.Node) -> str:
        ref = self._resolve(node)
        if isinstance(ref, _Fill | torch.Tensor):
            raise ModuleError(f"output {name} does not depend on the inputs")
        signal = self.signals[ref.name]
        if signal.layout.shape[:1] != (BATCH,) or MERGED in signal.layout.shape:
            shape = ", ".join(map(str, signal.layout.shape))
            raise ModuleError(f"output {name} is ({shape}), expected the batch as its first axis, and time apart")
        if signal.layout.axis is not None:
            self._check_complete(node, signal)
            if signal.layout.extra:
                more = "more" if signal.layout.extra > 0 else "fewer"
                raise ModuleError(
                    f"output {name} has {abs(signal.layout.extra)} steps {more} than the inputs; a stream has one "
                    "output for each step: pad the past of each convolution by dilation * (kernel size - 1)"
                )
        return str(ref.name)

    # Values

    def _call(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(index, int)
            chosen = self._resolve(source)[index]
            if isinstance(chosen, ModuleError):
                raise chosen
            return chosen
        if value is None or not isinstance(value, torch.Tensor | tuple | list):
            return value  # a check, or a size
        name = base_name(node.target)
        if name in _FILLS and (fill := self._fill(node, name)) is not None:
            return fill
        args, options = fx.node.map_arg((node.args, node.kwargs), self._resolve)
        args = tuple(each.scalar() if isinstance(each, _Fill) and name != "cat" else each for each in args)
        if not list(references((args, tuple(options.values())))) and not _has_symbols((args, options)):
            with torch.no_grad():
                return node.target(*args, **options)  # type: ignore[operator]
        rule = _RULES.get(name)
        if rule is None:
            raise refusal(node, "has no rule for streams")
        try:
            return rule(self, node, *args, **options)
        except ValueError as error:
            if isinstance(error, ModuleError):
                raise
            raise refusal(node, str(error)) from error

    def _resolve(self, node: Any) -> Any:
        value = self.values[node]
        if isinstance(value, ModuleError):
            raise value
        return value

    def _fill(self, node: fx.Node, name: str) -> _Fill | None:
        number = {"zeros": 0.0, "ones": 1.0}.get(name.removeprefix("new_").removesuffix("_like"))
        if number is None:
            number = node.args[-1] if isinstance(node.args[-1], int | float) else None  # type: ignore[assignment]
        try:
            return None if number is None else _Fill(self.symbols.layout(node.meta["val"]), number)
        except ValueError:
            return None

    def _constant(self, node: fx.Node, tensor: torch.Tensor, what: str = "") -> Ref:
        """A constant under the name of the parameter that it is, or of the node that reads it."""
        for known, each in self.constants.items():
            if each is tensor:
                return Ref(known)
        own = next((name for name, each in self.trace.constants.items() if each is tensor), None)
        name = own or f"{_path(node)}/{what or 'constant'}"
        while name in self.constants:
            name += "_"
        self.constants[name] = tensor
        return Ref(name)

    def _operand(self, node: fx.Node, value: Any) -> Any:
        return self._constant(node, value) if isinstance(value, torch.Tensor) else value

    def _layout(self, node: fx.Node) -> Layout:
        return self.symbols.layout(node.meta["val"])

    def _signal(self, ref: Ref) -> Signal:
        return self.signals[ref.name]

    def _emit(self, instruction: Instruction, signal: Signal) -> Ref:
        self.instructions[instruction.name] = instruction
        self.signals[instruction.name] = signal
        ref = Ref(instruction.name)
        # An element that the whole value does not have yet is kept until it has.
        ahead = signal.shift - signal.layout.extra if signal.layout.axis is not None else 0
        return self._delay(ref, ahead) if ahead > 0 else ref

    def _root(self, ref: Ref) -> Ref:
        """The value that a stream has in the place of a padded or cut one."""
        instruction = self.instructions.get(ref.name)
        if isinstance(instruction, Cut) or (isinstance(instruction, Pad) and not instruction.mask):
            return self._root(instruction.source)
        return ref

    def _ring(self, ref: Ref, slots: int, dilation: int) -> Ring:
        signal = self._signal(ref)
        shape = signal.layout.step_shape
        if shape[:1] != (BATCH,) or signal.layout.shape[signal.layout.axis or 0] == MERGED:
            raise ValueError("mixes steps of a value whose first axis is not the batch; move the batch to the front")
        before = None
        if signal.shift > 0 and bool(signal.past.any()):
            before = signal.past.reshape(-1)
        key = (self._root(ref).name, slots, dilation)
        for known, ring in self._rings:
            same = ring.before is before or (
                ring.before is not None and before is not None and torch.equal(ring.before, before)
            )
            if known == key and same:
                return ring
        ring = Ring(f"ring{len(self._rings)}", slots, dilation, signal.layout.width, signal.layout.dtype, before)
        self._rings.append((key, ring))
        return ring

    def _delay(self, ref: Ref, steps: int) -> Ref:
        name, signal = f"{ref.name}/delay_{steps}", self._signal(ref)
        if name not in self.instructions:
            ring = self._ring(ref, steps + 1, steps)
            shift = signal.shift - steps
            before = signal.before if shift > 0 else None
            self.instructions[name] = Delay(name, ref, ring)
            self.signals[name] = replace(signal, shift=shift, before=before, reach=signal.reach + steps)
        return Ref(name)

    def _check_complete(self, node: fx.Node, signal: Signal) -> None:
        if not signal.complete:
            raise signal.cause or refusal(node, "needs steps of the future")

    # Rules: operators that treat every step alike

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

    def _apply(
        self, node: fx.Node, layout: Layout, signal: Signal, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Ref:
        name = base_name(node.target)
        instruction = Operator(_path(node), name, node.target, args, options)
        if signal.shift > 0 and layout.axis is not None:
            values = {each: self.signals[each].past for each in references(args) if each in self.signals}
            signal = replace(signal, before=run_operator(instruction, {**self.constants, **values}, layout, 1))
        return self._emit(instruction, signal)

    def _timed(self, ref: Ref) -> bool:
        return ref.name in self.signals and self._signal(ref).layout.axis is not None

    def _reach(self, args: Any) -> int:
        return max((self.signals[name].reach for name in references(args) if name in self.signals), default=0)

    def _same_axis(self, node: fx.Node, refs: Sequence[Ref]) -> None:
        layouts = [self._signal(ref).layout for ref in refs]
        places_of_time = {len(layout.shape) - (layout.axis or 0) for layout in layouts}
        if len(places_of_time) > 1 or len({layout.extra for layout in layouts}) > 1:
            raise refusal(node, "relates steps to other steps, as attention does")

    def along(self, node: fx.Node, x: Any, *args: Any, **options: Any) -> Ref:
        """An operator along axes that must not be time."""
        axes = _axes_of(node, base_name(node.target), len(self._signal(x).layout.shape))
        if self._signal(x).layout.axis in axes:
            raise refusal(node, f"{_ALONG[base_name(node.target)]} over time")
        return self.operator(node, x, *args, **options)

    def identity(self, node: fx.Node, x: Ref, *_: Any, **__: Any) -> Ref:
        return x

    def convert(self, node: fx.Node, x: Ref, *_: Any, **__: Any) -> Ref:
        layout, given = self._layout(node), self._signal(x).layout
        if layout.dtype == given.dtype or (layout.dtype.is_floating_point and given.dtype.is_floating_point):
            return x
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
        self, node: fx.Node, x: Ref, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *rest: Any, **_: Any
    ) -> Ref:
        if training or mean is None:
            raise refusal(
                node, "takes its statistics from the input: call eval() on it, and keep running statistics"
            )
        layout = self._signal(x).layout
        if layout.axis == 1:
            raise refusal(node, "has time as its channels")
        epsilon = rest[1]
        scale = torch.rsqrt(var + epsilon) * (1.0 if weight is None else weight)
        shift = (0.0 if bias is None else bias) - mean * scale
        column = [-1, *[1] * (len(layout.shape) - 2)]
        path, signal = _path(node), self._signal(x)
        for kind, target, constant in (("mul", aten.mul.Tensor, scale), ("add", aten.add.Tensor, shift)):
            args = (x, self._constant(node, constant.reshape(column), f"{kind}_by"))
            step = Operator(f"{path}/{kind}", kind, target, args)
            before = None
            if signal.shift > 0:
                values = {**self.constants, x.name: self._signal(x).past}
                before = run_operator(step, values, layout, 1)
            x = self._emit(step, replace(signal, before=before))
        return x

    def group_norm(self, node: fx.Node, x: Ref, *_: Any, **__: Any) -> Ref:
        raise refusal(node, "normalises over time: its groups hold all steps")

    def cat(self, node: fx.Node, parts: Sequence[Any], axis: int = 0) -> Ref:
        layout = self._layout(node)
        axis %= len(layout.shape)
        if layout.axis == axis:
            return self._cat_over_time(node, parts)
        if not all(isinstance(each, Ref) for each in parts):
            raise refusal(node, "puts constants beside values of the input")
        aligned = self._aligned(node, parts)
        return self._apply(
            node, layout, replace(self._joined(aligned), layout=layout), (tuple(aligned), axis), {}
        )

    def _cat_over_time(self, node: fx.Node, parts: Sequence[Any]) -> Ref:
        if len(parts) == 2 and sum(isinstance(each, Ref) for each in parts) == 1:
            first = isinstance(parts[0], Ref)
            x, fill = parts if first else reversed(parts)
            if isinstance(fill, torch.Tensor) and len(torch.unique(fill)) == 1:
                fill = _Fill(Layout(tuple(fill.shape), fill.dtype), float(fill.flatten()[0]))
            axis = self._signal(x).layout.axis
            if isinstance(fill, _Fill) and axis is not None and isinstance(steps := fill.layout.shape[axis], int):
                return self._pad(node, x, 0 if first else steps, steps if first else 0, fill.value)
        raise refusal(node, "puts steps in front of others; pad with a constant instead")

    def _aligned(self, node: fx.Node, refs: Sequence[Ref]) -> list[Ref]:
        timed = [ref for ref in refs if self._timed(ref)]
        if not timed:
            return list(refs)
        if len(timed) < len(refs):
            raise refusal(node, "combines a value of all steps with every step, as a norm over time does")
        self._same_axis(node, refs)
        shift = min(self._signal(ref).shift for ref in refs)
        return [self._delay(ref, more) if (more := self._signal(ref).shift - shift) else ref for ref in refs]

    def _joined(self, refs: Sequence[Ref]) -> Signal:
        signals = [self._signal(ref) for ref in refs]
        cause = next((signal.cause for signal in signals if signal.cause), None)
        return Signal(signals[0].layout, signals[0].shift, None, max(s.reach for s in signals), cause)

    def stack(self, node: fx.Node, parts: Sequence[Any], axis: int = 0) -> Ref:
        layout = self._layout(node)
        axis %= len(layout.shape)
        if not all(isinstance(each, Ref) for each in parts):
            raise refusal(node, "puts constants beside values of the input")
        lone = replace(layout, shape=(*layout.shape[:axis], 1, *layout.shape[axis + 1 :]))
        columns = [
            self._reshaped(node, each, lone, f"{_path(node)}/{i}")
            for i, each in enumerate(self._aligned(node, parts))
        ]
        signal = replace(self._joined(columns), layout=layout)
        instruction = Operator(_path(node), "cat", aten.cat.default, (tuple(columns), axis))
        if signal.shift > 0:
            past = [self._signal(each).past for each in columns]
            signal = replace(signal, before=torch.cat(past, axis))
        return self._emit(instruction, signal)

    # Rules: axes

    def reshape(self, node: fx.Node, x: Ref, *_: Any, **__: Any) -> Ref:
        return self._reshaped(node, x, self._layout(node), _path(node))

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
        instruction = Operator(_path(node), "permute", aten.permute.default, (x, axes))
        return self._emit(instruction, replace(signal, layout=self._layout(node), before=before))

    def expand(self, node: fx.Node, x: Any, *_: Any, **__: Any) -> Ref:
        layout = self._layout(node)
        if not isinstance(x, Ref):
            raise refusal(node, "repeats a constant for every step or stream; rely on broadcasting instead")
        signal = self._signal(x)
        if layout.shape == signal.layout.shape:
            return x
        if layout.axis is not None and signal.layout.axis is None:
            raise refusal(node, "combines a value of all steps with every step, as a norm over time does")
        before = None if signal.before is None else signal.before.expand(layout.sizes(1))
        instruction = Operator(_path(node), "expand", None, (x,))
        return self._emit(instruction, replace(signal, layout=layout, before=before))

    def split(self, node: fx.Node, x: Ref, *args: Any, **options: Any) -> tuple[Any, ...]:
        parts, name = node.meta["val"], base_name(node.target)
        default = 0
        position = 1 if name == "unbind" else 2
        axis = node.args[position] if len(node.args) > position else options.get("dim", default)
        layout = self._signal(x).layout
        axis = int(axis) % len(layout.shape)  # type: ignore[call-overload]
        if axis == layout.axis:
            raise refusal(node, "takes time apart")
        refs, start = [], 0
        for i, part in enumerate(parts):
            if name == "unbind":
                target, how, size = aten.select.int, (x, axis, i), 1
                kind = "select"
            else:
                size = int(part.shape[axis])
                target, how = aten.slice.Tensor, (x, axis, start, start + size)
                kind = "slice"
            refs.append(self._piece(f"{_path(node)}/{i}", kind, target, how, self.symbols.layout(part)))
            start += size
        return tuple(refs)

    def _piece(self, name: str, kind: str, target: Any, args: tuple[Any, ...], layout: Layout) -> Ref:
        signal = self._signal(args[0])
        before = None if signal.before is None else target(signal.before, *args[1:])
        return self._emit(Operator(name, kind, target, args), replace(signal, layout=layout, before=before))

    def select(self, node: fx.Node, x: Ref, axis: int, index: int) -> Ref:
        signal = self._signal(x)
        axis %= len(signal.layout.shape)
        if axis != signal.layout.axis:
            return self._piece(_path(node), "select", aten.select.int, (x, axis, index), self._layout(node))
        if index != -1 and self.symbols.steps_after(index) != signal.layout.extra - 1:
            raise refusal(node, f"reads step {index} of the whole sequence")
        return self._pool(node, x, "last", keep=False)

    def slice(self, node: fx.Node, x: Ref, axis: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Ref:
        signal, layout = self._signal(x), self._layout(node)
        given = signal.layout
        axis %= len(given.shape)
        if layout.shape == given.shape and layout.extra == given.extra:
            return x
        if axis != given.axis:
            end = min(int(end), int(given.shape[axis])) if end is not None else given.shape[axis]
            how = (x, axis, start or 0, end, step)
            return self._piece(_path(node), "slice", aten.slice.Tensor, how, layout)
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

    # Rules: operators that mix time

    def _cut(self, node: fx.Node, x: Ref, start: int, end: int, name: str = "") -> Ref:
        signal = self._signal(x)
        layout = replace(signal.layout, extra=signal.layout.extra - start - end)
        shift = signal.shift - start
        before = signal.before if shift > 0 else None
        return self._emit(
            Cut(name or _path(node), x, start, end), replace(signal, layout=layout, shift=shift, before=before)
        )

    def pad(self, node: fx.Node, x: Ref, amounts: Sequence[int], mode: Any = "constant", value: Any = None) -> Ref:
        if not isinstance(mode, str):
            mode, value = "constant", mode  # constant_pad_nd
        layout = self._signal(x).layout
        axis = layout.axis
        around = [list(amounts[i : i + 2]) for i in range(0, len(amounts), 2)]
        pads = dict(zip(range(len(layout.shape) - 1, -1, -1), around, strict=False))
        left, right = pads.pop(axis, [0, 0]) if axis is not None else [0, 0]
        if any(map(any, pads.values())):
            raise refusal(node, "pads another axis than time")
        if mode != "constant":
            raise refusal(node, f"pads by mode {mode!r}; a stream pads by a constant")
        if left < 0 or right < 0:
            x = self._cut(node, x, max(0, -left), max(0, -right), f"{_path(node)}/cut")
        return self._pad(node, x, max(0, left), max(0, right), float(value or 0.0))

    def _pad(self, node: fx.Node, x: Ref, left: int, right: int, value: float, name: str = "") -> Ref:
        if left == right == 0:
            return x
        signal = self._signal(x)
        if signal.shift < 0 < left and isinstance(delay := self.instructions.get(x.name), Delay):
            x, signal = delay.source, self._signal(delay.source)  # a cut and a padding are one delay
        layout = replace(signal.layout, extra=signal.layout.extra + left + right)
        shift, cause, before = signal.shift + left, signal.cause, None
        if right and shift < layout.extra:
            cause = refusal(node, f"pads {right} steps of the future")
        if shift > 0:
            before = torch.full(layout.sizes(1), value, dtype=layout.dtype)
            if signal.shift > 0 and left and not torch.equal(before, signal.past):
                raise refusal(node, "pads a value that is padded by another constant")
            before = before if value and left else signal.before
        mask = max(0, -signal.shift) if left else 0
        instruction = Pad(name or _path(node), x, left, right, value, mask)
        return self._emit(instruction, replace(signal, layout=layout, shift=shift, before=before, cause=cause))

    def convolution(
        self,
        node: fx.Node,
        x: Ref,
        weight: Any,
        bias: Any = None,
        stride: Sequence[int] = (1,),
        padding: Any = (0,),
        dilation: Sequence[int] = (1,),
        *rest: Any,
    ) -> Ref:
        self._constants_only(node, weight, bias)
        groups = rest[-1] if rest else 1
        if len(rest) > 1 and rest[0]:
            raise refusal(node, "is transposed: it has several outputs for each step")
        layout = self._signal(x).layout
        spatial = weight.dim() - 2
        if layout.shape[:1] != (BATCH,) or layout.axis is None or len(layout.shape) != spatial + 2:
            raise refusal(node, f"reads ({', '.join(map(str, layout.shape))}), expected (batch, channels, time)")
        if layout.axis == 1:
            raise refusal(node, "has time as its channels")
        strides, dilations = _each(stride, spatial), _each(dilation, spatial)
        sizes = list(weight.shape[2:])
        if isinstance(padding, str):
            total = [0 if padding == "valid" else d * (k - 1) for d, k in zip(dilations, sizes, strict=True)]
            pads = [(t // 2, t - t // 2) for t in total]
        else:
            pads = [(p, p) for p in _each(padding, spatial)]
        axis = layout.axis - 2
        if strides[axis] != 1:
            raise refusal(node, f"strides over {strides[axis]} steps")
        left, right = pads.pop(axis)
        if any(a != b for a, b in pads):
            raise refusal(node, "pads one side of another axis than time")
        path = _path(node)
        x = self._pad(node, x, left, right, 0.0, f"{path}/pad")
        signal = self._signal(x)
        history = (sizes[axis] - 1) * dilations[axis]
        ring = self._ring(x, history + 1, dilations[axis]) if history else None
        source, left, right = x, 0, 0
        if isinstance(pad := self.instructions.get(x.name), Pad) and not pad.mask and pad.value == 0:
            source, left, right = pad.source, pad.left, pad.right
        instruction = Convolution(
            path,
            source,
            self._constant(node, weight, "weight"),
            None if bias is None else self._constant(node, bias, "bias"),
            layout.axis,
            left,
            right,
            strides,
            tuple(a for a, _ in pads[:axis]) + (0,) + tuple(a for a, _ in pads[axis:]),
            dilations,
            groups,
            ring,
        )
        out = self._layout(node)
        shift = signal.shift - history
        before = None
        if shift > 0:
            taps = [1] * len(out.shape)
            taps[layout.axis] = sizes[axis]
            near = [*dilations]
            near[axis] = 1
            window = signal.past.repeat(taps)
            before = torch.convolution(
                window, weight, bias, strides, instruction.padding, near, False, [0] * spatial, groups
            )
        reach = signal.reach + history
        return self._emit(instruction, Signal(out, shift, before, reach, signal.cause))

    def mean(self, node: fx.Node, x: Ref, axes: Any = None, keep: bool = False, **_: Any) -> Ref:
        """Mean, sum or maximum, over time or over channels."""
        name = base_name(node.target)
        layout = self._signal(x).layout
        given = [axes] if isinstance(axes, int) else list(axes or range(len(layout.shape)))
        given = [axis % len(layout.shape) for axis in given]
        if any(layout.shape[axis] in (BATCH, MERGED) for axis in given):
            raise refusal(node, "mixes the streams of a batch")
        if layout.axis not in given:
            return self.operator(node, x, given, keep)
        how: Pooled = {"mean": "mean", "sum": "sum"}.get(name, "max")  # type: ignore[assignment]
        if name == "amin":
            raise refusal(node, "takes a minimum over time; take the maximum of the negative instead")
        if given == [layout.axis]:
            return self._pool(node, x, how, keep=keep)
        pooled = self._pool(node, x, how, keep=True, name=f"{_path(node)}/over_time")
        return self.operator(node, pooled, given, keep)

    def max(self, node: fx.Node, x: Ref, *args: Any, **options: Any) -> Any:
        if not args:
            raise refusal(node, "mixes the streams of a batch")
        if isinstance(args[0], Ref | torch.Tensor):
            return self.operator(node, x, *args)
        axis = int(args[0]) % len(self._signal(x).layout.shape)
        if axis != self._signal(x).layout.axis:
            raise refusal(node, "takes a maximum with its place; use torch.amax")
        keep = bool(args[1]) if len(args) > 1 else bool(options.get("keepdim"))
        return self._pool(node, x, "max", keep=keep), refusal(node, "reads the place of a maximum over time")

    def adaptive_pool(self, node: fx.Node, x: Ref, size: Sequence[int]) -> Any:
        layout = self._signal(x).layout
        if list(size) != [1] or layout.axis != len(layout.shape) - 1:
            raise refusal(node, f"pools to {list(size)} steps, expected one")
        if "avg" in base_name(node.target):
            return self._pool(node, x, "mean", keep=True)
        return self._pool(node, x, "max", keep=True), refusal(node, "reads the place of a maximum over time")

    def cumsum(self, node: fx.Node, x: Ref, axis: int, **_: Any) -> Ref:
        if axis % len(self._signal(x).layout.shape) != self._signal(x).layout.axis:
            raise refusal(node, "sums along another axis than time")
        return self._pool(node, x, "cumsum", keep=True)

    def _pool(self, node: fx.Node, x: Ref, how: Pooled, *, keep: bool, name: str = "") -> Ref:
        signal = self._signal(x)
        axis = signal.layout.axis
        assert axis is not None
        self._check_complete(node, signal)
        if how != "last" and signal.layout.extra:
            raise refusal(node, f"takes a {how} over {signal.layout.extra} steps more than the input has")
        if signal.layout.shape[axis] == MERGED:
            raise refusal(node, "mixes the streams of a batch")
        size: tuple[int | str, ...] = (TIME,) if how == "cumsum" else (1,) if keep else ()
        shape = (*signal.layout.shape[:axis], *size, *signal.layout.shape[axis + 1 :])
        extra = signal.layout.extra if how == "cumsum" else 0
        state = None if how == "last" else {"mean": "sum", "cumsum": "sum"}.get(how, how)
        instruction = Pool(name or _path(node), x, how, keep, state)
        return self._emit(instruction, Signal(Layout(shape, signal.layout.dtype, extra), reach=signal.reach))


def _numbered(program: Program) -> Program:
    """The program with names for its rings and states, in the order in which they are read."""
    queues = [ring.name for ring in program.rings]
    digits = max(2, len(str(len(queues) - 1)))
    named = {ring: f"queue_{i:0{digits}d}" for i, ring in enumerate(queues)}
    counts: dict[str, int] = {}
    instructions: list[Instruction] = []
    for each in program.instructions:
        if isinstance(each, Delay | Convolution) and each.ring is not None:
            each = replace(each, ring=replace(each.ring, name=named[each.ring.name]))
        elif isinstance(each, Pool) and each.state is not None:
            number = counts[each.state] = counts.get(each.state, -1) + 1
            each = replace(each, state=f"{each.state}_{number:02d}")
        instructions.append(each)
    return replace(program, instructions=tuple(instructions))


def _path(node: fx.Node) -> str:
    """A name for a node: the path of its part of the module, and its own name."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return f"{path}/{node.name}" if path else node.name


def _each(values: Sequence[int] | int, count: int) -> tuple[int, ...]:
    listed = [values] if isinstance(values, int) else list(values)
    return tuple(listed * count if len(listed) == 1 else listed)


def _has_symbols(values: Any) -> bool:
    if isinstance(values, dict):
        return _has_symbols(tuple(values.values()))
    if isinstance(values, tuple | list):
        return any(map(_has_symbols, values))
    return isinstance(values, torch.SymInt | torch.SymFloat | torch.SymBool | _Fill)


def _axes_of(node: fx.Node, name: str, rank: int) -> list[int]:
    default: Any = -1
    given = node.args[2 if name == "linalg_vector_norm" else 1 :][:1] or [node.kwargs.get("dim", default)]
    axes = given[0] if isinstance(given[0], list | tuple) else [given[0]]
    return [int(axis) % rank for axis in axes]  # type: ignore[call-overload,arg-type]


_FILLS = frozenset({"zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"})
# What operators along an axis do, for the message if it is time.
_ALONG = {
    "softmax": "takes a softmax", "log_softmax": "takes a softmax", "_softmax": "takes a softmax",
    "_log_softmax": "takes a softmax", "glu": "gates", "linalg_vector_norm": "takes a norm",
}  # fmt: skip
_Rule = Callable[..., Any]
_P = _Planner
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(OPERATORS, _P.operator),
    **dict.fromkeys(_ALONG, _P.along),
    **dict.fromkeys(("contiguous", "clone", "alias", "detach", "lift_fresh_copy"), _P.identity),
    **dict.fromkeys(("to", "_to_copy", "type_as"), _P.convert),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"), _P.dropout),
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"), _P.reshape),
    **dict.fromkeys(("permute", "transpose", "t"), _P.permute),
    **dict.fromkeys(("expand", "expand_as"), _P.expand),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unbind"), _P.split),
    **dict.fromkeys(("conv1d", "conv2d", "convolution"), _P.convolution),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _P.mean),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_max_pool1d"), _P.adaptive_pool),
    **dict.fromkeys(("layer_norm", "rms_norm"), _P.norm),
    **dict.fromkeys(("group_norm", "instance_norm"), _P.group_norm),
    **dict.fromkeys(("pad", "constant_pad_nd"), _P.pad),
    **dict.fromkeys(("matmul", "mm"), _P.matmul),
    "linear": _P.linear,
    "embedding": _P.embedding,
    "batch_norm": _P.batch_norm,
    "cat": _P.cat,
    "stack": _P.stack,
    "select": _P.select,
    "slice": _P.slice,
    "max": _P.max,
    "cumsum": _P.cumsum,
}
# Operators that PyTorch need not decompose: those above, and those refused by the name that the user knows.
KNOWN = frozenset(_RULES) | {
    "flip", "roll", "unfold", "sort", "topk", "argmax", "argmin", "var", "std", "cumprod", "logsumexp",
    "scaled_dot_product_attention", "bmm", "baddbmm", "einsum", "lstm", "gru", "rnn_tanh", "rnn_relu",
    "conv_transpose1d", "conv_transpose2d", "max_pool1d", "avg_pool1d", "upsample_nearest1d", "upsample_linear1d",
    "sym_size", "arange", "min", "prod", "median", "index_select", "gather", "scatter", "as_strided", "repeat",
    *_FILLS,
}  # fmt: skip
