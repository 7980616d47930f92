"""An activation of another kind, added by three registrations and without a change to the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from multires_edge.base.errors import BackendError, ConfigError
from multires_edge.export import export_bundle
from multires_edge.export.activations import ACTIVATION_NODES
from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.trial import find_network
from multires_edge.format.config import ACTIVATIONS
from multires_edge.models.activations import ACTIVATION_FUNCTIONS
from multires_edge.models.checkpoint import read_checkpoint
from multires_edge.models.inference import Overrides
from multires_edge.runtime import open_bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import as_double, random_inputs, random_net, save_published, variant, within_limit


def bump(x: Tensor) -> Tensor:
    return x / (1 + x * x)


def bump_nodes(graph: GraphBuilder, x: str, name: str) -> str:
    square = graph.node("Mul", [x, x], f"{name}/bump/square")
    below = graph.node("Add", [square, graph.weight("bump/one", 1.0, like=x)], f"{name}/bump/below")
    return graph.node("Div", [x, below], f"{name}/bump")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "bump", "x / (1 + x^2)")
    monkeypatch.setitem(ACTIVATION_FUNCTIONS, "bump", bump)
    monkeypatch.setitem(ACTIVATION_NODES, "bump", bump_nodes)


SAID = Overrides(block={"activation": "bump"})


def test_every_graph_computes_it(tmp_path: Path) -> None:
    net = random_net(variant(activation="bump"))
    path = save_published(net, tmp_path)
    targets, precisions = "portable,jetpack6", ["fp16"]
    result = export_bundle(path, tmp_path / "b", overrides=SAID, target=targets, precisions=precisions)
    bundle = open_bundle(result.path)
    assert bundle.manifest.model.activation == "bump"
    checks = {check.name for check in bundle.parity().checks if check.passed}
    assert {"step graph, every prefix", "taps graph, every prefix", "full graph, 2 x 37"} <= checks
    assert all(check.passed for check in verify_bundle(bundle))
    inputs = random_inputs(net.config, 2, 60)
    expected = net.double().stepwise(as_double(inputs)).numpy()
    assert within_limit(bundle.stream(2).run(inputs), expected)
    assert within_limit(bundle.full()(inputs), expected[..., -1])


def test_the_native_engine_lacks_it(tmp_path: Path) -> None:
    folder = export_bundle(save_published(random_net(variant()), tmp_path), overrides=SAID).path
    assert not (folder / "native").exists()
    with pytest.raises(BackendError, match="no native weights in 'fp32'"):
        open_bundle(folder).stream(backend="native")


def test_outputs_find_it(tmp_path: Path) -> None:
    net = random_net(variant(activation="bump"))
    inputs = random_inputs(net.config, 2, 40)
    outputs: np.ndarray = net(torch.from_numpy(inputs)).numpy()
    dataset = Dataset(Path("own.npz"), inputs, outputs=outputs)
    found = find_network(read_checkpoint(save_published(net, tmp_path)), Overrides(), dataset)
    assert found.config == net.config


def test_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ACTIVATIONS, "bump")
    with pytest.raises(ConfigError, match="activation is 'bump', expected one of gelu, "):
        variant(activation="bump")
