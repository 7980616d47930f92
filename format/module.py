"""A network that is a PyTorch module of the user's own: what the manifest says of it, and its golden data.

In its ``golden.npz`` the name of an array is ``input/``, ``stepwise/`` or ``full/``, and that of the tensor.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.format.arrays import check_array, npz_bytes, read_npz
from multires_edge.format.fields import Count, Line, Name, Text
from multires_edge.format.golden import Golden, golden_errors
from multires_edge.format.specs import TensorSpec

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ModuleConfig:
    """A network that was traced from a PyTorch module.

    ``inputs`` and ``outputs`` are those of whole sequences. ``tokens`` has the number of tokens that each
    integer input knows. Apart from pooling, an output depends on at most ``receptive_field`` steps.
    ``unmatched`` says why the module is no MultiresNet, which would run faster and in every backend;
    ``filters`` says which of its convolutions are joined in the step graph.
    """

    module: Line
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tokens: dict[Name, Count]
    receptive_field: Count
    unmatched: Text
    filters: Text

    shifts: ClassVar[bool] = False  # a stream of it takes the inputs as they are

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if not self.inputs or not self.outputs or len(set(names)) < len(names):
            raise ValueError("inputs and outputs need different names, and one each at least")
        for tensor in self.inputs:
            if tensor.shape[:1] != ("batch",) or tensor.shape[-1] != "time" or tensor.shape.count("time") > 1:
                raise ValueError(f"input {tensor} is not (batch, ..., time)")
        for tensor in self.outputs:
            if tensor.shape[:1] != ("batch",) or tensor.shape.count("time") > 1:
                raise ValueError(f"output {tensor} is not (batch, ...)")

    @property
    def n_tokens(self) -> int | None:
        """How many tokens the first input knows; None for a float input."""
        return self.tokens.get(self.inputs[0].name)

    @property
    def is_plain(self) -> bool:
        """Whether it has one input and one output, so that streams take and return arrays."""
        return len(self.inputs) == len(self.outputs) == 1

    @property
    def per_step(self) -> bool:
        """Whether its first output has a value at every step."""
        return "time" in self.outputs[0].shape

    @property
    def d_output(self) -> int:
        """The classes of its output. Raises ConfigError as :meth:`check_plain`."""
        self.check_plain()
        return int(self.outputs[0].shape[1])

    def check_plain(self) -> None:
        """Raise ConfigError unless it has one input, and one output (batch, classes), perhaps over time."""
        output = self.outputs[0]
        if not self.is_plain or output.shape[2:] not in ((), ("time",)) or "time" in output.shape[:2]:
            has = "; ".join(map(str, (*self.inputs, *self.outputs)))
            raise ConfigError(
                f"the module has {has}, expected one input, and one output (batch, classes) or (batch, "
                "classes, time)"
            )

    def step_inputs(self) -> list[TensorSpec]:
        """The inputs of the step graph."""
        return [_of_step(tensor) for tensor in self.inputs]

    def step_outputs(self) -> list[TensorSpec]:
        """The outputs of the step graph."""
        return [_of_step(tensor) for tensor in self.outputs]


def _of_step(tensor: TensorSpec) -> TensorSpec:
    return replace(tensor, shape=tuple(size for size in tensor.shape if size != "time"))


@dataclass(frozen=True)
class ModuleGolden:
    """Recorded inputs (rows, ..., time), and the module's outputs in float64, by name.

    ``stepwise`` (rows, ..., time) are the outputs for every prefix of the inputs, at its last step; ``full``
    are the outputs for the whole inputs.
    """

    inputs: Arrays
    stepwise: Arrays
    full: Arrays

    @property
    def steps(self) -> int:
        return int(next(iter(self.inputs.values())).shape[-1])

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    def first(self, steps: int, config: ModuleConfig) -> ModuleGolden:
        """The first steps only."""
        if steps >= self.steps:
            return self

        def cut(arrays: Arrays) -> Arrays:
            return {name: np.ascontiguousarray(array[..., :steps]) for name, array in arrays.items()}

        full = {}
        for tensor in config.outputs:
            if "time" in tensor.shape:
                full[tensor.name] = self.full[tensor.name].take(range(steps), tensor.shape.index("time"))
            else:
                full[tensor.name] = self.stepwise[tensor.name][..., steps - 1]
        return ModuleGolden(cut(self.inputs), cut(self.stepwise), full)

    def of_plain(self, config: ModuleConfig) -> Golden:
        """The same of a network of one input and one output. Raises ConfigError."""
        config.check_plain()
        (x,), (stepwise,), (full,) = self.inputs.values(), self.stepwise.values(), self.full.values()
        return Golden(x, stepwise, full)

    def to_bytes(self) -> bytes:
        """The content of a file."""
        return npz_bytes(
            **{
                f"{part}/{name}": array
                for part in ("input", "stepwise", "full")
                for name, array in getattr(self, "inputs" if part == "input" else part).items()
            }
        )

    @classmethod
    def parse(cls, content: bytes, path: Path, config: ModuleConfig) -> ModuleGolden:
        """Read the content of a file, and check that it is for a network. Raises BundleError."""
        with golden_errors(path, "module"):
            arrays = read_npz(io.BytesIO(content))
            golden = cls(
                {tensor.name: arrays[f"input/{tensor.name}"] for tensor in config.inputs},
                {tensor.name: arrays[f"stepwise/{tensor.name}"] for tensor in config.outputs},
                {tensor.name: arrays[f"full/{tensor.name}"] for tensor in config.outputs},
            )
            golden._check(config)
        return golden

    def _check(self, config: ModuleConfig) -> None:
        rows, steps, float64 = self.rows, self.steps, np.dtype(np.float64)

        def sized(shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
            return tuple(rows if size == "batch" else steps if size == "time" else size for size in shape)

        for tensor in config.inputs:
            name = tensor.name
            dtype, tokens = np.dtype(tensor.dtype), config.tokens.get(name)
            check_array(self.inputs[name], f"input/{name}", dtype, sized(tensor.shape), tokens)
        for tensor, step in zip(config.outputs, config.step_outputs(), strict=True):
            check_array(self.full[tensor.name], f"full/{tensor.name}", float64, sized(tensor.shape))
            shape = (*sized(step.shape), steps)
            check_array(self.stepwise[tensor.name], f"stepwise/{tensor.name}", float64, shape)
