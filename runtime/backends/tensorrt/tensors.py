"""Check that an engine belongs to a graph, and was built for a shape."""

from __future__ import annotations

from multires_edge.base.errors import BundleError, InputError
from multires_edge.format.specs import GraphSpec, Shape, TensorSpec
from multires_edge.runtime.backends.tensorrt.device import Engine, TensorInfo


def expected_tensors(spec: GraphSpec) -> dict[str, TensorInfo]:
    """The inputs and outputs that an engine of the graph must have; the batch is -1."""
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


def check_tensors(engine: Engine, spec: GraphSpec) -> None:
    """Raise BundleError unless the engine has the graph's inputs and outputs."""
    expected = expected_tensors(spec)
    if set(engine.tensors) != set(expected):
        odd = ", ".join(sorted(set(engine.tensors) ^ set(expected)))
        raise BundleError(
            f"{engine.name} does not fit {spec.file}: only one of them has {odd}; build it again"
        )
    for name, wanted in expected.items():
        found = engine.tensors[name]
        fits = len(found.shape) == len(wanted.shape) and all(
            size in (-1, given) for size, given in zip(wanted.shape, found.shape, strict=True)
        )
        if found.is_input != wanted.is_input or found.dtype != wanted.dtype or not fits:
            raise BundleError(
                f"{engine.name} does not fit {spec.file}: its {name} is {found.dtype} {found.shape}, "
                f"expected {wanted.dtype} {wanted.shape}; build it again"
            )


def check_shape(engine: Engine, tensor: str, shape: tuple[int, ...]) -> None:
    """Raise InputError if the engine was not built for a shape of an input, (batch, ...) or (..., time)."""
    for axis, (size, least, most) in enumerate(zip(shape, *engine.limits(tensor), strict=True)):
        if not least <= size <= most:
            what = "time" if axis else "batch"
            built = str(least) if least == most else f"{least} to {most}"
            raise InputError(
                f"{what} is {size}, but {engine.name} was built for {built}: build it again with "
                f"--{what} {size}"
            )


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(-1 if isinstance(size, str) else size for size in shape)
