"""Bundles of networks with other residual blocks: every precision, graph and backend is proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.export import export_bundle
from multires_edge.export.options import Int8Options
from multires_edge.models.inference import Overrides
from multires_edge.runtime import open_bundle
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import random_inputs, random_net, save_published, variant

BLOCKS: dict[str, dict[str, Any]] = {
    "untied, RMS before": {
        "filters": "untied",
        "norm": "rms",
        "norm_place": "before",
        "norm_eps": 1e-6,
        "activation": "silu",
    },
    "groups, plain": {
        "norm": "group",
        "norm_groups": 2,
        "activation": "gelu_tanh",
        "mixing": "plain",
        "mixing_output": True,
    },
    "untied, batch before": {
        "filters": "untied",
        "norm": "batch",
        "norm_place": "before",
        "activation": "relu6",
    },
    "no norm": {"norm": "none", "activation": "relu", "mixing": "plain"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_are_proven_in_every_precision(name: str, tmp_path: Path) -> None:
    block = BLOCKS[name]
    net = random_net(variant(d_model=16, **block))
    path = save_published(net, tmp_path, args="--layer=multires")
    np.savez(tmp_path / "data.npz", x=random_inputs(net.config, 16, 100))
    result = export_bundle(
        path,
        tmp_path / "b",
        precisions=["fp16", "int8"],
        target="cpu,jetpack6",
        int8=Int8Options(data=tmp_path / "data.npz", parts=("mixing", "output", "filters", "queues")),
        overrides=Overrides(block=block),
    )
    assert result.manifest.model == net.config
    checks = {check.name for check in result.proof.checks if check.passed}
    assert {"native engine, every prefix", "fp16: native engine, every prefix"} <= checks
    assert {"int8: native engine, every prefix", "taps graph, every prefix"} <= {
        name.removeprefix("opset17, ") for name in checks
    }
    bundle = open_bundle(result.path)
    assert bundle.manifest.model == net.config
    assert all(check.passed for check in verify_bundle(bundle))
