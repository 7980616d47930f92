"""What graphs compute with, in floating point or int8: linear layers over channels, and filters' scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

INT8_MAX = 127  # symmetric: -128 is not used


def int8_scales(largest: Array) -> NDArray[np.float32]:
    """What one int8 level is worth where the largest magnitudes are these: positive, normal numbers.

    Zeros are zeros with any scale; and so is what weight decay has left of a dead channel, whose scale
    would be no normal number.
    """
    scales = largest / INT8_MAX
    return np.where(scales >= np.finfo(np.float32).tiny, scales, 1.0).astype(np.float32)


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
    """y = weight_scales * (weight @ q) + bias, with q = round(x / input_scales) in int8.

    weight int8 (out, in), which has absorbed the inputs' scales; weight_scales float32 (out,), bias
    (out,), input_scales float32 (in,). Both are symmetric: zero is zero. Weights go from -127 to 127;
    what a graph quantises may also saturate at -128.
    """

    weight: NDArray[np.int8]
    weight_scales: NDArray[np.float32]
    bias: Array
    input_scales: NDArray[np.float32]

    @classmethod
    def of(cls, linear: Linear, input_scales: NDArray[np.float32]) -> QuantizedLinear:
        """Quantise weights with a scale for each output, its largest weight being 127."""
        absorbed = linear.weight * input_scales.astype(np.float64)
        scales = int8_scales(np.abs(absorbed).max(axis=1))
        rounded = np.rint(absorbed / scales[:, None])
        weight = np.clip(rounded, -INT8_MAX, INT8_MAX).astype(np.int8)
        return cls(weight, scales, linear.bias, input_scales)

    @property
    def dequantized(self) -> Array:
        """The weight (out, in) in floating point, for inputs that are not quantized."""
        return self.weight * self.weight_scales.astype(np.float64)[:, None] / self.input_scales

    def halves(self) -> tuple[QuantizedLinear, QuantizedLinear]:
        """The first and the second half of the outputs: what GLU calls value and gate."""
        half = len(self.bias) // 2

        def part(rows: slice) -> QuantizedLinear:
            return QuantizedLinear(
                self.weight[rows], self.weight_scales[rows], self.bias[rows], self.input_scales
            )

        return part(slice(half)), part(slice(half, None))
