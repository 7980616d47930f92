"""The full graph as a function of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import InputError, OverflowedError
from multires_edge.format.arrays import all_finite, check_array, check_lengths
from multires_edge.format.specs import GraphSpec
from multires_edge.runtime.backends.protocol import Runner


class FullGraph:
    """Runs whole sequences; made by :meth:`Bundle.full`. Threads may share it."""

    def __init__(self, runner: Runner, spec: GraphSpec, n_tokens: int | None) -> None:
        self._runner = runner
        self._input, self._output = spec.inputs[0], spec.outputs[0]
        self._takes_lengths = any(tensor.name == "lengths" for tensor in spec.inputs)
        self._n_tokens = n_tokens

    def __repr__(self) -> str:
        return f"<FullGraph: {self._input} to {self._output}, by {type(self._runner).__name__}>"

    def __call__(self, x: NDArray[Any], lengths: NDArray[Any] | None = None) -> NDArray[Any]:
        """Run x (batch, d_input, time) float32, or tokens (batch, time) int64.

        ``lengths`` int64 (batch,) are the numbers of valid steps in each row, for bundles exported with
        ``--lengths``; by default all steps are valid. Returns logits (batch, d_output), or the parameters
        (batch, d_output, time) of an autoregressive model. Raises InputError, or OverflowedError if inputs
        are finite but so large that the output overflows.
        """
        name = self._input.name
        x = check_array(x, name, np.dtype(self._input.dtype), self._input.shape, self._n_tokens)
        feeds = {name: np.ascontiguousarray(x)}
        if self._takes_lengths:
            rows, steps = x.shape[0], x.shape[-1]
            feeds["lengths"] = (
                np.full(rows, steps, np.int64) if lengths is None else check_lengths(lengths, rows, steps)
            )
        elif lengths is not None:
            raise InputError("this bundle's full graph takes no lengths: export it with --lengths")
        try:
            y = self._runner.run(feeds)
        except MemoryError:
            raise InputError(
                f"{name} has shape {x.shape}: its sequences do not fit in memory; give fewer"
            ) from None
        if not all_finite(y):
            raise OverflowedError(f"{name} is finite but so large that the output overflows; check its scale")
        return y
