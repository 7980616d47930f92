"""Choose what of a program is computed in float16.

Products, filters and activations are. Norms, statistics of channels, softmax, exponentials, roots, running
values and recurrent layers stay in float32: they square or sum many values, divide by small ones, or feed
their rounding errors back. As in a MultiresNet, all that comes near the largest float16 on inputs that are
far too large stays in float32 too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.precision.fp16 import LARGEST, TOO_LARGE
from multires_edge.export.trace.observing import Observer
from multires_edge.export.trace.precision import Precision
from multires_edge.export.trace.program import (
    Convolution,
    Cut,
    Delay,
    FilterBank,
    Instruction,
    Operator,
    Pad,
    Pool,
    Program,
    Recurrence,
    Reshape,
    references,
)
from multires_edge.export.types import FLOAT16, FLOAT32, Type
from multires_edge.format.targets import GraphForm

# Operators that round each value on its own, or that are products.
_ROUNDED = frozenset(
    {
        "linear", "matmul", "mm", "einsum", "embedding", "add", "sub", "rsub", "mul", "neg", "abs", "relu",
        "relu6", "sigmoid", "tanh", "gelu", "silu", "glu", "hardtanh", "clamp", "clamp_min", "clamp_max",
        "leaky_relu", "prelu", "hardsigmoid", "hardswish", "maximum", "minimum", "max", "where",
    }
)  # fmt: skip
_REDUCTIONS = frozenset({"mean", "sum", "amax", "amin", "linalg_vector_norm"})
# They only move values, in the type that these have.
_MOVES = frozenset({"cat", "permute", "expand", "slice", "select", "take"})
_PRODUCTS = frozenset({"linear", "matmul", "mm", "einsum"})


def plan_float16(
    program: Program, step: Program, form: GraphForm, inputs: Iterable[Mapping[str, NDArray[Any]]]
) -> Precision:
    """The types of a program and of its step, by typical inputs (batch, ..., time) by name."""
    types = _by_rule(program)
    largest = _largest_values(program, form, types, inputs)
    for each in program.instructions:
        read = [each.name, *(name for name in references(each) if name in largest)]
        if types[each.name] == FLOAT16 and max(largest[name] for name in read) > LARGEST:
            types[each.name] = FLOAT32
    for bank in step.banks:
        inner = set(_instructions_of(program, bank, step))
        types[bank.name] = FLOAT32 if any(types[name] == FLOAT32 for name in inner) else FLOAT16
    return Precision(types)


def _by_rule(program: Program) -> dict[str, Type]:
    """The types of instructions whose values are not too large."""
    statistics: set[str] = set()
    types: dict[str, Type] = {}
    made = {each.name: each for each in program.instructions}
    for each in program.instructions:
        values = [name for name in references(each) if name in program.layouts]
        if _is_statistic(each, values, statistics):
            statistics.add(each.name)
        is_float = program.layouts[each.name].dtype.is_floating_point
        types[each.name] = _type_of(each, values, statistics, types) if is_float else FLOAT32
    readers: dict[str, list[str]] = {}
    for each in program.instructions:
        for name in references(each):
            readers.setdefault(name, []).append(each.name)
    for name, by in readers.items():
        # What only a statistic reads: squares, and differences from a mean.
        if name in types and name not in program.outputs.values() and statistics.issuperset(by):
            each = made[name]
            if isinstance(each, Operator) and each.kind not in _PRODUCTS:
                types[name] = FLOAT32
    return types


def _is_statistic(each: Instruction, values: list[str], statistics: set[str]) -> bool:
    """Whether a value is a sum or maximum over channels, or made of such values alone."""
    if isinstance(each, Operator) and each.kind in _REDUCTIONS:
        return True
    if isinstance(each, Operator | Reshape | Cut | Delay | Pad) and values:
        mixes = isinstance(each, Operator) and each.kind in _PRODUCTS
        return not mixes and statistics.issuperset(values)
    return False


def _type_of(each: Instruction, values: list[str], statistics: set[str], types: dict[str, Type]) -> Type:
    given = {types.get(name, FLOAT32) for name in values}
    if isinstance(each, Reshape | Cut | Pad | Delay) or (isinstance(each, Operator) and each.kind in _MOVES):
        return FLOAT16 if given == {FLOAT16} else FLOAT32
    if isinstance(each, Pool | Recurrence):
        # The last step is no running value.
        last = isinstance(each, Pool) and each.state is None
        return FLOAT16 if last and given == {FLOAT16} else FLOAT32
    if isinstance(each, Convolution):
        return FLOAT16
    rounded = isinstance(each, Operator) and each.kind in _ROUNDED
    return FLOAT16 if rounded and not statistics.intersection(values) else FLOAT32


def _largest_values(
    program: Program,
    form: GraphForm,
    types: Mapping[str, Type],
    inputs: Iterable[Mapping[str, NDArray[Any]]],
) -> dict[str, float]:
    """The largest magnitude of each float value that float16 computes, or that it computes from."""
    read = {name for each in program.instructions for name in references(each)}
    floats = {
        name
        for name, layout in program.layouts.items()
        if layout.dtype.is_floating_point and (types.get(name) == FLOAT16 or name in read)
    }
    observe, largest = Observer(program, form, floats), dict.fromkeys(floats, 0.0)
    for each in inputs:
        large = {
            name: array * TOO_LARGE if array.dtype.kind == "f" else array for name, array in each.items()
        }
        for name, array in observe(large).items():
            most = float(np.abs(array).max()) if array.size else 0.0
            largest[name] = max(largest[name], np.inf if np.isnan(most) else most)
    return largest


def _instructions_of(program: Program, bank: FilterBank, step: Program) -> Iterator[str]:
    """The instructions that a bank is in place of: all between its outputs and its sources."""
    made = {each.name: each for each in program.instructions}
    ends = {ref.name for refs in bank.sources for ref in refs}
    outputs = [each for each in step.instructions if getattr(each, "bank", None) is bank]
    ends |= {name for each in outputs for name in references(each) if name != each.name}
    pending, seen = [each.name for each in outputs], set[str]()
    ends -= set(pending)  # an output may be a source of further rows
    while pending:
        name = pending.pop()
        if name in seen or name in ends or name not in made:
            continue
        seen.add(name)
        yield name
        pending += references(made[name])
