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
from multires_edge.export.norms import FOLDED_NORMS, Array, Folded, FoldedNorm
from multires_edge.format.config import NORMS
from multires_edge.models import load_checkpoint
from multires_edge.models.norms import NORM_MODULES
from multires_edge.runtime import open_bundle
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import as_double, random_inputs, random_net, save_published, variant, within_limit

EPSILON = 1e-5


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight, over channels; (batch, d_model, time)."""

    eps = EPSILON

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        squares = x.square().mean(1, keepdim=True)
        return x / (squares + EPSILON).sqrt() * self.weight[:, None]


class FoldedRmsNorm(FoldedNorm):
    @classmethod
    def fold(cls, norm: dict[str, Array], epsilon: float, mixing: Linear, output: Linear | None) -> Folded:
        return cls(norm["weight"], None, epsilon), mixing, output

    def nodes(self, graph: GraphBuilder, x: str, y: str, name: str, *, over_time: bool) -> str:
        total = graph.node("Add", [x, y], f"{name}/residual")
        square = graph.node("Mul", [total, total], f"{name}/norm/square")
        mean = graph.mean(square, 1, f"{name}/norm/mean", "over channels")
        mean = graph.node("Unsqueeze", [mean, graph.integers("norm/axis", [1])], f"{name}/norm/column")
        epsilon = graph.weight("norm/epsilon", self.epsilon, like=x)
        mean = graph.node("Add", [mean, epsilon], f"{name}/norm/above_zero")
        root = graph.node("Sqrt", [mean], f"{name}/norm/root")
        scale = graph.weight(f"{name}/norm/scale", self.scale[:, None] if over_time else self.scale, like=x)
        normal = graph.node("Div", [total, root], f"{name}/norm/normal")
        return graph.node("Mul", [normal, scale], f"{name}/norm")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    kind: type[FoldedNorm] = FoldedRmsNorm
    monkeypatch.setitem(NORMS, "rms", "RMSNorm over the channels of a step")
    monkeypatch.setitem(NORM_MODULES, "rms", RmsNorm)
    monkeypatch.setitem(FOLDED_NORMS, "rms", kind)


@pytest.mark.parametrize("norm", ["layer", "batch", "rms"])
def test_a_checkpoint_tells_its_norm(norm: str, tmp_path: Path) -> None:
    net = random_net(variant(norm=norm))
    loaded = load_checkpoint(save_published(net, tmp_path))
    assert loaded.config.norm == norm
    inputs = torch.from_numpy(random_inputs(net.config, 2, 30))
    assert torch.equal(loaded(inputs), net(inputs))


@pytest.mark.parametrize("task", ["classification", "autoregressive"])
def test_every_graph_computes_it(task: str, tmp_path: Path) -> None:
    net = random_net(variant(norm="rms", task=task))
    path = save_published(net, tmp_path)
    result = export_bundle(path, tmp_path / "b", target="portable,jetpack6", precisions=["fp16"])
    bundle = open_bundle(result.path)
    assert bundle.manifest.model.norm == "rms"
    checks = {check.name for check in bundle.parity().checks if check.passed}
    assert {"step graph, every prefix", "taps graph, every prefix", "full graph, 2 x 37"} <= checks
    assert all(check.passed for check in verify_bundle(bundle))
    inputs = random_inputs(net.config, 2, 60)
    expected = net.double().stepwise(as_double(inputs)).numpy()
    assert within_limit(bundle.stream(2).run(inputs), expected)


def test_folding_leaves_the_convolutions_alone() -> None:
    net = random_net(variant(norm="rms")).double()
    layer = fold(net).layers[0]
    assert isinstance(layer.norm, FoldedRmsNorm) and layer.norm.epsilon == EPSILON
    assert isinstance(layer.mixing, Linear)
    assert np.array_equal(layer.mixing.weight, net.state_dict()["mixing_layers.0.0.weight"][..., 0].numpy())


def test_the_native_engine_lacks_it(tmp_path: Path) -> None:
    path = save_published(random_net(variant(norm="rms")), tmp_path)
    folder = export_bundle(path, tmp_path / "b").path
    assert not (folder / "native").exists()
    with pytest.raises(BackendError, match="no native weights in 'fp32'"):
        open_bundle(folder).stream(backend="native")


def test_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_published(random_net(variant(norm="rms")), tmp_path)
    monkeypatch.delitem(NORMS, "rms")
    with pytest.raises(ConfigError, match=r"norm is 'rms', expected .*layer.*batch$"):
        variant(norm="rms")
    monkeypatch.delitem(NORM_MODULES, "rms")
    with pytest.raises(CheckpointError, match=r"missing norms\.0\.bias"):
        load_checkpoint(path)
