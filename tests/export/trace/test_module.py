"""Bundles of users' modules: written, proven, opened, streamed, and refused where they cannot run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result

from multires_edge.base.errors import BackendError, BundleError, InputError, ModuleError, OutputError
from multires_edge.calibration.table import CalibrationTable
from multires_edge.cli.main import main
from multires_edge.export import Int8Options, export_module
from multires_edge.export.trace.module import ModuleResult
from multires_edge.format.manifest import MANIFEST
from multires_edge.format.module import ModuleConfig
from multires_edge.format.reading import check_manifest
from multires_edge.runtime import Stream, open_bundle
from multires_edge.runtime.kit.command import main as check_device
from multires_edge.runtime.verify import verify_bundle
from tests.export.trace.networks import network
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt import fake_tensorrt
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt
from tests.runtime.kit.conftest import unpack

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*are advised")]

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
    """In every precision, with labels and outputs of the module beside its data, for engines too."""
    net, inputs = network("TCN")
    folder = tmp_path_factory.mktemp("tcn")
    x = torch.cat([inputs(40)[0] for _ in range(8)])
    with torch.no_grad():
        y = net(x).numpy()
    np.savez(folder / "data.npz", x=x.numpy(), y=y, labels=y.argmax(1))
    options: Any = {
        "target": "cpu,jetpack6",
        "precisions": ("fp16", "int8"),
        "verify_data": folder / "data.npz",
    }
    int8 = Int8Options(data=folder / "data.npz", max_drop=0.1)
    result = export_module(net, inputs(20), folder / "tcn.bundle", **options, int8=int8)
    assert isinstance(result, ModuleResult)
    return result


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> ModuleResult:
    net, inputs = network("two encoders")
    folder = tmp_path_factory.mktemp("two")
    pairs = zip(*(inputs(30) for _ in range(4)), strict=True)
    arrays = {name: torch.cat(parts).numpy() for name, parts in zip(("seismic", "sound"), pairs, strict=True)}
    np.savez(folder / "data.npz", **arrays, lengths=np.arange(20, 28))  # type: ignore[arg-type]
    int8 = Int8Options(data=folder / "data.npz")
    result = export_module(net, inputs(20), folder / "two.bundle", precisions=("int8",), int8=int8)
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
        assert all(check.passed for check in checks)
        # In each precision the full graph and the step graph, in the second form the taps graph too.
        assert len(checks) == 3 * (4 + 4 + 3)
        assert {check.precision for check in checks if "taps graph" in check.name} == {"fp32", "fp16", "int8"}

    def test_the_proof_of_every_precision(self, tcn: ModuleResult) -> None:
        made = {check.name for check in tcn.proof.checks}
        for prefix in ("", "fp16: ", "int8: ", "opset17, ", "opset17, int8: "):
            assert f"{prefix}step graph, every prefix" in made
            assert f"{prefix}full graph, real data" in made
        assert "opset17, fp16: taps graph, rows restarted" in made
        assert "int8: step graph against full graph" in made and "full graph, your outputs" in made
        parity = open_bundle(tcn.path).parity()
        assert parity.quantization is not None
        assert set(parity.quantization["int8"]["tensors"]) == set(tcn.manifest.quantization["int8"].tensors)
        assert parity.quantization["int8"]["budget"]["metric"] == "accuracy"
        name, *_ = parity.quantization["int8"]["tensors"]
        assert name in (tcn.path / "report.html").read_text()

    def test_int8_is_in_the_graphs(self, tcn: ModuleResult) -> None:
        types = tcn.manifest.quantization["int8"].tensors
        # Of 8 products, without the head and those that read the input.
        assert len(types) == 5 and "int8" in types.values()
        model = onnx.load(tcn.path / tcn.manifest.graph("step", "int8").file)
        stored = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8]
        weights = [each for each in stored if each.dims]
        assert len(weights) == list(types.values()).count("int8")

    def test_evaluate(self, tcn: ModuleResult) -> None:
        data = tcn.path.parent / "data.npz"
        for graph in ("full", "step"):
            options = ("--precision", "fp32,fp16,int8", "--graph", graph, "--json")
            result = run("evaluate", tcn.path, "--data", data, *options)
            assert result.exit_code == 0, result.output
            values = json.loads(result.stdout)["precisions"]
            assert values["fp32"]["value"]["value"] == 1  # the labels are the module's own
            assert values["fp16"]["relative_error"] < 1e-2

    @pytest.mark.native
    def test_an_engine(self, tcn: ModuleResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All but the device: TensorRT's stand-in builds and runs the graphs, the ring kernels are real."""
        driver = FakeCuda()
        fake_tensorrt.install(monkeypatch, driver, FakeTensorRt(driver, "10.3.0", aliases=False))
        bundle = open_bundle(shutil.copytree(tcn.path, tmp_path / "b"))
        assert run("build", bundle.path, "--target", "jetpack6").exit_code == 0
        golden = bundle.golden()
        stream = bundle.stream(2, backend="tensorrt", precision="fp16")
        found = stream.run(golden.inputs)
        assert np.abs(found - golden.stepwise).max() < 5e-2
        full = bundle.full(backend="tensorrt")(golden.inputs)
        assert golden.full is not None and np.abs(full - golden.full).max() < 1e-5
        assert {"gather_taps", "push_rows"} <= {name.rpartition("_")[0] for name in driver.launched}

    def test_the_kit(self, tcn: ModuleResult, tmp_path: Path) -> None:
        assert run("kit", tcn.path, "--target", "jetpack6", "-o", tmp_path / "kit.tar.gz").exit_code == 0
        folder = unpack((tmp_path / "kit.tar.gz").read_bytes(), tmp_path / "kit")
        options = ["--kit", str(folder), "--report", str(tmp_path / "report.json"), "--steps", "0"]
        for backend in ("onnxruntime", "taps"):
            assert check_device([*options, "--backend", backend, "--streams", "1"]) == 0

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

    @pytest.mark.parametrize(
        ("backend", "message"),
        [
            ("native", "no filters of this module in 'fp32'; it has: none"),
            ("cuda", r"MultiresNets have, and .*Tcn is none: conv1d in"),
        ],
    )
    def test_what_is_not_for_it_says_so(self, tcn: ModuleResult, backend: str, message: str) -> None:
        with pytest.raises(BackendError, match=message):
            open_bundle(tcn.path).stream(backend=backend)

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

    def test_ranges_of_data_by_name(self, two: ModuleResult) -> None:
        table = CalibrationTable.read(two.path / "calibration.json")
        assert table.data.records == 8 and table.data.steps == sum(range(20, 28))
        assert two.manifest.quantization["int8"].calibrated_steps == 24

    @pytest.mark.parametrize("command", ["evaluate", "kit"])
    def test_what_is_for_one_input_says_so(self, two: ModuleResult, tmp_path: Path, command: str) -> None:
        data = tmp_path / "labels.npz"
        arrays = dict(np.load(two.path.parent / "data.npz"))
        np.savez(data, **arrays, labels=np.zeros(8, np.int64))
        options = ["--data", data] if command == "evaluate" else ["-o", tmp_path / "kit.tar.gz"]
        result = run(command, two.path, *options)
        assert result.exit_code == 2 and "expected one input, and one output" in result.output

    def test_the_taps_graph(self, two: ModuleResult, tmp_path: Path) -> None:
        net, inputs = network("two encoders")
        result = export_module(net, inputs(20), tmp_path / "b", target="tensorrt11")
        assert any("taps graph, every prefix" in check.name for check in result.proof.checks)
        assert result.manifest.graph("taps", "fp32").banks


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
            (("ckpt.pth", "--module", "own_net_of_a_test:build", "--pool", "max"), "--pool"),
            (("ckpt.pth", "--module", "own_net_of_a_test:build", "--precision", "int8"), "real data"),
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
