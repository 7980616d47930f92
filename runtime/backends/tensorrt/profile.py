"""Check the shapes that an engine was built for."""

from __future__ import annotations

from multires_edge.base.errors import InputError
from multires_edge.runtime.backends.tensorrt.device import Engine


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
