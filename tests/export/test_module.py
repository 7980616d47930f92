"""A module that is a MultiresNet is exported as one, with everything that the named path gives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from multires_edge.base.errors import ConfigError
from multires_edge.cli.main import main
from multires_edge.export import ExportOptions, ExportResult, Int8Options, export_bundle, export_module
from multires_edge.export.trace.module import ModuleResult
from multires_edge.format.config import ModelConfig
from multires_edge.format.module import ModuleConfig
from multires_edge.models import save_checkpoint
from multires_edge.models.inference import Overrides
from multires_edge.runtime import open_bundle
from tests.export.matching.networks import Style, Written, original
from tests.export.trace.networks import network

pytestmark = pytest.mark.slow

CONFIG = ModelConfig(
    "classification", "linear", 3, None, 2, d_model=8, n_layers=2, kernel_size=2, depth=3,
    norm="rms", norm_place="before", activation="silu",
)  # fmt: skip
STYLE = Style("both sides", "pairs", "formula", "linear layers", "two layers", "formula", "adaptive")
CARD = {
    "preprocessing": {
        "sampling_rate": 100, "channels": ["I", "II", "V1"], "unit": "mV", "mean": 0.0, "std": 0.2,
    },
    "labels": ["normal", "other"],
}  # fmt: skip
CODE = """
import torch
from tests.export.matching.networks import Style, Written, original
from tests.export.test_module import CONFIG

def build():
    return Written(original(CONFIG, 1), Style()), torch.randn(1, 3, 30)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module")
    (folder / "card.json").write_text(json.dumps(CARD))
    np.savez(folder / "data.npz", x=np.random.default_rng(0).standard_normal((16, 3, 80)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def options(folder: Path) -> ExportOptions:
    return ExportOptions(
        precisions=("fp16", "int8"),
        pool="window:20",
        target="cpu,jetpack6",
        card=folder / "card.json",
        int8=Int8Options(data=folder / "data.npz"),
    )


@pytest.fixture(scope="module")
def matched(folder: Path, options: ExportOptions) -> ExportResult:
    module = Written(original(CONFIG), STYLE).eval()
    result = export_module(module, torch.randn(1, 3, 30), folder / "matched.bundle", options)
    assert isinstance(result, ExportResult)
    return result


def test_every_graph_and_engine_is_proven_against_the_module(matched: ExportResult) -> None:
    checks = {check.name for check in matched.proof.checks if check.passed}
    assert {
        "your module in float64, every prefix",
        "full graph, your module",
        "native engine, every prefix",
        "fp16: native engine, every prefix",
        "int8: native engine, every prefix",
    } <= checks
    parity = open_bundle(matched.path).parity()
    assert parity.basis == "your module"
    assert "taps" in open_bundle(matched.path).in_form("opset17").manifest.graphs


def test_what_the_manifest_says(matched: ExportResult) -> None:
    manifest = open_bundle(matched.path).manifest
    assert manifest.source.module == "tests.export.matching.networks.Written"
    assert manifest.labels == ("normal", "other")
    assert manifest.pool == "window:20"
    assert manifest.model.activation == "silu"


def test_it_is_the_bundle_of_the_checkpoint(
    matched: ExportResult, folder: Path, options: ExportOptions
) -> None:
    save_checkpoint(original(CONFIG), folder / "ckpt.pth")
    named = export_bundle(folder / "ckpt.pth", folder / "named.bundle", options)
    for precision, file in named.manifest.native.items():
        found, expected = ((r.path / file.file).read_bytes() for r in (matched, named))
        assert found == expected, precision
    for name in named.manifest.graph_files():
        graphs = [onnx.load(result.path / name).graph for result in (matched, named)]
        assert graphs[0] == graphs[1], name


def test_a_stream_is_the_module(matched: ExportResult) -> None:
    net = original(CONFIG)
    x = torch.randn(2, 3, 18)
    stream = open_bundle(matched.path).stream(2, backend="native")
    np.testing.assert_allclose(stream.run(x.numpy())[..., -1], net(x).numpy(), rtol=0, atol=1e-5)


def test_with_weights_that_float32_rounds(tmp_path: Path, options: ExportOptions) -> None:
    class Rounding(Written):
        """Casts inside, and has the scale of a batch norm, which is a quotient."""

        def norm(self, i: int, x: torch.Tensor) -> torch.Tensor:
            return super().norm(i, x.float().to(x.dtype))

    module = Rounding(original(replace(CONFIG, norm="batch")), Style()).eval()
    result = export_module(module, torch.randn(1, 3, 30), tmp_path / "b", options, target="cpu")
    assert result.manifest.model.norm == "batch"


class TestUnmatched:
    def test_the_reason_is_in_the_manifest(self, tmp_path: Path) -> None:
        net, inputs = network("WaveNet")
        result = export_module(net, inputs(20), tmp_path / "b")
        assert isinstance(result, ModuleResult)
        assert isinstance(manifest := result.manifest.network, ModuleConfig)
        assert "conv1d in networks.py" in manifest.unmatched
        shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "b")])
        assert manifest.unmatched in shown.output
        assert "no filters of single channels to join: 4 rings" in shown.output

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pool": "window:9"}, "--pool is for MultiresNets.*conv1d in"),
            ({"lengths": True}, "--lengths is for"),
        ],
    )
    def test_options_of_multiresnets_are_refused(
        self, change: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        net, inputs = network("TCN")
        with pytest.raises(ConfigError, match=message):
            export_module(net, inputs(20), tmp_path / "b", **change)
        assert not (tmp_path / "b").exists()


def test_overrides_are_for_checkpoints(tmp_path: Path) -> None:
    net, inputs = network("TCN")
    with pytest.raises(ConfigError, match="the module alone says"):
        export_module(net, inputs(20), tmp_path / "b", overrides=Overrides(depth=3))


class TestCommand:
    @pytest.fixture
    def home(self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "found_net_of_a_test.py").write_text(CODE)
        torch.save({"state_dict": Written(original(CONFIG), Style()).state_dict()}, tmp_path / "ckpt.pth")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def export(self, *options: str) -> str:
        arguments = ["export", "ckpt.pth", "--module", "found_net_of_a_test:build", *options]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def test_the_summary(self, home: Path, folder: Path) -> None:
        shown = self.export("--card", str(folder / "card.json"), "--pool", "window:9")
        assert (
            "found in your module tests.export.matching.networks.Written: classification, 2 layers" in shown
        )
        assert "proven, against your module" in shown
        inspected = CliRunner().invoke(main, ["inspect", "ckpt.bundle"]).output
        assert "found in your module tests.export.matching.networks.Written" in inspected

    def test_the_weights_are_those_of_the_checkpoint(self, home: Path) -> None:
        self.export()
        x = torch.randn(1, 3, 12)
        y = open_bundle(home / "ckpt.bundle").full()(x.numpy())
        np.testing.assert_allclose(y, original(CONFIG)(x).numpy(), rtol=0, atol=1e-5)

    def test_its_proof_is_not_repeated_from_a_checkpoint(self, home: Path) -> None:
        self.export()
        result = CliRunner().invoke(main, ["verify", "ckpt.bundle", "--checkpoint", "ckpt.pth"])
        assert result.exit_code == 2
        assert "exported from your module" in result.output
