"""Small networks of every kind, as weights files for the C++ test programs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.calibration.measure import calibrate
from multires_edge.calibration.table import CalibrationTable
from multires_edge.export.folding import FoldedNetwork, fold
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.export.native_weights import native_weights
from multires_edge.export.precision.int8 import quantize, queue_scales
from multires_edge.format.card import Card
from multires_edge.format.pooling import Cumulative, Pooling, Window, parse_pooling
from multires_edge.format.targets import TARGETS
from multires_edge.models.network import MultiresNet
from multires_edge.runtime.evaluation.dataset import Dataset
from tests.conftest import as_double, random_inputs, random_net, variant
from tests.export.graphs.harness import Steps
from tests.runtime.slow_stream import SlowStream


@dataclass(frozen=True)
class Network:
    """A random network; the engine's largest error over max(1, |expected|) may be ``limit``."""

    changes: dict[str, Any]
    pooling: Pooling = field(default_factory=Cumulative)
    precision: str = "fp32"
    limit: float = 1e-5
    queues: str = "float32"

    def random(self) -> MultiresNet:
        return random_net(variant(**self.changes))

    def folded(self) -> FoldedNetwork:
        net = self.random()
        return with_queues(quantized(net) if self.precision == "int8" else fold(net), self.queues, net)

    def weights(self, card: Card | None = None) -> bytes:
        """Its file of native weights."""
        return native_weights(self.folded(), self.pooling, card, self.precision)


NETWORKS = {
    "fading": Network({"depth": 6, "d_model": 20}),
    "uniform": Network({"tree_select": "uniform", "memory_size": 20, "kernel_size": 4, "depth": 5}),
    "tokens-windowed": Network({"encoder": "token", "norm": "batch", "kernel_size": 3}, Window(7)),
    "autoregressive": Network({"task": "autoregressive", "d_model": 33, "d_output": 70}),
    "rms-before": Network({"norm": "rms", "norm_place": "before", "activation": "silu", "d_model": 37}),
    "group-before": Network(
        {"norm": "group", "norm_groups": 3, "norm_place": "before", "activation": "gelu_tanh", "d_model": 57}
    ),
    "batch-before": Network(
        {"norm": "batch", "norm_place": "before", "activation": "relu6", "d_model": 20}, Window(7)
    ),
    "plain": Network({"mixing": "plain", "norm": "batch", "d_model": 70}),
    "plain-int8": Network(
        {"mixing": "plain", "mixing_output": True, "d_model": 37}, precision="int8", limit=5e-3
    ),
    "no-norm": Network({"norm": "none", "activation": "relu", "norm_eps": 1e-3}),
    "untied": Network({"filters": "untied", "depth": 6, "d_model": 70}),
    "untied-float16-queues": Network(
        {"filters": "untied", "kernel_size": 4, "d_model": 20}, precision="fp16", limit=2e-3, queues="float16"
    ),
    "untied-int8-queues": Network(
        {"filters": "untied", "depth": 3, "kernel_size": 3, "d_model": 37}, limit=5e-3, queues="int8"
    ),
    "per-step": Network({"pooling": "none", "encoder_kernel_size": 5, "output_activation": "sigmoid"}),
    "softmax": Network({"d_output": 70, "output_activation": "softmax"}),
    "poolings": Network({"pooling": "max+mean+last", "d_model": 19}, parse_pooling("max+mean+last")),
    "windows": Network({"pooling": "max+mean+last", "d_model": 19}, parse_pooling("max:7+window:7+last")),
    "float16": Network({"depth": 6, "d_model": 37}, Window(5), "fp16", 2e-3, "float16"),
    "float16-autoregressive": Network(
        {"task": "autoregressive", "kernel_size": 4}, precision="fp16", limit=2e-3, queues="float16"
    ),
    # Against the int8 graph: an activation on the border of two levels may fall either way.
    "int8": Network({"norm": "batch", "d_model": 70}, Window(7), "int8", 5e-3),
    "int8-autoregressive": Network(
        {"task": "autoregressive", "d_model": 33, "d_output": 70}, precision="int8", limit=5e-3
    ),
    "int8-queues": Network(
        {"tree_select": "uniform", "memory_size": 12, "kernel_size": 4, "depth": 3, "d_model": 37},
        Window(7),
        limit=5e-3,
        queues="int8",
    ),
}
BATCH, STEPS = 3, 150
# Names that the header of a weights file must escape.
CARD = Card(labels=('N"', "\N{MICRO SIGN}", "\N{MUSICAL SYMBOL G CLEF}\n"))


def calibrated(net: MultiresNet) -> CalibrationTable:
    """The ranges of noise."""
    noise = np.ascontiguousarray(random_inputs(net.config, 16, 100, seed=7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a table of small networks has few values
        return calibrate(net, Dataset(Path("noise.npz"), noise))


def quantized(net: MultiresNet) -> FoldedNetwork:
    """In int8, with the ranges of noise."""
    return quantize(fold(net), calibrated(net))


def with_queues(network: FoldedNetwork, dtype: str, net: MultiresNet) -> FoldedNetwork:
    """With queues of a type, whatever the weights; those of int8 with the ranges of noise."""
    if dtype == "int8":
        return replace(network, queue_scales=queue_scales(calibrated(net)))
    return replace(network, types=replace(network.types, queues=np.dtype(dtype)))


def write_weights(name: str, folder: Path) -> Path:
    network = NETWORKS[name]
    path = folder / f"{name}.safetensors"
    content = network.weights(CARD)
    path.write_bytes(content)
    return path


def expected_outputs(network: Network, inputs: NDArray[Any]) -> NDArray[Any]:
    """Of the network in float64; in int8, which is another network, of its step graph in ONNX Runtime."""
    if network.queues == "int8":
        slow = SlowStream(network.folded(), network.pooling, len(inputs))
        return slow.run(inputs)
    net = network.random()
    if network.precision == "int8":
        step = build_step_graph(quantized(net), TARGETS["portable"].form, network.pooling)
        return Steps(step, len(inputs)).run(inputs)
    outputs: NDArray[Any] = net.double().stepwise(as_double(inputs), network.pooling).numpy()
    return outputs


def write_case(name: str, folder: Path) -> Path:
    """Inputs and their expected outputs at every step, as reference_test.cpp reads them."""
    network = NETWORKS[name]
    inputs = random_inputs(variant(**network.changes), BATCH, STEPS, seed=6)
    expected = expected_outputs(network, inputs)
    path = folder / f"{name}.case"
    path.write_bytes(
        b"".join(
            np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
            for array in (
                np.array([BATCH, STEPS]),
                np.moveaxis(inputs, -1, 0),
                np.moveaxis(expected, -1, 0).astype(np.float64),
            )
        )
    )
    return path
