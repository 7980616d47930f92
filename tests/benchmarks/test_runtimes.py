"""The comparison of runtimes sees a right graph, a wrong one and one that does not load."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.runtimes.__main__ import HERE, LIMITS, reference, run, work_of
from multires_edge.runtime import open_bundle

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, str(HERE / "worker.py")]


@pytest.mark.parametrize("family", ["onnxruntime", "onnx"])
@pytest.mark.parametrize("kind", ["full", "step"])
def test_every_kind_of_graph(kind: str, family: str, exported: Path, tmp_path: Path) -> None:
    bundle = open_bundle(exported)
    x = np.ascontiguousarray(bundle.golden().inputs[..., :20])
    work = work_of(bundle, bundle.manifest.form, kind, "fp32", x.shape)
    found = run([*COMMAND, family], work, x, reference(bundle, kind, "fp32", x), tmp_path)
    assert isinstance(found, float) and found <= LIMITS["fp32"], found


def test_wrong_and_refused_graphs(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    x = np.ascontiguousarray(opened.golden().inputs[..., :20])
    work = work_of(opened, opened.manifest.form, "full", "fp32", x.shape)
    wanted = reference(opened, "full", "fp32", x)
    model = onnx.load(work.file)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head/bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    onnx.save(model, work.file)
    found = run([*COMMAND, "onnxruntime"], work, x, wanted, tmp_path)
    assert isinstance(found, float) and 0.1 < found < 0.6
    Path(work.file).write_bytes(b"no graph")
    assert "exit code 1" in str(run([*COMMAND, "onnxruntime"], work, x, wanted, tmp_path))
