"""Inputs for a traced network: noise like its example, and other typical inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from multires_edge.export.trace.observing import Arrays
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.named_records import by_name

SEED = 2023
_ROWS, _STEPS, _STEADY_STEPS = 4, 1000, 20_000
_RECORDS = 64


class Noise:
    """Normal noise with the mean and spread of each input of the example, and random tokens.

    ``ranges`` are the largest magnitudes of inputs that int8 reads, broadcast to (batch, ..., time); noise
    stays within them.
    """

    def __init__(
        self,
        network: ModuleConfig,
        example: Mapping[str, torch.Tensor],
        ranges: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.network, self.ranges = network, ranges or {}
        self._example = {name: tensor.detach().numpy() for name, tensor in example.items()}

    def __call__(self, rows: int, steps: int, random: np.random.Generator) -> Arrays:
        """Inputs (rows, ..., steps) by name."""
        arrays: Arrays = {}
        for tensor in self.network.inputs:
            shape = tuple(rows if s == "batch" else steps if s == "time" else int(s) for s in tensor.shape)
            example = self._example[tensor.name]
            if example.dtype.kind == "f":
                mean, spread = float(example.mean()), float(example.std()) or 1.0
                noise = (mean + spread * random.standard_normal(shape)).astype(np.float32)
                most = self.ranges.get(tensor.name)
                arrays[tensor.name] = noise if most is None else np.clip(noise, -most, most)
            else:
                tokens = self.network.tokens.get(tensor.name)
                low, high = (0, tokens) if tokens else (int(example.min()), int(example.max()) + 1)
                arrays[tensor.name] = random.integers(low, high, shape)
        return arrays


def typical_inputs(noise: Noise, dataset: Dataset | None) -> Iterator[Arrays]:
    """Noise, constant inputs, and the data if given."""
    network, random = noise.network, np.random.default_rng(SEED)
    yield noise(_ROWS, _STEPS, random)
    # Low-pass filters have their largest gain on constant input, as of a torn electrode.
    one, steps = noise(_ROWS, 1, random), min(network.receptive_field, _STEADY_STEPS)
    steady = {name: np.repeat(array, steps, axis=-1) for name, array in one.items()}
    yield steady
    if any(array.dtype.kind == "f" for array in one.values()):
        yield {name: -array if array.dtype.kind == "f" else array for name, array in steady.items()}
    for start in range(0, 0 if dataset is None else min(len(dataset), _RECORDS), 16):
        assert dataset is not None
        yield by_name(network, dataset.inputs[start : start + 16])
