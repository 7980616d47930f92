"""A norm of another kind, added by three registrations and without a change to the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multires_edge.base.errors import BackendError, CheckpointError, ConfigError
from multires_edge.export import export_bundle
from multires_edge.export.folding import fold
from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.linear import Linear
from multires_edge.export.norms import FOLDED_NORMS, Array, FoldedNorm
from multires_edge.format.config import NORMS, ModelConfig
from multires_edge.models import load_checkpoint
from multires_edge.models.norms import NORM_MODULES
from multires_edge.runtime import open_bundle
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import as_double, random_inputs, random_net, save_published, variant, within_limit


class AbsoluteNorm(nn.Module):
    """x / (mean(|x|) + epsilon) * gain, over channels; (batch, d_model, time)."""

    def __init__(self, channels: int, eps: float, groups: int) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.abs().mean(1, keepdim=True) + self.eps) * self.gain[:, None]


class FoldedAbsoluteNorm(FoldedNorm):
    @classmethod
    def fold(cls, norm: dict[str, Array], config: ModelConfig) -> FoldedNorm:
        return cls(norm["gain"], None, config.norm_eps, place=config.norm_place)

    def nodes(self, graph: GraphBuilder, x: str, name: str, *, over_time: bool) -> str:
        magnitude = graph.node("Abs", [x], f"{name}/norm/magnitude")
        mean = graph.mean(magnitude, 1, f"{name}/norm/mean", "over channels")
        mean = graph.node("Unsqueeze", [mean, graph.integers("norm/axis", [1])], f"{name}/norm/column")
        epsilon = graph.weight("norm/epsilon", self.epsilon, like=x)
        mean = graph.node("Add", [mean, epsilon], f"{name}/norm/above_zero")
        scale = graph.weight(f"{name}/norm/scale", self.scale[:, None] if over_time else self.scale, like=x)
        normal = graph.node("Div", [x, mean], f"{name}/norm/normal")
        return graph.node("Mul", [normal, scale], f"{name}/norm")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    kind: type[FoldedNorm] = FoldedAbsoluteNorm
    monkeypatch.setitem(NORMS, "absolute", "the mean magnitude of the channels of a step")
    monkeypatch.setitem(NORM_MODULES, "absolute", AbsoluteNorm)
    monkeypatch.setitem(FOLDED_NORMS, "absolute", kind)


@pytest.mark.parametrize("norm", ["layer", "batch", "absolute"])
def test_a_checkpoint_tells_its_norm(norm: str, tmp_path: Path) -> None:
    net = random_net(variant(norm=norm))
    loaded = load_checkpoint(save_published(net, tmp_path))
    assert loaded.config.norm == norm
    inputs = torch.from_numpy(random_inputs(net.config, 2, 30))
    assert torch.equal(loaded(inputs), net(inputs))


@pytest.mark.parametrize("task", ["classification", "autoregressive"])
def test_every_graph_computes_it(task: str, tmp_path: Path) -> None:
    net = random_net(variant(norm="absolute", task=task))
    path = save_published(net, tmp_path)
    result = export_bundle(path, tmp_path / "b", target="portable,jetpack6", precisions=["fp16"])
    bundle = open_bundle(result.path)
    assert bundle.manifest.model.norm == "absolute"
    checks = {check.name for check in bundle.parity().checks if check.passed}
    assert {"step graph, every prefix", "taps graph, every prefix", "full graph, 2 x 37"} <= checks
    assert all(check.passed for check in verify_bundle(bundle))
    inputs = random_inputs(net.config, 2, 60)
    expected = net.double().stepwise(as_double(inputs)).numpy()
    assert within_limit(bundle.stream(2).run(inputs), expected)


def test_folding_leaves_the_convolutions_alone() -> None:
    net = random_net(variant(norm="absolute")).double()
    layer = fold(net).layers[0]
    assert isinstance(layer.norm, FoldedAbsoluteNorm) and layer.norm.epsilon == 1e-5
    assert isinstance(layer.mixing, Linear)
    assert np.array_equal(layer.mixing.weight, net.state_dict()["mixing_layers.0.0.weight"][..., 0].numpy())


def test_the_native_engine_lacks_it(tmp_path: Path) -> None:
    path = save_published(random_net(variant(norm="absolute")), tmp_path)
    folder = export_bundle(path, tmp_path / "b").path
    assert not (folder / "native").exists()
    with pytest.raises(BackendError, match="no native weights in 'fp32'"):
        open_bundle(folder).stream(backend="native")


def test_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_published(random_net(variant(norm="absolute")), tmp_path)
    monkeypatch.delitem(NORMS, "absolute")
    with pytest.raises(ConfigError, match=r"norm is 'absolute', expected one of layer, batch, "):
        variant(norm="absolute")
    monkeypatch.delitem(NORM_MODULES, "absolute")
    with pytest.raises(CheckpointError, match=r"missing norms|unexpected norms"):
        load_checkpoint(path)
