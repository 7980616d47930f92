"""Norms folded in float64: the part of each that remains in a residual block.

Each kind is a class here, registered in :data:`FOLDED_NORMS`. Its nodes are in
:mod:`multires_edge.export.graphs.norms`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.linear import Linear

Array = NDArray[np.float64]
Folded = tuple["FoldedNorm", Linear, Linear | None]


@dataclass(frozen=True)
class FoldedNorm(ABC):
    """How to compute a block's output from its input x and its change y; scale and shift are (d_model,)."""

    scale: Array
    shift: Array | None
    epsilon: float = 0.0

    # The names of scale and shift in the native weights; None if the engine has no such norm.
    native_names: ClassVar[tuple[str, str] | None] = None

    @classmethod
    @abstractmethod
    def fold(cls, norm: dict[str, Array], epsilon: float, mixing: Linear, output: Linear | None) -> Folded:
        """Fold a norm's tensors, as far as possible into the convolutions around GLU.

        ``mixing`` is before GLU; ``output`` is after it, for autoregressive models only.
        """


class LayerNorm(FoldedNorm):
    """normalize(x + y) * scale + shift, over channels."""

    native_names = ("norm.scale", "norm.bias")

    @classmethod
    def fold(cls, norm: dict[str, Array], epsilon: float, mixing: Linear, output: Linear | None) -> Folded:
        return cls(norm["weight"], norm["bias"], epsilon), mixing, output


class ResidualAffine(FoldedNorm):
    """x * scale + shift + y: the rest of BatchNorm. A second convolution, if there, takes the shift."""

    native_names = ("residual.scale", "residual.shift")

    @classmethod
    def fold(cls, norm: dict[str, Array], epsilon: float, mixing: Linear, output: Linear | None) -> Folded:
        scale = norm["weight"] / np.sqrt(norm["running_var"] + epsilon)
        shift = norm["bias"] - scale * norm["running_mean"]
        if output is not None:
            output = Linear(scale[:, None] * output.weight, scale * output.bias + shift)
            return cls(scale, None), mixing, output
        # GLU is value * sigmoid(gate): the value takes the scale, and the residual keeps the shift.
        value, gate = mixing.halves()
        mixing = Linear(
            np.concatenate([scale[:, None] * value.weight, gate.weight]),
            np.concatenate([scale * value.bias, gate.bias]),
        )
        return cls(scale, shift), mixing, None


FOLDED_NORMS: dict[str, type[FoldedNorm]] = {"layer": LayerNorm, "batch": ResidualAffine}
