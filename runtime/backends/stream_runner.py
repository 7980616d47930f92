"""Whole sequences by streams: for backends that run no full graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.manifest import Manifest


class StreamRunner:
    """Whole sequences. Each call runs new streams from zero states.

    ``run`` takes samples (steps, batch, ...) through such streams, and returns the outputs of every step.
    They pool over everything so far: at the end of a sequence, that is the pooling of the full graph.
    """

    def __init__(self, run: Callable[[NDArray[Any]], NDArray[Any]], manifest: Manifest) -> None:
        self._run = run
        self._shifts, self._per_step = manifest.model.shifts, manifest.model.per_step

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        inputs = feeds["tokens"] if "tokens" in feeds else feeds["x"]
        batch = len(inputs)
        samples = np.ascontiguousarray(np.moveaxis(inputs, -1, 0))
        if self._shifts:
            # Step t gets input t - 1; the first step gets zero.
            samples = np.concatenate([np.zeros_like(samples[:1]), samples[:-1]])
        outputs = self._run(samples)
        if self._per_step:
            return np.ascontiguousarray(np.moveaxis(outputs, 0, -1))
        ends = feeds["lengths"] - 1 if "lengths" in feeds else np.full(batch, len(samples) - 1)
        last: NDArray[Any] = outputs[ends, np.arange(batch)]
        return last
