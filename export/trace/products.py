"""The products of a program that int8 can have: dense matrices, at one delay or several.

| part | products |
| --- | --- |
| ``encoder`` | of the inputs |
| ``head`` | of values over all steps, and those behind which there is no other product |
| ``mixing`` | all others |

Recurrent layers are none: they feed their rounding errors back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.calibration.table import CalibrationTable
from multires_edge.export.linear import Array, Linear, QuantizedLinear
from multires_edge.export.precision.int8 import halved
from multires_edge.export.trace.precision import Precision
from multires_edge.export.trace.program import (
    Convolution,
    Cut,
    Delay,
    Instruction,
    Operator,
    Pad,
    Program,
    Ref,
    Reshape,
    references,
)

PARTS = ("encoder", "mixing", "head")
_OPERATORS = frozenset({"linear", "matmul", "mm"})
_MOVES = frozenset({"cat", "permute", "expand", "slice", "select", "take"})


@dataclass(frozen=True)
class Product:
    """A product that the instruction ``instruction`` computes from the value ``source``.

    Its weight is (out, taps * in), the newest tap first; ``axis`` of the source are its channels. ``name`` is
    that in tables and manifests.
    """

    name: str
    instruction: str
    source: str
    axis: int
    taps: int
    linear: Linear
    part: str

    @property
    def tensor(self) -> str:
        """The name of its input in a calibration table."""
        return f"{self.name}.input"

    @property
    def channels(self) -> int:
        return int(self.linear.weight.shape[1]) // self.taps


def products_of(program: Program) -> list[Product]:
    """The products in the order in which they are computed."""
    made = {each.name: each for each in program.instructions}
    found = [product for each in program.instructions if (product := _product(each, program, made))]
    given = _of_inputs(program)
    later = _before_products(program, {each.instruction for each in found})
    parts = []
    for each in found:
        over_all = program.layouts[each.instruction].axis is None
        is_head = over_all or each.instruction not in later
        part = "encoder" if each.source in given and not over_all else "head" if is_head else "mixing"
        parts.append(replace(each, part=part))
    return parts


def quantizable(products: list[Product], parts: tuple[str, ...]) -> list[Product]:
    """The products of some parts. Raises ConfigError without any, and for parts of MultiresNets alone."""
    only = sorted(set(parts) - {*PARTS, "output"})
    if only:
        raise ConfigError(
            f"--quantize {','.join(only)} is for MultiresNets; the parts of any other network are "
            f"{', '.join(PARTS)}"
        )
    chosen = [each for each in products if each.part in parts]
    if not chosen:
        has = ", ".join(dict.fromkeys(each.part for each in products)) or "none"
        raise ConfigError(
            f"the network has no product in {', '.join(parts)} to quantize; give --quantize with parts that "
            f"it has: {has}"
        )
    return chosen


def in_int8(
    program: Program, products: list[Product], table: CalibrationTable, names: set[str]
) -> tuple[Program, Precision]:
    """The program with the products of these names in int8.

    As in a MultiresNet, filters, tables of tokens, encoder and head that are not quantized are rounded to
    float16, and stored so.
    """
    chosen = [each for each in products if each.name in names]
    kept = {each.instruction for each in products if each.name not in names and each.part == "mixing"}
    quantized = {each.instruction: _quantized(each, table.tensors[each.tensor].scales) for each in chosen}
    constants = dict(program.constants)
    for each in program.instructions:
        if each.name in quantized or each.name in kept:
            continue
        weight = _weight_of(each, program)
        if weight is not None:
            constants[weight] = _halved(program.constants[weight])
    return replace(program, constants=constants), Precision(products=quantized)


def input_ranges(
    program: Program, products: list[Product], table: CalibrationTable, names: set[str]
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitudes of each input that a product in int8 reads, broadcast to (batch, ..., time)."""
    made = {each.name: each for each in program.instructions}
    found: dict[str, NDArray[np.float32]] = {}
    for product in products:
        name, axis = product.source, product.axis
        while isinstance(each := made.get(name), Operator) and each.kind == "permute":
            axis, name = each.args[1][axis], each.args[0].name
        if product.name not in names or product.part != "encoder" or name not in program.inputs:
            continue
        sizes = [1] * len(program.layouts[name].shape)
        sizes[axis] = product.channels
        most = table.tensors[product.tensor].thresholds.reshape(sizes)
        found[name] = np.minimum(most, found.get(name, most))
    return found


def weight_noise_db(product: Product, scales: NDArray[np.float32]) -> float:
    """Mean square of the weight over that of its rounding error, in dB, with the scales of its inputs."""
    rounded = _quantized(product, scales)
    absorbed: Array = product.linear.weight * rounded.input_scales
    noise = absorbed - rounded.weight * rounded.weight_scales.astype(np.float64)[:, None]
    lost = float(np.square(noise).sum())
    return 10 * float(np.log10(np.square(absorbed).sum() / lost)) if lost else float("inf")


def _quantized(product: Product, scales: NDArray[np.float32]) -> QuantizedLinear:
    return QuantizedLinear.of(product.linear, np.tile(scales, product.taps))


def _product(each: Instruction, program: Program, made: Mapping[str, Instruction]) -> Product | None:
    if isinstance(each, Operator) and each.kind in _OPERATORS:
        return _of_operator(each, program, made)
    if isinstance(each, Convolution) and each.groups == 1:
        weight = program.constants[each.weight.name]
        if weight.dim() != 3 or (source := _source(each.source, made)) is None:
            return None
        outputs, channels, taps = weight.shape
        joined = weight.flip(2).permute(0, 2, 1).reshape(outputs, taps * channels)
        bias = None if each.bias is None else program.constants[each.bias.name]
        return _named(each.name, source, 1, taps, joined, bias)
    return None


def _of_operator(each: Operator, program: Program, made: Mapping[str, Instruction]) -> Product | None:
    first, second, *more = each.args
    left = first.name in program.constants
    source = _source(second if left else first, made)
    if source is None:
        return None
    weight, axis = program.constants[(first if left else second).name], -2 if left else -1
    if each.kind != "linear" and not left:
        weight = weight.T
    bias = None
    if more and isinstance(more[0], Ref):
        bias = program.constants[more[0].name]
    return _named(each.name, source, axis, 1, weight, bias)


def _named(
    instruction: str, source: str, axis: int, taps: int, weight: torch.Tensor, bias: torch.Tensor | None
) -> Product:
    array = weight.double().numpy()
    offset = np.zeros(len(array)) if bias is None else bias.double().numpy()
    name = instruction.replace("/", ".")
    return Product(name, instruction, source, axis, taps, Linear(array, offset), "")


def _source(ref: Ref, made: Mapping[str, Instruction]) -> str | None:
    """The value of a stream that is read; None if the past before its first step is no zero."""
    each = made.get(ref.name)
    if isinstance(each, Cut):
        return _source(each.source, made)
    if isinstance(each, Pad):
        return None if each.mask or each.value else _source(each.source, made)
    return ref.name


def _of_inputs(program: Program) -> set[str]:
    """The inputs, and what is the same values in other places."""
    found = set(program.inputs)
    for each in program.instructions:
        moved = isinstance(each, Cut | Pad | Delay | Reshape)
        moved = moved or (isinstance(each, Operator) and each.kind in _MOVES)
        if moved and found.issuperset(references(each)):
            found.add(each.name)
    return found


def _before_products(program: Program, products: set[str]) -> set[str]:
    """The instructions that a later product depends on."""
    found: set[str] = set()
    for each in reversed(program.instructions):
        if each.name in products or each.name in found:
            found |= set(references(each))
    return found


def _weight_of(each: Instruction, program: Program) -> str | None:
    """The constant that an instruction has as the weight of a product, filter or table."""
    if isinstance(each, Convolution):
        return each.weight.name
    if isinstance(each, Operator) and each.kind in (*_OPERATORS, "embedding"):
        return next(ref.name for ref in each.args if isinstance(ref, Ref) and ref.name in program.constants)
    return None


def _halved(weight: torch.Tensor) -> torch.Tensor:
    rows = weight.reshape(len(weight), -1)
    rounded = halved(rows.double().numpy(), axis=1)
    return torch.from_numpy(rounded).to(weight.dtype).reshape(weight.shape)
