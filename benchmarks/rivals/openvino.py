"""OpenVINO on our full graph: by default in the precision that it chooses for the CPU, or in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray


class OpenVinoFull:
    """The full graph at one fixed shape, which is its fastest form, on one thread."""

    def __init__(self, full_graph: Path, shape: tuple[int, int, int], *, float32: bool) -> None:
        model = openvino.Core().read_model(full_graph)
        model.reshape({0: list(shape)})
        options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        if float32:
            options["INFERENCE_PRECISION_HINT"] = "f32"
        self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """x (batch, d_input, steps) to logits."""
        logits: NDArray[np.float32] = self._request.infer({0: x})[0].copy()
        return logits
