"""TensorRT-RTX takes every graph in every precision, strongly typed. It builds engines without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from multires_edge.calibration.measure import calibrate
from multires_edge.export.folding import fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.pooling import Pooling
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.export.graphs.taps import build_taps_graph
from multires_edge.export.precision.fp16 import plan_fp16
from multires_edge.export.precision.int8 import quantize
from multires_edge.export.targets import TARGETS
from multires_edge.models.network import MultiresNet
from multires_edge.runtime.data import Dataset
from tests.conftest import random_inputs, random_net, variant

trt: Any = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra, for Linux and Windows on x86-64")

KINDS: dict[str, tuple[dict[str, Any], Pooling]] = {
    "fading": ({}, Pooling()),
    "uniform, windowed": ({"tree_select": "uniform", "memory_size": 9}, Pooling(7)),
    "batch norm, long filters": ({"norm": "batch", "kernel_size": 4}, Pooling()),
    "tokens": ({"encoder": "token"}, Pooling()),
    "autoregressive": ({"task": "autoregressive"}, Pooling()),
}
LONGEST = 64  # steps; the networks of these tests remember less
COMPUTE_CAPABILITIES = ("SM86", "SM89")


def models(net: MultiresNet, pooling: Pooling, precision: str, folder: Path) -> dict[str, onnx.ModelProto]:
    import torch

    network, types, target = fold(net), None, TARGETS["cpu"]
    inputs = np.ascontiguousarray(random_inputs(net.config, 32, 150))
    if precision == "fp16":
        types = plan_fp16(net, [torch.from_numpy(inputs)])
    if precision == "int8":
        file = folder / "data.npz"
        np.savez(file, inputs)
        network = quantize(network, calibrate(net, Dataset(file, inputs)))
    full = build_full_graph(network, target, lengths=False, metadata={}, types=types)
    step = build_step_graph(network, target, pooling, {}, types).model
    return {"full": full, "step": step, "taps": build_taps_graph(network, target, pooling, {}, types).model}


def build_engine(model: onnx.ModelProto) -> Any:
    """A serialised engine, for batches of 1 to 4. Fails with what TensorRT-RTX says."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(model.SerializeToString())
    assert parsed, [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    config.num_compute_capabilities = len(COMPUTE_CAPABILITIES)
    for i, capability in enumerate(COMPUTE_CAPABILITIES):
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), i)
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        # The batch comes first, and only time is dynamic besides.
        smallest, largest = (
            [batch, *(steps if size < 0 else size for size in list(tensor.shape)[1:])]
            for batch, steps in ((1, 1), (4, LONGEST))
        )
        profile.set_shape(tensor.name, smallest, smallest, largest)
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_builds_every_graph(kind: str, precision: str, tmp_path: Path) -> None:
    changes, pooling = KINDS[kind]
    for name, model in models(random_net(variant(**changes)), pooling, precision, tmp_path).items():
        engine = build_engine(model)
        assert engine is not None and engine.nbytes > 0, name
