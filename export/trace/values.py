"""The values of a trace while it becomes a program: their signals, delays and rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from multires_edge.base.errors import ModuleError
from multires_edge.export.trace.executor import run_operator
from multires_edge.export.trace.program import (
    BATCH,
    MERGED,
    Cut,
    Delay,
    Instruction,
    Layout,
    Operator,
    Pad,
    Ref,
    Ring,
    references,
)
from multires_edge.export.trace.signals import Signal, Symbols
from multires_edge.export.trace.tracing import Trace, base_name, refusal


@dataclass(frozen=True)
class Fill:
    """A tensor of one number, whose shape may depend on the inputs."""

    layout: Layout
    value: float

    def scalar(self) -> torch.Tensor:
        return torch.tensor(self.value, dtype=self.layout.dtype)


class Values:
    """What rules share. ``values`` has for each node a reference, a constant, or the error of its rule."""

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

    def _resolve(self, node: Any) -> Any:
        value = self.values[node]
        if isinstance(value, ModuleError):
            raise value
        return value

    def _fill(self, node: fx.Node, name: str) -> Fill | torch.Tensor | None:
        number: Any = {"zeros": 0.0, "ones": 1.0}.get(name.removeprefix("new_").removesuffix("_like"))
        if number is None:
            number = node.args[-1] if isinstance(node.args[-1], int | float) else None
        if number is None:
            return None
        try:
            layout = self.symbols.layout(node.meta["val"])
        except ValueError:
            return None
        sizes = [size for size in layout.shape if isinstance(size, int)]
        if len(sizes) == len(layout.shape):
            return torch.full(sizes, number, dtype=layout.dtype)
        return Fill(layout, number)

    def _constant(self, node: fx.Node, tensor: torch.Tensor, what: str = "") -> Ref:
        """A constant under the name of the parameter that it is, or of the node that reads it."""
        for known, each in self.constants.items():
            if each is tensor:
                return Ref(known)
        own = next((name for name, each in self.trace.constants.items() if each is tensor), None)
        name = f"weights/{own}" if own else f"{path_of(node)}/{what or 'constant'}"
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
            raise ValueError(
                "mixes steps of a value whose first axis is not the batch; move the batch to the front"
            )
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
        ring = Ring(
            f"ring{len(self._rings)}", slots, dilation, signal.layout.width, signal.layout.dtype, before
        )
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

    def _timed(self, ref: Ref) -> bool:
        return ref.name in self.signals and self._signal(ref).layout.axis is not None

    def _reach(self, args: Any) -> int:
        return max((self.signals[name].reach for name in references(args) if name in self.signals), default=0)

    def _same_axis(self, node: fx.Node, refs: Sequence[Ref]) -> None:
        layouts = [self._signal(ref).layout for ref in refs]
        places_of_time = {len(layout.shape) - (layout.axis or 0) for layout in layouts}
        if len(places_of_time) > 1 or len({layout.extra for layout in layouts}) > 1:
            raise refusal(node, "relates steps to other steps, as attention does")

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

    def _apply(
        self, node: fx.Node, layout: Layout, signal: Signal, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Ref:
        name = base_name(node.target)
        instruction = Operator(path_of(node), name, node.target, args, options)
        if signal.shift > 0 and layout.axis is not None:
            values = {each: self.signals[each].past for each in references(args) if each in self.signals}
            signal = replace(
                signal, before=run_operator(instruction, {**self.constants, **values}, layout, 1)
            )
        return self._emit(instruction, signal)


def path_of(node: fx.Node) -> str:
    """A name for a node: the path of its part of the module, and its own name.

    It always has a slash, which names of inputs and outputs never have.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return f"{path or 'net'}/{node.name}"
