"""The range of batches and sequence lengths of an engine: TensorRT's optimization profile."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from multires_edge.base.errors import InputError
from multires_edge.format.specs import GraphSpec, Shape
from multires_edge.format.targets import MOST_ELEMENTS
from multires_edge.runtime.backends.tensorrt.engine_file import options_of


@dataclass(frozen=True)
class Range:
    """Smallest, optimal and largest size of a dimension."""

    least: int
    best: int
    most: int

    @classmethod
    def parse(cls, text: str, option: str) -> Range:
        """Read "MIN:OPT:MAX", or one number for all three. Raises InputError."""
        if not re.fullmatch(r"\d{1,12}(:\d{1,12}:\d{1,12})?", text, re.ASCII):
            raise InputError(f"{option} is {text!r}, expected one number, or MIN:OPT:MAX such as 1:1:16")
        sizes = [int(part) for part in text.split(":")]
        least, best, most = sizes if len(sizes) == 3 else sizes * 3
        if not 1 <= least <= best <= most:
            raise InputError(f"{option} is {text}, expected 1 <= MIN <= OPT <= MAX")
        return cls(least, best, most)

    def __str__(self) -> str:
        return f"{self.least}:{self.best}:{self.most}"


@dataclass(frozen=True)
class Profile:
    """The range of each dimension, by its name in the manifest: "batch" or "time"."""

    ranges: dict[str, Range]

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """MIN, OPT and MAX of each dimension, as a sidecar has them."""
        return {name: (size.least, size.best, size.most) for name, size in self.ranges.items()}

    def shapes(self, shape: Shape) -> tuple[list[int], list[int], list[int]]:
        """The smallest, optimal and largest shape of a tensor."""
        sizes = [self.ranges[size] if isinstance(size, str) else Range(size, size, size) for size in shape]
        return [s.least for s in sizes], [s.best for s in sizes], [s.most for s in sizes]

    def check(self, spec: GraphSpec, width: int) -> None:
        """Raise InputError for a tensor that is too large for TensorRT.

        ``width`` is the largest number of values per step and stream in any layer.
        """
        inner: Iterable[Shape] = [(*self.ranges, width)]
        ends = [tensor.shape for tensor in (*spec.inputs, *spec.outputs)]
        for shape in [*ends, *(state.shape for state in spec.states), *inner]:
            elements = 1
            for size in self.shapes(shape)[2]:
                elements *= size
            if elements > MOST_ELEMENTS:
                options = options_of(spec)
                given = " and ".join(f"--{options[name]} {size}" for name, size in self.ranges.items())
                raise InputError(
                    f"{given} makes a tensor of {elements:,} elements, but TensorRT allows at most "
                    f"{MOST_ELEMENTS:,}: give a smaller MAX"
                )
