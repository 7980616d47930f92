"""Bundles of users' modules: written, proven, opened, streamed, and refused where they cannot run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from multires_edge.base.errors import BundleError, InputError, ModuleError, OutputError
from multires_edge.cli.main import main
from multires_edge.export import export_module
from multires_edge.export.trace.module import ModuleResult
from multires_edge.format.manifest import MANIFEST
from multires_edge.format.module import ModuleConfig
from multires_edge.format.reading import check_manifest
from multires_edge.runtime import Stream, open_bundle
from multires_edge.runtime.verify import verify_bundle
from tests.export.trace.networks import network

pytestmark = pytest.mark.slow

CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(2, 3, 4)

    def forward(self, x):
        return self.conv(torch.nn.functional.pad(x, (3, 0))).mean(-1)

def build():
    return Net(), torch.randn(1, 2, 30)

def without_example():
    return Net()

def broken():
    raise RuntimeError("no such file")
"""


@pytest.fixture(scope="module")
def tcn(tmp_path_factory: pytest.TempPathFactory) -> ModuleResult:
    net, inputs = network("TCN")
    folder = tmp_path_factory.mktemp("tcn")
    result = export_module(net, inputs(20), folder / "tcn.bundle", target="cpu,portable")
    assert isinstance(result, ModuleResult)
    return result


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> ModuleResult:
    net, inputs = network("two encoders")
    result = export_module(net, inputs(20), tmp_path_factory.mktemp("two") / "two.bundle")
    assert isinstance(result, ModuleResult)
    return result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


class TestPlain:
    def test_its_proof(self, tcn: ModuleResult) -> None:
        assert tcn.passed
        parity = open_bundle(tcn.path).parity()
        assert parity.basis == "your module"
        assert parity.receptive_field == 29
        assert parity.covers_receptive_field

    def test_no_state_is_copied(self, tcn: ModuleResult) -> None:
        states = tcn.manifest.graph("step", "fp32").states
        assert all(state.in_place for state in states if state.input != "position")
        assert len(states) == 1 + 6  # a ring for each convolution

    def test_a_stream_is_the_module(self, tcn: ModuleResult) -> None:
        net, inputs = network("TCN")
        x = inputs(30)[0]
        bundle = open_bundle(tcn.path)
        with torch.no_grad():
            whole = net(x).numpy()
        np.testing.assert_allclose(bundle.full()(x.numpy()), whole, rtol=0, atol=1e-5)
        np.testing.assert_allclose(bundle.stream(2).run(x.numpy())[..., -1], whole, rtol=0, atol=1e-5)
        assert type(bundle.stream()) is Stream

    def test_the_checks_of_verify(self, tcn: ModuleResult) -> None:
        checks = verify_bundle(open_bundle(tcn.path))
        assert len(checks) == 8  # four in each form
        assert all(check.passed for check in checks)

    def test_the_manifest_comes_back(self, tcn: ModuleResult) -> None:
        assert MANIFEST.from_json(tcn.manifest.to_json()) == tcn.manifest

    @pytest.mark.parametrize("command", ["inspect", "verify"])
    def test_commands(self, tcn: ModuleResult, command: str) -> None:
        result = run(command, tcn.path)
        assert result.exit_code == 0, result.output

    def test_bench(self, tcn: ModuleResult) -> None:
        result = run("bench", tcn.path, "--quick", "--streams", 1, "--steps", 50)
        assert result.exit_code == 0, result.output
        assert "your module" in result.output

    @pytest.mark.parametrize("command", ["kit", "build"])
    def test_what_is_for_multiresnets_says_so(self, tcn: ModuleResult, tmp_path: Path, command: str) -> None:
        options: list[object] = ["--target", "rtx"] if command == "build" else ["-o", tmp_path / "kit.zip"]
        result = run(command, tcn.path, *options)
        assert result.exit_code == 2, result.output
        assert "your own module" in result.output or "install" in result.output

    def test_an_existing_folder_is_kept(self, tcn: ModuleResult) -> None:
        net, inputs = network("TCN")
        with pytest.raises(OutputError, match="exists already"):
            export_module(net, inputs(20), tcn.path)

    def test_a_manifest_that_contradicts_itself(self, tcn: ModuleResult) -> None:
        network = tcn.manifest.network
        assert isinstance(network, ModuleConfig)
        other = replace(network, outputs=(replace(network.outputs[0], shape=("batch", 7)),))
        with pytest.raises(BundleError, match="outputs"):
            check_manifest(replace(tcn.manifest, network=other))
        with pytest.raises(BundleError, match="pool is given"):
            check_manifest(replace(tcn.manifest, pool="cumulative"))


class TestSeveralInputsAndOutputs:
    def test_a_stream_takes_and_returns_dictionaries(self, two: ModuleResult) -> None:
        net, inputs = network("two encoders")
        x = dict(zip(("seismic", "sound"), inputs(25), strict=True))
        with torch.no_grad():
            whole = {name: y.numpy() for name, y in net(*x.values()).items()}
        given = {name: each.numpy() for name, each in x.items()}
        bundle: Any = open_bundle(two.path)
        full, stream = bundle.full()(given), bundle.stream(2)
        ys = stream.run(given)
        for name, expected in whole.items():
            np.testing.assert_allclose(full[name], expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(ys["event"][..., -1], whole["event"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(ys["alarm"], whole["alarm"], rtol=0, atol=1e-5)
        stream.reset()
        first = stream.step({name: each[..., 0].copy() for name, each in given.items()})
        np.testing.assert_allclose(first["alarm"], whole["alarm"][..., 0], rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (np.zeros((1, 2), np.float32), "expected a dictionary of seismic, sound"),
            ({"seismic": np.zeros((1, 2), np.float32)}, "expected a dictionary of seismic, sound"),
            ({"seismic": np.zeros((1, 3), np.float32), "sound": np.zeros((1, 1), np.float32)}, "shape"),
            ({"seismic": np.full((1, 2), np.nan, np.float32), "sound": np.zeros((1, 1), np.float32)}, "NaN"),
        ],
    )
    def test_bad_inputs(self, two: ModuleResult, given: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            open_bundle(two.path).stream().step(given)

    def test_inputs_of_different_lengths(self, two: ModuleResult) -> None:
        given: Any = {"seismic": np.zeros((1, 2, 5), np.float32), "sound": np.zeros((1, 1, 6), np.float32)}
        with pytest.raises(InputError, match="different batches or steps"):
            open_bundle(two.path).stream().run(given)

    def test_verify(self, two: ModuleResult) -> None:
        assert run("verify", two.path).exit_code == 0


class TestCommand:
    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "own_net_of_a_test.py").write_text(CODE)
        monkeypatch.chdir(tmp_path)
        weights = {"conv.weight": torch.randn(3, 2, 4), "conv.bias": torch.randn(3)}
        lightning = {f"model._orig_mod.{name}": tensor for name, tensor in weights.items()}
        torch.save({"state_dict": lightning, "epoch": 3}, tmp_path / "ckpt.pth")
        torch.save({"net": weights, "ema": {n: t + 1 for n, t in weights.items()}}, tmp_path / "two.pth")
        torch.save({"conv.weight": weights["conv.weight"]}, tmp_path / "half.pth")
        torch.save({**weights, "conv.bias": torch.zeros(4)}, tmp_path / "other.pth")
        return tmp_path

    def test_weights_come_from_the_checkpoint(self, home: Path) -> None:
        result = run("export", "ckpt.pth", "--module", "own_net_of_a_test:build", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["parity"]["basis"] == "your module"
        weights = torch.load(home / "ckpt.pth")["state_dict"]
        x = torch.randn(1, 2, 1)
        expected = weights["model._orig_mod.conv.weight"][..., -1] @ x[0, :, 0]
        expected = expected + weights["model._orig_mod.conv.bias"]
        y = open_bundle(home / "ckpt.bundle").full()(x.numpy())
        np.testing.assert_allclose(y[0], expected.numpy(), rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("ckpt.pth", "--module", "own_net_of_a_test"), "expected package.file:function"),
            (("ckpt.pth", "--module", "no_such_file_of_a_test:build"), "No module named"),
            (("ckpt.pth", "--module", "own_net_of_a_test:broken"), "RuntimeError: no such file"),
            (("ckpt.pth", "--module", "own_net_of_a_test:without_example"), "returned no example"),
            (("ckpt.pth", "--module", "own_net_of_a_test:build", "--precision", "fp16"), "--precision"),
            (("two.pth", "--module", "own_net_of_a_test:build"), "choose one with --weights"),
            (("half.pth", "--module", "own_net_of_a_test:build"), "lacks conv.bias"),
            (("other.pth", "--module", "own_net_of_a_test:build"), "in the module (3,)"),
        ],
    )
    def test_errors(self, home: Path, arguments: tuple[str, ...], message: str) -> None:
        result = run("export", *arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert not list(home.glob("*.bundle"))

    def test_one_of_several_networks(self, home: Path) -> None:
        options = ("--module", "own_net_of_a_test:build", "--weights", "ema")
        assert run("export", "two.pth", *options).exit_code == 0


def test_names_that_states_have(tmp_path: Path) -> None:
    class Named(torch.nn.Module):
        def forward(self, position: torch.Tensor) -> torch.Tensor:
            return position + 1

    with pytest.raises(ModuleError, match="the name position is used twice"):
        export_module(Named().eval(), torch.zeros(1, 2, 9), tmp_path / "b")
