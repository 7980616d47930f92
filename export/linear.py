"""Linear layers over channels, in floating point or int8, and the scales of filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

INT8_MAX = 127  # symmetric: -128 is not used


def int8_scales(largest: Array) -> NDArray[np.float32]:
    """The int8 scales for these largest magnitudes: positive, normal numbers.

    A channel of zeros has scale 1. So has a dead channel that weight decay left so small that its scale would
    not be a normal number; its values become zero.
    """
    scales = largest / INT8_MAX
    return np.where(scales >= np.finfo(np.float32).tiny, scales, 1.0).astype(np.float32)


@dataclass(frozen=True)
class Linear:
    """weight (out, in), bias (out,)."""

    weight: Array
    bias: Array

    def scaled(self, scale: Array) -> Linear:
        """With the first outputs multiplied by ``scale``: all, or the values of GLU before their gates."""
        factor = np.ones(len(self.bias))
        factor[: len(scale)] = scale
        return Linear(factor[:, None] * self.weight, factor * self.bias)

    def halves(self) -> tuple[Linear, Linear]:
        """The two halves of the outputs: value and gate of GLU."""
        half = len(self.bias) // 2
        return (
            Linear(self.weight[:half], self.bias[:half]),
            Linear(self.weight[half:], self.bias[half:]),
        )


@dataclass(frozen=True)
class FilterScales:
    """The int8 scales of a layer's filters, one per channel (d_model,)."""

    lowpass: Array
    highpass: Array


@dataclass(frozen=True)
class QuantizedLinear:
    """y = weight_scales * (weight @ q) + bias, with q = round(x / input_scales) in int8.

    weight int8 (out, in), which includes the scales of the inputs; weight_scales float32 (out,), bias
    (out,), input_scales float32 (in,). Both are symmetric: the zero point is 0. Weights are from -127 to
    127; inputs that a graph quantizes may also saturate at -128.
    """

    weight: NDArray[np.int8]
    weight_scales: NDArray[np.float32]
    bias: Array
    input_scales: NDArray[np.float32]

    @classmethod
    def of(cls, linear: Linear, input_scales: NDArray[np.float32]) -> QuantizedLinear:
        """Quantize weights with a scale per output, whose largest weight becomes 127."""
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
        """The two halves of the outputs: value and gate of GLU."""
        half = len(self.bias) // 2

        def part(rows: slice) -> QuantizedLinear:
            return QuantizedLinear(
                self.weight[rows], self.weight_scales[rows], self.bias[rows], self.input_scales
            )

        return part(slice(half)), part(slice(half, None))
