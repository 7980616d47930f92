"""tract's ``Pulse``: it turns our full graph into a streaming one by itself.

Pooling over time has no pulsed form, so tract gets the network up to its pooled features, and its steps
are cheaper than they would be by the pooling and the head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tract
from numpy.typing import NDArray


class TractPulse:
    """The full graph's features, one step at a time."""

    def __init__(self, full_graph: Path, folder: Path) -> None:
        model = onnx.load(full_graph)
        features = next(node.input[0] for node in model.graph.node if node.name == "pool/rough")
        dims = model.graph.input[0].type.tensor_type.shape.dim
        d_input = dims[1].dim_value
        dims[0].dim_value, dims[2].dim_param = 1, "S"
        # The stored shapes speak of other symbols than S.
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model)
        part = onnx.utils.Extractor(model).extract_model(["x"], [features])
        del part.graph.value_info[:]
        path = folder / "features.onnx"
        onnx.save(part, path)
        inference = tract.Onnx().load(path)
        inference.set_input_fact(0, f"1,{d_input},S,f32")
        inference.set_output_fact(0, None)
        typed = inference.into_model()
        typed.transform(tract.Pulse("1", symbol="S"))
        self._state: Any = typed.into_runnable().spawn_state()

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed one sample (1, d_input); features (1, d_model)."""
        features: NDArray[np.float32] = self._state.run([x[:, :, None]])[0].to_numpy()
        return features[..., 0]
