"""What a program computes of each channel by itself: sums of values, and of new and past rows of rings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from multires_edge.export.trace.executor import run_operator
from multires_edge.export.trace.program import (
    BATCH,
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
    Ring,
)


class Now(NamedTuple):
    """A value of this step."""

    value: str


class Newest(NamedTuple):
    """The row that a ring gets at this step."""

    ring: str


class Tap(NamedTuple):
    """The row that a ring got ``delay`` steps ago."""

    ring: str
    delay: int


Term = Now | Newest | Tap


@dataclass(frozen=True)
class Sum:
    """``bias`` (width,) and terms with factors (width,)."""

    bias: Tensor
    terms: Mapping[Term, Tensor] = field(default_factory=dict)

    def scaled(self, by: Tensor | float) -> Sum:
        return Sum(self.bias * by, {term: factors * by for term, factors in self.terms.items()})

    def plus(self, other: Sum) -> Sum:
        terms = dict(self.terms)
        for term, factors in other.terms.items():
            terms[term] = terms[term] + factors if term in terms else factors
        return Sum(self.bias + other.bias, terms)

    @property
    def taps(self) -> list[Tap]:
        return [term for term in self.terms if isinstance(term, Tap)]


@dataclass(frozen=True)
class Linear:
    """A value as two sums: ``whole`` has no newest rows, ``short`` has those that there are."""

    whole: Sum
    short: Sum

    @classmethod
    def of(cls, one: Sum) -> Linear:
        return cls(one, one)

    def scaled(self, by: Tensor | float) -> Linear:
        return Linear(self.whole.scaled(by), self.short.scaled(by))

    def plus(self, other: Linear) -> Linear:
        return Linear(self.whole.plus(other.whole), self.short.plus(other.short))


class LinearValues:
    """The values of a program by name. One that has no taps is a term of others.

    ``rings`` are those that only filters of single channels read; ``rows`` has what each gets at a step, in
    an order in which every row is a sum of earlier ones.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.made = {each.name: each for each in program.instructions}
        self.values: dict[str, Linear] = {}
        self.rows: dict[str, Sum] = {}
        self.rings = self._rings()
        self._held = self._values_in_rings()
        for name in program.inputs:
            self._enter(name, None)
        for each in program.instructions:
            self._enter(each.name, self._value(each))

    def has_taps(self, name: str) -> bool:
        """Whether a value is made of past rows by linear operators alone."""
        return name in self.values and bool(self.values[name].whole.taps)

    def source_of_moved(self, name: str) -> str | None:
        """The value that a reshape, a transposition, a padding or a cut gives as it is; None for others."""
        each = self.made.get(name)
        if not self.has_taps(name):
            return None
        if isinstance(each, Operator) and each.kind == "permute":
            return str(each.args[0].name)
        return each.source.name if isinstance(each, Cut | Pad | Reshape) else None

    def _rings(self) -> dict[str, Ring]:
        found: dict[str, Ring] = {}
        others: set[str] = set()
        for each in self.program.instructions:
            if not isinstance(each, Convolution | Delay) or (ring := each.ring) is None:
                continue
            single = isinstance(each, Delay) or self._is_depthwise(each)
            if single and ring.before is None and ring.dtype == torch.float64:
                found[ring.name] = ring
            else:
                others.add(ring.name)
        return {name: ring for name, ring in found.items() if name not in others}

    def _is_depthwise(self, each: Convolution) -> bool:
        weight = self.program.constants[each.weight.name]
        shape = self.program.layouts[each.source.name].step_shape
        return weight.dim() == 3 and shape == (BATCH, len(weight)) and each.groups == len(weight)

    def _values_in_rings(self) -> dict[str, list[str]]:
        """The rings that hold each value."""
        held: dict[str, list[str]] = {}
        for each in self.program.instructions:
            if not isinstance(each, Convolution | Delay) or each.ring is None:
                continue
            name = each.source.name
            while isinstance(moved := self.made.get(name), Cut | Pad) and not getattr(moved, "mask", 0):
                name = moved.source.name
            rings = held.setdefault(name, [])
            if each.ring.name in self.rings and each.ring.name not in rings:
                rings.append(each.ring.name)
        return held

    def _enter(self, name: str, value: Linear | None) -> None:
        layout = self.program.layouts[name]
        zeros = torch.zeros(layout.width, dtype=layout.dtype)
        ones = torch.ones(layout.width, dtype=layout.dtype)
        if value is None or not value.whole.taps:
            value = Linear.of(Sum(zeros, {Now(name): ones}))
        for ring in self._held.get(name, ()):
            self.rows[ring] = value.short
            value = replace(value, short=Sum(zeros, {Newest(ring): ones}))
        self.values[name] = value

    # What an instruction computes of each channel. None: it is not linear, or mixes channels.

    def _value(self, each: Instruction) -> Linear | None:
        if self.program.layouts[each.name].dtype != torch.float64:
            return None  # tokens, or values that the module rounds
        if isinstance(each, Operator):
            return self._operator(each)
        if isinstance(each, Pool | Recurrence | Filtered):
            return None
        if isinstance(each, Delay):
            return self._past(each.ring, {each.ring.slots - 1: 1.0}) if each.ring.name in self.rings else None
        if isinstance(each, Convolution):
            return self._convolution(each)
        masked = isinstance(each, Pad) and each.mask
        return None if masked else self.values[each.source.name]

    def _convolution(self, each: Convolution) -> Linear | None:
        if not self._is_depthwise(each) or (each.ring is not None and each.ring.name not in self.rings):
            return None
        factors = self.program.constants[each.weight.name][:, 0].flip(1).T
        value = self.values[each.source.name].scaled(factors[0])
        if each.bias is not None:
            value = value.plus(Linear.of(Sum(self.program.constants[each.bias.name])))
        if each.ring is None:
            return value
        return value.plus(self._past(each.ring, dict(zip(each.ring.delays, factors[1:], strict=True))))

    def _past(self, ring: Ring, factors: Mapping[int, Tensor | float]) -> Linear:
        ones = torch.ones(ring.width, dtype=ring.dtype)
        return Linear.of(
            Sum(0 * ones, {Tap(ring.name, delay): ones * each for delay, each in factors.items()})
        )

    def _operator(self, each: Operator) -> Linear | None:
        layout = self.program.layouts[each.name]
        if each.kind == "permute":
            return self.values[each.args[0].name] if self._keeps_order(each) else None
        if each.kind == "neg":
            value = self._argument(each.args[0], layout)
            return None if value is None else value.scaled(-1.0)
        if each.kind in ("add", "sub", "rsub"):
            return self._sum(each, layout, *each.args, **each.options)
        if each.kind in ("mul", "div"):
            return self._product(each, layout, *each.args, **each.options)
        return None

    def _sum(self, each: Operator, layout: Layout, a: Any, b: Any, alpha: float = 1) -> Linear | None:
        left, right = self._argument(a, layout), self._argument(b, layout)
        if left is None or right is None:
            return None
        if each.kind == "rsub":
            left, right = right, left
        return left.plus(right.scaled(float(alpha) if each.kind == "add" else -float(alpha)))

    def _product(
        self, each: Operator, layout: Layout, a: Any, b: Any, rounding_mode: str | None = None
    ) -> Linear | None:
        if each.kind == "mul" and not self._is_constant(b):
            a, b = b, a
        value = self._argument(a, layout)
        if value is None or not self._is_constant(b) or rounding_mode is not None:
            return None
        factors = self._constant(b, layout)
        return value.scaled(factors if each.kind == "mul" else 1 / factors)

    def _keeps_order(self, each: Operator) -> bool:
        given = self.program.layouts[each.args[0].name]
        index = torch.arange(given.width).reshape(given.sizes(1))
        moved = run_operator(each, {each.args[0].name: index}, self.program.layouts[each.name], 1)
        return torch.equal(moved.reshape(-1), index.reshape(-1))

    def _argument(self, argument: Any, layout: Layout) -> Linear | None:
        """An argument of a sum or a product; None if it has other channels."""
        if self._is_constant(argument):
            return Linear.of(Sum(self._constant(argument, layout)))
        given = self.program.layouts[argument.name]
        same = given.step_shape == layout.step_shape and given.dtype == layout.dtype
        return self.values[argument.name] if same else None

    def _is_constant(self, argument: Any) -> bool:
        return not isinstance(argument, Ref) or argument.name in self.program.constants

    def _constant(self, argument: Any, layout: Layout) -> Tensor:
        held = isinstance(argument, Ref)
        tensor = self.program.constants[argument.name] if held else torch.tensor(argument, dtype=layout.dtype)
        return tensor.to(layout.dtype).broadcast_to(layout.sizes(1)).reshape(-1)
