"""The type of a stream's queues, which is independent of the type of the weights.

At each step a layer computes its a_j in float32, from the exact a_j of this step and the values of earlier
steps in its queues. Only pushed values are rounded: to float16, at most 65504, or to int8,

    q = clip(round(a_j / scale), -128, 127)     half to even, as a product with float32(1 / scale)

with a scale per queue and channel. A past row is dequantized to q * scale. Nothing feeds back, so an error is
gone when the receptive field has passed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.calibration.table import CalibrationTable
from multires_edge.calibration.tensors import queue
from multires_edge.export.folding import FoldedNetwork
from multires_edge.export.precision.types import FLOAT16, FLOAT32, INT8, Type, TypePlan
from multires_edge.format.config import ModelConfig


@dataclass(frozen=True, eq=False)
class Queues:
    """``dtype`` is float32, float16 or int8; int8 has ``scales`` float32 (depth, n_layers, d_model), which
    are positive normal numbers. Raises ConfigError for anything else."""  # fmt: skip

    dtype: Type = FLOAT32
    scales: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (FLOAT32, FLOAT16, INT8):
            raise ConfigError(f"queues of {self.dtype}: expected float32, float16 or int8")
        if (self.scales is not None) != (self.dtype == INT8):
            raise ConfigError(
                f"queues of {self.dtype} were given {'no' if self.scales is None else 'their'} scales; "
                "int8 queues have scales, others have none"
            )
        if self.scales is None:
            return
        if self.scales.dtype != FLOAT32 or self.scales.ndim != 3:
            raise ConfigError(
                f"scales of queues are {self.scales.dtype} {self.scales.shape}, "
                "expected float32 (depth, n_layers, d_model)"
            )
        # A subnormal scale would have no finite reciprocal.
        if not (np.isfinite(self.scales) & (self.scales >= np.finfo(np.float32).tiny)).all():
            raise ConfigError("scales of queues must be positive, normal and finite: calibrate again")

    @classmethod
    def float32(cls) -> Queues:
        """Queues that keep the computed values."""
        return cls(FLOAT32)

    @classmethod
    def float16(cls) -> Queues:
        """Queues with half the memory."""
        return cls(FLOAT16)

    @classmethod
    def int8(cls, table: CalibrationTable) -> Queues:
        """Queues with a quarter of the memory, and the ranges of a table."""
        config = table.config
        scales = [
            [table.tensors[queue(i, j)].scales for i in range(config.n_layers)] for j in range(config.depth)
        ]
        return cls(INT8, np.array(scales, np.float32))

    @classmethod
    def of(cls, network: FoldedNetwork, types: TypePlan) -> Queues:
        """The queues of the graphs of a network."""
        scales = network.queue_scales
        return cls(types.queues) if scales is None else cls(INT8, scales)

    def check_network(self, config: ModelConfig) -> None:
        """Raise ConfigError unless the scales have the shape of this network."""
        expected = (config.depth, config.n_layers, config.d_model)
        if self.scales is not None and self.scales.shape != expected:
            raise ConfigError(
                f"scales of queues have shape {self.scales.shape}, this network's have {expected}: "
                "calibrate it, and use its own table"
            )
