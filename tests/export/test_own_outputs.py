"""The outputs of the user's own network: what a checkpoint computes is not in the names of its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from multires_edge.base.errors import ConfigError, DataError
from multires_edge.export import export_bundle, trial
from multires_edge.export.bundle import ExportResult, ParityError
from multires_edge.export.trial import find_network
from multires_edge.format.reading import read_manifest
from multires_edge.models.checkpoint import read_checkpoint
from multires_edge.models.inference import Overrides, infer_config
from multires_edge.models.network import MultiresNet
from multires_edge.runtime import open_bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from tests.conftest import SMALL, random_inputs, random_net, save_published, variant


def exported(net: MultiresNet, folder: Path, y: Any, **more: Any) -> ExportResult:
    """Export a network with ``y`` as its outputs; ``more`` are further arrays of the data file."""
    checkpoint = save_published(net, folder)
    key = "tokens" if net.config.encoder == "token" else "x"
    arrays: dict[str, Any] = {key: inputs(net), "y": y, **more}
    np.savez(folder / "own.npz", **arrays)
    return export_bundle(checkpoint, verify_data=folder / "own.npz")


def inputs(net: MultiresNet) -> np.ndarray:
    return random_inputs(net.config, 3, 60)


def outputs(net: MultiresNet, **more: Any) -> np.ndarray:
    y: np.ndarray = net(torch.from_numpy(inputs(net)), **more).numpy()
    return y


@pytest.mark.parametrize("task", ["classification", "autoregressive"])
@pytest.mark.parametrize("encoder", ["linear", "token"])
def test_that_agree_are_named(task: str, encoder: str, tmp_path: Path) -> None:
    net = random_net(variant(task=task, encoder=encoder))
    result = exported(net, tmp_path, outputs(net))
    assert result.proof.basis == "the published definition, and your network's outputs in own.npz"
    check = next(check for check in result.proof.checks if check.name == "full graph, your outputs")
    assert check.values == outputs(net).size
    assert open_bundle(result.path).parity().basis == result.proof.basis


def test_with_lengths(tmp_path: Path) -> None:
    net = random_net(variant(encoder="token"))
    lengths = np.array([60, 1, 33])
    y = outputs(net, lengths=torch.from_numpy(lengths))
    assert exported(net, tmp_path, y, lengths=lengths).passed
    with pytest.raises(ParityError):
        exported(net, tmp_path / "other", outputs(net), lengths=lengths)


def test_without_them_the_definition_alone_is_named(tmp_path: Path) -> None:
    result = export_bundle(save_published(random_net(SMALL), tmp_path))
    assert result.proof.basis == "the published definition"


class PreNorm(MultiresNet):
    """Published names and shapes, and another function."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder(x)
        for layer, mixing, norm in zip(self.seq_layers, self.mixing_layers, self.norms, strict=True):
            x = x + mixing(layer(norm(x)))
        return x


def pre_norm(net: MultiresNet) -> np.ndarray:
    other = PreNorm(net.config)
    other.load_state_dict(net.state_dict())
    return outputs(other.eval().requires_grad_(False))


def min_pooled(net: MultiresNet) -> np.ndarray:
    features = net.features(torch.from_numpy(inputs(net)))
    return F.linear(features.amin(-1), net.output_mapping.weight, net.output_mapping.bias).numpy()


def test_find_the_network(tmp_path: Path) -> None:
    """The tensors have the published names and shapes; the outputs are of norms before the blocks."""
    net = random_net(SMALL)
    result = exported(net, tmp_path, pre_norm(net))
    assert result.manifest.model.norm_place == "before" and result.passed
    found = "blocks with norm layer, norm_place before, norm_eps 1e-05, activation gelu"
    assert f"{found}, pooling by mean: the outputs in own.npz are those" in result.manifest.source.assumed


@pytest.mark.parametrize(
    "block",
    [
        {"activation": "silu", "norm_eps": 1e-3},
        {"norm": "group", "norm_groups": 2, "activation": "relu"},
        {"norm": "rms", "norm_place": "before", "activation": "gelu_tanh", "filters": "untied"},
        {"norm": "batch", "norm_eps": 1e-3, "activation": "identity"},
        {"norm": "none", "activation": "silu", "mixing": "plain"},
        {"pooling": "max", "activation": "silu"},
        {"task": "autoregressive", "shifted": False, "norm_place": "before"},
        {"pooling": "none", "output_activation": "softmax"},
        {"pooling": "last+mean+max", "norm": "rms", "output_activation": "sigmoid"},
        {"tree_select": "uniform", "memory_size": 6, "depth": 5, "pooling": "max+mean", "activation": "silu"},
        {"activation": "silu", "norm_eps": 1e-6, "norm_place": "before", "pooling": "last"},
    ],
)
def test_find_any_network(block: dict[str, Any], tmp_path: Path) -> None:
    net = random_net(variant(**block))
    dataset = Dataset(Path("own.npz"), inputs(net), outputs=outputs(net))
    found = find_network(read_checkpoint(save_published(net, tmp_path, args=None)), Overrides(), dataset)
    assert found.config == net.config
    assert found.assumed[-1].endswith(": the outputs in own.npz are those")


def test_find_a_network_whose_head_and_tree_nothing_says(tmp_path: Path) -> None:
    net = random_net(variant(pooling="mean+max", tree_select="uniform", memory_size=30, depth=6))
    np.savez(tmp_path / "own.npz", x=inputs(net), y=outputs(net))
    path = save_published(net, tmp_path, args=None)
    with pytest.raises(ConfigError, match="nothing says its kind of tree"):
        export_bundle(path)
    assert export_bundle(path, verify_data=tmp_path / "own.npz").manifest.model == net.config


def test_of_no_supported_block_name_the_nearest(tmp_path: Path) -> None:
    net = random_net(SMALL)
    words = "no supported network .*; of [0-9]+ .*, the nearest has blocks with norm layer, .* an error of 0"
    with pytest.warns(UserWarning, match=words), pytest.raises(ParityError):
        exported(net, tmp_path, outputs(net) + 0.1)


def test_of_no_supported_network_leave_the_question(tmp_path: Path) -> None:
    """Where an option must be given, a trial without result does not stand in for it."""
    net = random_net(variant(pooling="mean+max"))
    with pytest.raises(ConfigError, match=r"give --pool .*; no supported network .* an error of 0"):
        exported(net, tmp_path, outputs(net) + 0.1)


@pytest.mark.filterwarnings("ignore:.*assumed a fading tree")
def test_are_compared_with_a_bounded_number_of_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MOST_RUNS", 20)
    net = random_net(SMALL)
    checkpoint = read_checkpoint(save_published(net, tmp_path, args=None))
    dataset = Dataset(Path("own.npz"), inputs(net), outputs=outputs(net) + 0.1)
    runs: list[str] = []
    with pytest.warns(UserWarning, match="no supported network"):
        find_network(checkpoint, Overrides(), dataset, runs.append)
    assert 20 < len(runs) < 100


def test_do_not_overrule_what_is_said(tmp_path: Path) -> None:
    net = random_net(SMALL)
    checkpoint = read_checkpoint(save_published(net, tmp_path))
    dataset = Dataset(Path("own.npz"), inputs(net), outputs=pre_norm(net))
    said = Overrides(block={"norm_place": "after"})
    with pytest.warns(UserWarning, match="no supported network"):
        assert find_network(checkpoint, said, dataset) == infer_config(checkpoint, said)


def test_tell_the_kind_of_encoder(tmp_path: Path) -> None:
    """A square table of tokens and a Linear layer without a bias have the same shape."""
    net = random_net(variant(d_input=8))
    with torch.no_grad():
        net.state_dict()["encoder.bias"].zero_()
    state = {name: value for name, value in net.state_dict().items() if name != "encoder.bias"}
    torch.save(state | {"encoder.weight": state["encoder.weight"][..., 0]}, tmp_path / "a.pth")
    np.savez(tmp_path / "own.npz", x=inputs(net), y=outputs(net))
    with pytest.raises(ConfigError, match="give --encoder"):
        export_bundle(tmp_path / "a.pth")
    assert export_bundle(tmp_path / "a.pth", verify_data=tmp_path / "own.npz").manifest.model == net.config


@pytest.mark.filterwarnings("ignore:.*no supported network")
def test_of_another_function_fail_the_proof(tmp_path: Path) -> None:
    net = random_net(SMALL)
    with pytest.raises(ParityError, match="your outputs") as failed:
        exported(net, tmp_path, min_pooled(net))
    wrong = [check.name for check in failed.value.result.proof.checks if not check.passed]
    assert wrong == ["full graph, your outputs"]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros((3, 4, 60), np.float32), "expected the outputs of your network"),
        (np.zeros((2, 3), np.float32), "expected the outputs of your network"),
        (np.zeros((3, SMALL.d_output), np.int64), "float"),
        (np.full((3, SMALL.d_output), np.nan, np.float32), "NaN"),
    ],
)
def test_of_a_wrong_shape_are_refused(y: np.ndarray, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        exported(random_net(SMALL), tmp_path, y)


class TestAssumptions:
    def test_stand_in_the_bundle(self, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="assumed a fading tree of depth 3"):
            result = export_bundle(save_published(random_net(SMALL), tmp_path, args=None))
        assumed = read_manifest(result.path).source.assumed
        tree = "a fading tree of depth 3: no args.txt, hyper-parameter or option says its kind"
        block = "blocks with norm layer, norm_place after, norm_eps 1e-05, activation gelu"
        assert assumed == (tree, "pooling by the mean", block)
        assert f"Assumed: {assumed[0]}." in (result.path / "report.html").read_text()

    def test_are_absent_where_everything_is_said(self, tmp_path: Path) -> None:
        result = export_bundle(save_published(random_net(SMALL), tmp_path))
        assert result.manifest.source.assumed == ()
        assert "assumed" not in (result.path / "manifest.json").read_text()
