"""TensorRT-RTX builds every graph in every precision, strongly typed, without a GPU, queues in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from multires_edge.base.errors import ConfigError
from multires_edge.format.pooling import Cumulative, parse_pooling
from multires_edge.format.targets import TARGETS
from multires_edge.models import load_checkpoint
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.engine_builder.build import Builder
from multires_edge.runtime.engine_builder.shapes import Range
from multires_edge.runtime.evaluation.recordings import load_data
from tests.conftest import RECORDED_NAMES, random_net, recorded, variant
from tests.export.every_graph import INT8_QUEUES, KINDS, unproven_bundle

pytestmark = pytest.mark.slow

pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra, for Linux and Windows on x86-64")

COMPUTE_CAPABILITIES = ("8.6", "8.9", "12.0")
FORM = TARGETS["rtx"].forms[0]
every_precision = pytest.mark.parametrize("precision", TARGETS["rtx"].precisions)


def check_engines(bundle: Bundle, precision: str, kinds: Sequence[str]) -> None:
    """Build some graphs; the builder itself refuses a step engine that would copy a queue."""
    builder = Builder.here("rtx", COMPUTE_CAPABILITIES)
    for kind in kinds:
        plan = builder.plan(bundle, kind, precision, {"streams": Range(1, 1, 4), "batch": Range(1, 1, 4)})
        built = builder.build(plan)
        states = bundle.manifest.graph(kind, precision).states
        in_place = {s.input for s in states if s.in_place and s.dtype != "int8"}
        assert set(built.sidecar.in_place) == in_place
        assert built.path.stat().st_size == built.sidecar.engine.bytes > 0
        assert all(warning.explanation for warning in built.sidecar.warnings), built.sidecar.warnings
        assert not any("expected" in str(warning.explanation) for warning in built.sidecar.warnings)


@pytest.mark.parametrize("precision", [*TARGETS["rtx"].precisions, INT8_QUEUES])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network(kind: str, precision: str, tmp_path: Path) -> None:
    changes, pooling = KINDS[kind]
    bundle = unproven_bundle(random_net(variant(**changes)), pooling, precision, FORM, tmp_path)
    check_engines(bundle, precision, Builder.here("rtx", COMPUTE_CAPABILITIES).kinds(bundle.manifest))


@pytest.mark.filterwarnings("ignore:.*advised records:UserWarning")
@every_precision
@pytest.mark.parametrize("name", RECORDED_NAMES)
def test_trained_networks(name: str, precision: str, tmp_path: Path) -> None:
    checkpoint, reference = recorded(name)
    net = load_checkpoint(checkpoint)
    key = "x" if net.config.encoder == "linear" else "tokens"
    np.savez(tmp_path / "inputs.npz", **{key: reference["x"]})
    inputs = load_data(tmp_path / "inputs.npz", net.config, None).inputs
    check_engines(
        unproven_bundle(net, Cumulative(), precision, FORM, tmp_path, inputs), precision, ("full", "step")
    )


def test_no_step_graph_with_the_maximum_of_a_window(tmp_path: Path) -> None:
    """TensorRT-RTX would end the process."""
    net = random_net(variant(pooling="max"))
    bundle = unproven_bundle(net, parse_pooling("max:7"), "fp32", FORM, tmp_path)
    builder = Builder.here("rtx", COMPUTE_CAPABILITIES)
    assert builder.kinds(bundle.manifest) == ["taps", "full"]
    with pytest.raises(ConfigError, match="--graph taps"):
        builder.plan(bundle, "step", "fp32")
