"""A pooling of another kind, added by three registrations and without a change to the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from multires_edge.base.errors import BackendError, BundleError, ConfigError
from multires_edge.export import export_bundle
from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.pooling import POOLING_GRAPHS, PoolingGraphs
from multires_edge.export.graphs.rings import RingSet
from multires_edge.format.pooling import POOLINGS, Pooling, parse_pooling
from multires_edge.format.reading import read_manifest
from multires_edge.format.specs import StateSpec
from multires_edge.models.pooling import POOLING_REFERENCES, PoolingReference
from multires_edge.runtime import open_bundle
from multires_edge.runtime.ecg.settings import Pool
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import as_double, random_inputs, random_net, save_published, variant, within_limit


@dataclass(frozen=True)
class Decay(Pooling):
    """s(t) = s(t-1) + (x(t) - s(t-1)) / N: the older a step, the less it counts."""

    name = "decay"
    usage = "decay:N"

    steps: int

    @classmethod
    def of(cls, argument: str) -> Decay | None:
        return cls(int(argument)) if argument.isdecimal() and int(argument) > 0 else None

    def __str__(self) -> str:
        return f"decay:{self.steps}"

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        return (StateSpec(input="decayed", output="next_decayed", dtype="float32", shape=("batch", d_model)),)


def weights(pooling: Decay, ages: Tensor) -> Tensor:
    kept = (1 - 1 / pooling.steps) ** ages.clamp(min=0) / pooling.steps
    return torch.where(ages < 0, torch.zeros_like(kept), kept)


def whole(pooling: Decay, features: Tensor, lengths: Tensor | None) -> Tensor:
    time = features.shape[-1]
    ends = torch.full((len(features),), time) if lengths is None else lengths
    ages = (ends[:, None] - 1 - torch.arange(time)).to(features.dtype)
    return (features * weights(pooling, ages)[:, None]).sum(-1)


def stepwise(pooling: Decay, features: Tensor) -> Tensor:
    t = torch.arange(features.shape[-1], dtype=features.dtype)
    return features @ weights(pooling, t - t[:, None])


def step(pooling: Decay, graph: GraphBuilder, rings: RingSet, features: str, d_model: int) -> str:
    old = graph.input("decayed", np.float32, ["batch", d_model], "the decayed features")
    change = graph.node("Sub", [features, old], "pool/change")
    part = graph.node("Mul", [change, graph.weight("pool/rate", 1 / pooling.steps)], "pool/part")
    return graph.node("Add", [old, part], "pool", output="next_decayed")


def full(pooling: Decay, graph: GraphBuilder, features: str, lengths: str | None) -> str:
    time = graph.node("Shape", [features], "pool/shape", start=2, dtype=np.int64)
    limit = graph.node("Squeeze", [time, graph.integers("pool/first", [0])], "pool/time")
    zero, one = graph.integers("pool/zero", 0), graph.integers("pool/one", 1)
    numbers = graph.node("Range", [zero, limit, one], "pool/numbers")
    axes = graph.integers("pool/axes", [1, 2])
    ends = graph.node("Unsqueeze", [lengths or time, axes], "pool/ends")  # (batch or 1, 1, 1)
    left = graph.node("Sub", [ends, numbers], "pool/left")
    past = graph.node("Less", [zero, left], "pool/past", dtype=np.bool_)
    ages = graph.cast(graph.node("Sub", [left, one], "pool/whole_ages"), np.float32, "pool/ages")
    power = graph.node("Pow", [graph.weight("pool/kept", 1 - 1 / pooling.steps), ages], "pool/power")
    power = graph.node("Where", [past, power, graph.weight("pool/none", 0.0)], "pool/w", dtype=np.float32)
    weighted = graph.node("Mul", [features, power], "pool/weighted")
    total = graph.node("ReduceSum", [weighted, graph.integers("pool/last", [2])], "pool/sum", keepdims=0)
    return graph.node("Mul", [total, graph.weight("pool/rate", 1 / pooling.steps)], "pool")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    kind: type[Pooling] = Decay
    monkeypatch.setitem(POOLINGS, "decay", kind)
    monkeypatch.setitem(POOLING_REFERENCES, kind, PoolingReference(whole, stepwise))
    monkeypatch.setitem(POOLING_GRAPHS, kind, PoolingGraphs(step, full))


@pytest.fixture
def decaying(checkpoint: Path, tmp_path: Path) -> Path:
    return export_bundle(checkpoint, tmp_path / "b", pool="decay:8", target="portable,jetpack6").path


def test_is_read_and_written() -> None:
    assert parse_pooling("decay:8") == Decay(8) and str(Decay(8)) == "decay:8"
    for text in ("decay", "decay:", "decay:0", "decay:x"):
        with pytest.raises(ConfigError, match=r"expected cumulative .* or window:N .* or decay:N; several"):
            parse_pooling(text)


def test_is_proven_in_every_graph_and_kept_in_the_manifest(decaying: Path) -> None:
    bundle = open_bundle(decaying)
    assert bundle.manifest.pooling == read_manifest(decaying).pooling == Decay(8)
    assert '"pool": "decay:8"' in (decaying / "manifest.json").read_text()
    checks = {check.name for check in bundle.parity().checks if check.passed}
    assert {"step graph, every prefix", "taps graph, every prefix", "full graph, 2 x 37"} <= checks
    assert "decayed" in {state.input for state in bundle.manifest.graph("step", "fp32").states}
    assert all(check.passed for check in verify_bundle(bundle))
    golden = bundle.golden().first(20, Decay(8))
    assert golden.full is not None and within_limit(bundle.full()(golden.inputs), golden.full)


def test_full_graph_and_stream_compute_it(decaying: Path) -> None:
    bundle, net = open_bundle(decaying), random_net(variant()).double()
    inputs = random_inputs(net.config, 2, 90)
    reference = net.stepwise(as_double(inputs), Decay(8))
    assert not within_limit(net.stepwise(as_double(inputs)).numpy(), reference)
    assert within_limit(bundle.full()(inputs), reference[..., -1])
    stream = bundle.stream(2)
    assert within_limit(stream.run(inputs[..., :50]), reference[..., :50])
    saved = StreamState.from_bytes(stream.save_state().to_bytes())
    other = bundle.stream(2, pool="decay:8")
    other.load_state(saved)
    assert within_limit(other.run(inputs[..., 50:]), reference[..., 50:])


def test_of_rows_of_different_lengths(tmp_path: Path) -> None:
    net = random_net(variant(encoder="token"))
    path = export_bundle(save_published(net, tmp_path), tmp_path / "b", pool="decay:3").path
    tokens, lengths = random_inputs(net.config, 3, 40), np.array([1, 25, 40])
    reference = net.double()(as_double(tokens), torch.from_numpy(lengths), Decay(3))
    assert within_limit(open_bundle(path).full()(tokens, lengths), reference)


def test_the_native_engine_refuses_it(decaying: Path, exported: Path) -> None:
    assert not (decaying / "native").exists()
    with pytest.raises(BackendError, match="does not support pool decay:8; use backend onnxruntime"):
        open_bundle(decaying).stream(backend="native")
    with pytest.raises(BackendError, match="the native engine does not support pool decay:8"):
        open_bundle(exported).stream(pool="decay:8")
    with pytest.raises(BackendError, match=r"decay:8; export the bundle with --pool cumulative$"):
        open_bundle(decaying).stream(pool="cumulative")


def test_a_release_without_it_says_which(decaying: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(POOLINGS, "decay")
    with pytest.raises(BundleError, match="pool is 'decay:8', expected cumulative for all steps or window:N"):
        open_bundle(decaying)


def test_ecg_streams_take_it_in_seconds() -> None:
    assert Pool.parse("decay:2s", 100) == Pool(Decay(200))
    assert Pool.parse(None, 100, Decay(8)).suits(Decay(8)) == Pool()
