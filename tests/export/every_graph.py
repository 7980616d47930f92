"""Graphs of every kind of network, in every precision and form, unproven, and bundles of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from multires_edge.calibration.measure import calibrate
from multires_edge.export.bundle import build_graphs, write_graph
from multires_edge.export.compact import compact
from multires_edge.export.folding import fold
from multires_edge.export.options import DEFAULT_PARTS
from multires_edge.export.precision.fp16 import plan_fp16
from multires_edge.export.precision.int8 import quantizable, quantize
from multires_edge.format.manifest import Manifest
from multires_edge.format.pooling import Cumulative, Pooling, Window, parse_pooling
from multires_edge.format.specs import GraphSpec, Source
from multires_edge.format.targets import GraphForm
from multires_edge.models.network import MultiresNet
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from tests.conftest import random_inputs

INT8_QUEUES = "int8 queues"  # int8 with what else can be quantised on request

KINDS: dict[str, tuple[dict[str, Any], Pooling]] = {
    "fading": ({}, Cumulative()),
    "uniform, windowed": ({"tree_select": "uniform", "memory_size": 9}, Window(7)),
    "batch norm, long filters": ({"norm": "batch", "kernel_size": 4}, Cumulative()),
    "tokens": ({"encoder": "token"}, Cumulative()),
    "autoregressive": ({"task": "autoregressive"}, Cumulative()),
    "per step": ({"pooling": "none"}, Cumulative()),
    "max, windowed mean and last": ({"pooling": "max+mean+last"}, parse_pooling("max:7+window:7+last")),
}


def every_graph(
    net: MultiresNet, pooling: Pooling, precision: str, form: GraphForm, folder: Path
) -> dict[str, onnx.ModelProto]:
    """The graphs of a network by their kind."""
    bundle = unproven_bundle(net, pooling, precision, form, folder)
    return {kind: onnx.load(folder / specs[precision].file) for kind, specs in bundle.manifest.graphs.items()}


def unproven_bundle(
    net: MultiresNet,
    pooling: Pooling,
    precision: str,
    form: GraphForm,
    folder: Path,
    inputs: Any = None,
) -> Bundle:
    """A bundle of one precision, with nothing in it but the graphs. ``inputs`` are typical ones."""
    network = fold(net)
    if inputs is None:
        inputs = random_inputs(net.config, 32, 150)
    inputs = np.ascontiguousarray(inputs)
    if precision == "fp16":
        network = replace(network, types=plan_fp16(net, [torch.from_numpy(inputs)]))
    if precision in ("int8", INT8_QUEUES):
        file = folder / "data.npz"
        np.savez(file, inputs)
        parts = DEFAULT_PARTS if precision == "int8" else ("filters", "mixing", "queues")
        network = quantize(network, calibrate(net, Dataset(file, inputs)), quantizable(net.config, parts))
    lengths = net.config.encoder == "token" and not net.config.per_step
    graphs: dict[str, dict[str, GraphSpec]] = {}
    for kind, graph in build_graphs(network, form, pooling, lengths=lengths, engines=True):
        if precision != "fp32":
            compact(graph.model)
        graphs[kind] = {precision: write_graph(folder, f"{kind}.onnx", graph)}
    manifest = Manifest(
        source=Source("ckpt.pth", "0" * 64),
        network=net.config,
        target="rtx",
        pool=None if net.config.per_step else str(pooling),
        graphs=graphs,
        form=form.form_name,
    )
    return Bundle(folder, manifest)
