"""What training needs of the network: the same function and gradients, faster; dropout; starting values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pywt
import torch

from multires_edge.base.errors import ConfigError, OutputError
from multires_edge.format.fields import plain
from multires_edge.models import MultiresNet, initialize, load_checkpoint, save_checkpoint
from multires_edge.models.checkpoint import read_checkpoint
from multires_edge.models.inference import Overrides, infer_config
from multires_edge.models.initialization import layers_of
from multires_edge.models.multires import MultiresLayer
from tests.conftest import SMALL, random_net, variant

TREES = {
    "fading": SMALL,
    "four taps": variant(kernel_size=4, depth=3),
    "uniform": variant(tree_select="uniform", memory_size=12, depth=5),
}


@pytest.mark.parametrize("time", [1, 2, 63, 200])
@pytest.mark.parametrize("tree", TREES)
def test_one_filter_has_the_values_and_gradients_of_the_definition(tree: str, time: int) -> None:
    torch.manual_seed(0)
    layer = MultiresLayer(TREES[tree]).double()
    x = torch.randn(3, TREES[tree].d_model, time, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, TREES[tree].d_model, time, dtype=torch.float64)
    results = []
    for training in (True, False):
        layer.train(training)
        y = layer(x)
        wanted = [x, *layer.parameters()]
        results.append([y, *torch.autograd.grad((y * weights).sum(), wanted)])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precisions_train(dtype: torch.dtype) -> None:
    """As Lightning's bf16-true. Transforms of these types are missing, or limited to some lengths."""
    layer = MultiresLayer(SMALL).to(dtype)
    y = layer(torch.randn(2, SMALL.d_model, 30, dtype=dtype))
    y.sum().backward()
    assert y.dtype == dtype and all(
        p.grad is not None and p.grad.isfinite().all() for p in layer.parameters()
    )


def test_dropout_is_for_training_only_and_drops_whole_channels() -> None:
    net = MultiresNet(SMALL, dropout=0.5)
    x = torch.randn(2, SMALL.channels, 30)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    layer = MultiresLayer(SMALL, dropout=0.5)
    dropped = layer(torch.randn(4, SMALL.d_model, 30)) == 0
    assert torch.equal(dropped.all(-1), dropped.any(-1)) and dropped.any()


def test_dropout_changes_no_names() -> None:
    assert MultiresNet(SMALL, dropout=0.5).state_dict().keys() == random_net(SMALL).state_dict().keys()


class TestFromConfig:
    @pytest.mark.parametrize("tree", TREES)
    def test_json_values_make_the_same_network(self, tree: str) -> None:
        values = json.loads(json.dumps(plain(TREES[tree])))
        assert MultiresNet.from_config(values).config == TREES[tree]
        assert MultiresNet.from_config(TREES[tree], dropout=0.3).config == TREES[tree]

    @pytest.mark.parametrize("wrong", [{}, {"d_model": "64"}, plain(SMALL) | {"depht": 3}])
    def test_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            MultiresNet.from_config(wrong)


class TestStartingValues:
    @pytest.mark.parametrize(("wavelet", "taps"), [("haar", 2), ("db2", 4), ("sym4", 8)])
    def test_of_a_wavelet(self, wavelet: str, taps: int) -> None:
        """Filters of an orthogonal wavelet: unit energy, orthogonal, and the high-pass stops a constant."""
        net = initialize(MultiresNet(variant(kernel_size=taps, depth=2)), wavelet)
        for layer in layers_of(net):
            h0, h1 = layer.h0[:, 0].detach(), layer.h1[:, 0].detach()
            assert (h0 == h0[:1]).all() and (h1 == h1[:1]).all()
            gram = torch.stack([h0[0], h1[0]]) @ torch.stack([h0[0], h1[0]]).T
            torch.testing.assert_close(gram, torch.eye(2), atol=1e-6, rtol=0)
            assert h1[0].sum().abs() < 1e-6 and h0[0].sum() > 0

    def test_haar_needs_no_package_and_is_that_of_one(self) -> None:
        layer = layers_of(initialize(MultiresNet(SMALL), "haar"))[0]
        torch.testing.assert_close(layer.h0[0, 0].detach(), torch.tensor(pywt.Wavelet("haar").dec_lo[::-1]))
        torch.testing.assert_close(layer.h1[0, 0].detach(), torch.tensor(pywt.Wavelet("haar").dec_hi[::-1]))

    def test_independent_residual(self) -> None:
        torch.manual_seed(0)
        deep = variant(depth=9, d_model=32)
        net = initialize(MultiresNet(deep), independent_residual=True)
        weights = layers_of(net)[0].w.detach()
        assert weights[:, -1].abs().max() > 0.8 and weights[:, :-1].abs().max() < 0.35

    def test_refused(self) -> None:
        with pytest.raises(ConfigError, match="db2 has 4 taps, but the network's kernel_size is 2"):
            initialize(MultiresNet(SMALL), "db2")
        with pytest.raises(ConfigError, match="'wave', expected a discrete one"):
            initialize(MultiresNet(SMALL), "wave")


class TestSaving:
    @pytest.mark.parametrize("tree", TREES)
    def test_what_was_saved_is_read_without_a_question(self, tree: str, tmp_path: Path) -> None:
        """Also a uniform tree, whose depth no tensor has, and with nothing assumed or warned of."""
        net = random_net(TREES[tree])
        save_checkpoint(net, tmp_path / "net.pth")
        inferred = infer_config(read_checkpoint(tmp_path / "net.pth"), Overrides())
        assert (inferred.config, inferred.assumed) == (TREES[tree], ())
        loaded = load_checkpoint(tmp_path / "net.pth")
        x = torch.randn(2, 2, 40)
        assert torch.equal(loaded(x), net(x))

    def test_in_the_hyper_parameters_of_a_framework(self, tmp_path: Path) -> None:
        net = random_net(TREES["uniform"])
        for number, kept in enumerate([{"config": plain(net.config)}, plain(net.config)]):
            path = tmp_path / f"{number}.ckpt"
            torch.save({"state_dict": net.state_dict(), "hyper_parameters": kept, "epoch": 3}, path)
            assert load_checkpoint(path).config == net.config

    def test_another_config_is_no_configuration(self, tmp_path: Path) -> None:
        torch.save({"model": random_net(SMALL).state_dict(), "config": {"lr": 0.1}}, tmp_path / "net.pth")
        with pytest.warns(UserWarning, match="assumed a fading tree"):
            assert load_checkpoint(tmp_path / "net.pth").config == SMALL

    def test_an_option_that_contradicts_is_refused(self, tmp_path: Path) -> None:
        save_checkpoint(random_net(SMALL), tmp_path / "net.pth")
        with pytest.raises(ConfigError, match=r"--tree-select uniform contradicts .*net\.pth: fading"):
            load_checkpoint(tmp_path / "net.pth", Overrides(tree_select="uniform"))

    def test_never_over_another_file_by_accident(self, tmp_path: Path) -> None:
        (tmp_path / "net.pth").write_bytes(b"mine")
        with pytest.raises(OutputError, match="exists already"):
            save_checkpoint(random_net(SMALL), tmp_path / "net.pth")
        save_checkpoint(random_net(SMALL), tmp_path / "net.pth", force=True)
        assert load_checkpoint(tmp_path / "net.pth").config == SMALL
