"""The inputs and outputs that a graph must have: a file's own are compared with them when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from multires_edge.base.errors import BundleError
from multires_edge.format.fields import shortened
from multires_edge.format.specs import GraphSpec, Shape, TensorSpec


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a graph or an engine; a dynamic dimension is -1."""

    dtype: str
    shape: tuple[int, ...]
    is_input: bool


def expected_tensors(spec: GraphSpec) -> dict[str, TensorInfo]:
    """The inputs and outputs that the graph of a manifest's entry must have, by name."""
    fed_back = [
        (TensorSpec(name, state.dtype, state.shape), name == state.input)
        for state in spec.states
        for name in (state.input, state.output)
    ]
    plain = [(tensor, True) for tensor in spec.inputs] + [(tensor, False) for tensor in spec.outputs]
    return {
        tensor.name: TensorInfo(tensor.dtype, _sizes(tensor.shape), is_input)
        for tensor, is_input in plain + fed_back
    }


def check_tensors(
    name: str, found: Mapping[str, TensorInfo], spec: GraphSpec, remedy: str, *, fixed: bool = False
) -> None:
    """Raise BundleError unless a file has the inputs and outputs of a manifest's entry.

    ``fixed`` allows it to have a number for a dynamic dimension, as an engine has.
    """
    expected = expected_tensors(spec)
    if set(found) != set(expected):
        odd = shortened(", ".join(sorted(set(found) ^ set(expected))))
        raise BundleError(
            f"{name} does not fit {spec.file} in the manifest: only one of them has {odd}; {remedy}"
        )
    for tensor, wanted in expected.items():
        given = found[tensor]
        shape = given.shape
        if fixed and len(shape) == len(wanted.shape):
            shape = tuple(-1 if size == -1 else mine for mine, size in zip(shape, wanted.shape, strict=True))
        if replace(given, shape=shape) != wanted:
            raise BundleError(
                f"{name} does not fit {spec.file} in the manifest: its {tensor} is {_text(given)}, expected "
                f"{_text(wanted)}; {remedy}"
            )


def _text(tensor: TensorInfo) -> str:
    what = "an input" if tensor.is_input else "an output"
    sizes = ", ".join("any" if size == -1 else str(size) for size in tensor.shape)
    return f"{what} of {tensor.dtype} ({sizes})"


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(-1 if isinstance(size, str) else size for size in shape)
