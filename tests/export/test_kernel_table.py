"""The kernels of a step as TensorRT-RTX builds it: few, no copy of a queue, and int8 products in int8."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from multires_edge.format.targets import TARGETS
from tests.conftest import ROOT
from tests.export.kernel_table import NETWORK

pytestmark = pytest.mark.slow

pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra, for Linux and Windows on x86-64")


@pytest.fixture(scope="module", params=TARGETS["rtx"].precisions)
def table(request: pytest.FixtureRequest) -> tuple[str, Any]:
    command = [sys.executable, "-m", "tests.export.kernel_table", request.param]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def test_kernels_of_a_step(table: tuple[str, Any]) -> None:
    """A kernel costs about a microsecond, whatever it computes: one more is a reason to look."""
    precision, graphs = table
    most = {"fp32": (18, 17), "fp16": (18, 18), "int8": (17, 17)}[precision]
    assert (len(graphs["step"]), len(graphs["taps"])) == most


def test_no_kernel_moves_a_queue(table: tuple[str, Any]) -> None:
    """One kernel gathers the taps of all queues, and one writes the new rows in place."""
    _, graphs = table
    (gather, push) = [k for k in graphs["step"] if any("queue" in name for name in k["inputs"])]
    queues = {f"next_queue_{j:02d}" for j in range(NETWORK.depth)}
    assert queues <= set(gather["inputs"]) and not queues & set(gather["outputs"])
    assert queues <= set(push["inputs"]) and queues <= set(push["outputs"])


def test_products_of_int8(table: tuple[str, Any]) -> None:
    precision, graphs = table
    for kernels in graphs.values():
        products = [kernel for kernel in kernels if kernel["type"] == "gemm" and "glu" in kernel["name"]]
        types = {kernel["inputs"][name] for kernel in products for name in kernel["inputs"]}
        assert len(products) == NETWORK.n_layers
        assert types == {{"fp32": "Float", "fp16": "Half", "int8": "Int8"}[precision]}
