"""Engines of modules of the user's own, by TensorRT-RTX itself, which needs no GPU to build them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from multires_edge.base.errors import ConfigError
from multires_edge.export import export_module
from multires_edge.runtime import open_bundle
from multires_edge.runtime.engine_builder.build import Builder
from multires_edge.runtime.engine_builder.shapes import Range
from tests.export.trace.networks import Multires, brisk

pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra, for Linux and Windows on x86-64")
pytestmark = pytest.mark.slow


class Mixed(nn.Module):
    """A ring of a dense convolution, a bank of filters, a gate and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.tree, self.gate = nn.Conv1d(2, 4, 3), Multires(4), nn.Conv1d(4, 8, 1)

    def forward(self, x: torch.Tensor) -> Any:
        a, b = self.gate(self.tree(torch.relu(self.stem(nn.functional.pad(x, (2, 0)))))).chunk(2, 1)
        y = torch.tanh(a) * torch.sigmoid(b)
        return y, y.mean(-1)


def test_taps_and_whole_sequences(tmp_path: Path) -> None:
    net = brisk(Mixed())
    result = export_module(net, torch.randn(1, 2, 30), tmp_path / "b", target="rtx", precisions=("fp16",))
    bundle, builder = open_bundle(result.path), Builder.here("rtx", ["8.6"])
    assert builder.kinds(bundle.manifest) == ["taps", "full"]
    for precision in ("fp32", "fp16"):
        for kind in ("taps", "full"):
            plan = builder.plan(bundle, kind, precision, {"streams": Range(1, 1, 2)})
            assert builder.build(plan).sidecar.engine.bytes > 0
    with pytest.raises(ConfigError, match="of a module of your own; the taps graph runs the same"):
        builder.plan(bundle, "step", "fp32")
