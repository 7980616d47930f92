"""What electrodes, cables and amplifiers do to an ECG, at random and different for each record and epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Batch = NDArray[Any]


@dataclass(frozen=True)
class Conditions:
    """The conditions of training. Amplitudes are in millivolt, probabilities from 0 to 1."""

    gain: float = 1.25  # a factor of each record, or its inverse, at most
    offset: float = 1.0
    wander: float = 0.6
    wandering: float = 0.5  # of the records
    noise: float = 0.03
    lost: float = 0.03  # of the leads

    def disturb(self, millivolt: Batch, rate: float, random: np.random.Generator) -> Batch:
        """Records (batch, leads, time) as they are in front of the filter."""
        count, leads, time = millivolt.shape
        t = np.arange(time) / rate

        def uniform(low: float, high: float, *shape: int) -> Batch:
            return random.uniform(low, high, shape)

        gain = np.exp(uniform(-np.log(self.gain), np.log(self.gain), count, 1, 1))
        breath = 2 * np.pi * uniform(0.1, 0.45, count, 1, 1) * t + uniform(0, 2 * np.pi, count, leads, 1)
        wander = self.wander * uniform(0, 1, count, leads, 1) * np.sin(breath)
        wander *= uniform(0, 1, count, 1, 1) < self.wandering
        offset = self.offset * uniform(-1, 1, count, leads, 1)
        noise = self.noise * uniform(0, 1, count, 1, 1) * random.standard_normal(millivolt.shape)
        disturbed: Batch = millivolt * gain + wander + offset + noise
        return disturbed

    def lose(self, inputs: Tensor, random: np.random.Generator) -> Tensor:
        """Normalized inputs without some leads: a lead without a value is zero for the network."""
        return inputs * torch.from_numpy(random.uniform(size=(*inputs.shape[:2], 1)) >= self.lost)
