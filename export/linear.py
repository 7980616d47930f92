"""What graphs compute with, in floating point or int8: linear layers over channels, and filters' scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

INT8_MAX = 127  # symmetric: -128 is not used


@dataclass(frozen=True)
class Linear:
    """weight (out, in), bias (out,)."""

    weight: Array
    bias: Array

    def halves(self) -> tuple[Linear, Linear]:
        """The first and the second half of the outputs: what GLU calls value and gate."""
        half = len(self.bias) // 2
        return (
            Linear(self.weight[:half], self.bias[:half]),
            Linear(self.weight[half:], self.bias[half:]),
        )


@dataclass(frozen=True)
class FilterScales:
    """What one int8 level is worth in a layer's filters, for each channel (d_model,)."""

    lowpass: Array
    highpass: Array


@dataclass(frozen=True)
class QuantizedLinear:
    """y = input_scale * weight_scales * (weight @ q) + bias, with q = round(x / input_scale) in int8.

    weight int8 (out, in), weight_scales float32 (out,), bias (out,), input_scale a float32.
    Both are symmetric: zero is zero, and the values go from -127 to 127.
    """

    weight: NDArray[np.int8]
    weight_scales: NDArray[np.float32]
    bias: Array
    input_scale: np.float32

    @classmethod
    def of(cls, linear: Linear, input_scale: np.float32) -> QuantizedLinear:
        """Quantise weights with a scale for each output, its largest weight being 127."""
        largest = np.abs(linear.weight).max(axis=1)
        # A row of zeros is zeros with any scale.
        scales = np.where(largest > 0, largest / INT8_MAX, 1.0).astype(np.float32)
        rounded = np.rint(linear.weight / scales[:, None])
        weight = np.clip(rounded, -INT8_MAX, INT8_MAX).astype(np.int8)
        return cls(weight, scales, linear.bias, input_scale)

    def halves(self) -> tuple[QuantizedLinear, QuantizedLinear]:
        """The first and the second half of the outputs: what GLU calls value and gate."""
        half = len(self.bias) // 2

        def part(rows: slice) -> QuantizedLinear:
            return QuantizedLinear(
                self.weight[rows], self.weight_scales[rows], self.bias[rows], self.input_scale
            )

        return part(slice(half)), part(slice(half, None))
