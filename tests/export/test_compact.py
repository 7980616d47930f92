"""A compact graph computes the same bits, in fewer bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from multires_edge.export.compact import compact, fits_float16
from multires_edge.export.folding import fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.export.precision.int8 import quantize
from multires_edge.format.pooling import Cumulative
from multires_edge.format.targets import TARGETS
from tests.conftest import random_inputs, random_net, variant
from tests.export.graphs.harness import session
from tests.export.precision.test_int8 import calibrated


@pytest.mark.parametrize("kind", ["full", "step"])
def test_the_same_bits(kind: str, tmp_path: Path) -> None:
    net = random_net(variant(d_model=64, d_input=12))
    network = quantize(fold(net), calibrated(net, tmp_path))
    if kind == "full":
        model = build_full_graph(network, TARGETS["cpu"].form)
        feeds = {"x": np.ascontiguousarray(random_inputs(net.config, 2, 50, seed=3))}
    else:
        step = build_step_graph(network, TARGETS["cpu"].form, Cumulative())
        random = np.random.default_rng(0)
        model = step.model
        feeds = {"x": np.ascontiguousarray(random_inputs(net.config, 2, 1, seed=3)[..., 0])}
        for state in step.states:
            shape = (2, *map(int, state.shape[1:]))
            values = random.integers(0, 5, shape) if state.dtype == "int64" else random.random(shape)
            feeds[state.input] = values.astype(state.dtype)
    before = model.SerializeToString()
    compact(model)
    onnx.checker.check_model(model, full_check=True)
    after = model.SerializeToString()
    assert len(after) < 0.9 * len(before)
    names = [value.name for value in model.graph.output]
    for a, b in zip(*(session(each).run(names, feeds) for each in (before, after)), strict=True):
        assert (np.asarray(a) == np.asarray(b)).all()
    halved = [t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert "encoder/weight.float16" in halved


def test_what_float16_holds() -> None:
    assert fits_float16(np.array([0.0, -1.5, 65504.0, 2.0**-24], np.float32))
    for number in (1e5, 0.1, 2.0**-25):
        assert not fits_float16(np.array([number], np.float32)), number
