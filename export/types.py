"""The floating-point type of each part of a network's graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Type = np.dtype[Any]

FLOAT32: Type = np.dtype(np.float32)
FLOAT16: Type = np.dtype(np.float16)
INT8: Type = np.dtype(np.int8)


@dataclass(frozen=True)
class TypePlan:
    """The type in which each part computes, and the type of the queues.

    Inputs, outputs and pooling are always float32, because pooling sums thousands of steps.
    """

    layers: tuple[Type, ...]
    encoder: Type = FLOAT32
    head: Type = FLOAT32
    queues: Type = FLOAT32

    @classmethod
    def float32(cls, n_layers: int) -> TypePlan:
        """All parts in float32."""
        return cls((FLOAT32,) * n_layers)

    @property
    def taps(self) -> Type:
        """The type of the weighted sum of the taps of all layers."""
        return FLOAT16 if all(layer == FLOAT16 for layer in self.layers) else FLOAT32
