"""The kit's script with ONNX Runtime standing in: what it passes, what it finds, and what it refuses."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from multires_edge.base.errors import BundleError, ConfigError
from multires_edge.format.comparison import Limit
from multires_edge.format.fields import digest_of
from multires_edge.runtime.backends.cuda.stepper import CudaStepper
from multires_edge.runtime.backends.native import NativeBackend
from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeStepper
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper
from multires_edge.runtime.bundle import open_bundle
from multires_edge.runtime.kit.archive import make_kit
from multires_edge.runtime.kit.cases import assemble
from multires_edge.runtime.kit.checks import compare
from multires_edge.runtime.kit.machine import machine
from tests.conftest import SMALL, random_inputs, random_net, save_published, variant
from tests.hostile import check_hostile
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.kit.conftest import unpack

Check = Callable[..., int]
# As on a device: this package is the kit's own, without its compiled part, and there is neither torch nor
# anything else that the kit does not name.
_ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {absent!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
import runpy
sys.argv = ["check_device.py", *{arguments!r}]
sys.path[:] = [".", *sys.path[1:], {packages!r}]
runpy.run_path("check_device.py", run_name="__main__")
"""


_NATIVE = "multires_edge.runtime.backends._native"


def alone(kit: Path, *arguments: str, absent: Sequence[str] = (_NATIVE,)) -> list[str]:
    """A command line that runs the script as on a device."""
    blocked = ["torch", "onnx", "click", "tensorrt", *absent]
    packages = sysconfig.get_path("purelib")
    # Without site there is no hook of an editable installation.
    return [sys.executable, "-S", "-c", _ALONE.format(absent=blocked, arguments=arguments, packages=packages)]


@pytest.mark.slow
def test_generated_hostile_descriptions(kit: Path, check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    """Right digests: each is refused in one line, or its checks are made."""
    file = kit / "kit.json"

    def use(entry: Any) -> None:
        file.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
        code = check("--precision", "fp32", folder=kit)
        error = capsys.readouterr().err
        if code == 2:
            assert re.match(r"error: \w+(Error|Exception): ", error) is None, error
            raise BundleError(error.removesuffix("\n"))
        assert code in (0, 1) and not error

    taken, refused = check_hostile([json.loads(file.read_text())], use)
    assert refused > taken


class TestPasses:
    @pytest.mark.slow
    def test_where_nothing_else_is_installed(self, kit: Path) -> None:
        command = alone(
            kit, "--backend", "onnxruntime", "--streams", "1,3", "--steps", "20", "--name", "bench"
        )
        done = subprocess.run(command, cwd=kit, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads((kit / "device_report.json").read_text())
        assert report["passed"] and report["name"] == "bench" and report["target"] == "jetpack6"
        assert {check["tensor"] for check in report["checks"]} >= {
            "logits",
            "position",
            "queue_02",
            "pool_sum",
        }
        assert {timing["streams"] for timing in report["timing"]} == {1, 3}
        assert all(
            0 < timing["p50_us"] <= timing["p99_us"] <= timing["max_us"] for timing in report["timing"]
        )

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("changes", "options"),
        [
            ({}, {"pool": "window:7"}),
            ({"encoder": "token"}, {}),
            ({"task": "autoregressive"}, {}),
            ({"pooling": "none", "encoder_kernel_size": 3}, {"pool": "none"}),
            ({"pooling": "mean+max+last"}, {"pool": "mean+max+last"}),
            (
                {"kernel_size": 4, "tree_select": "uniform", "memory_size": 9, "norm": "batch"},
                {"target": "cpu"},
            ),
        ],
        ids=["window", "tokens", "autoregressive", "per step", "poolings", "uniform, in place"],
    )
    def test_every_kind_of_network(
        self, changes: dict[str, Any], options: dict[str, Any], check: Check, tmp_path: Path
    ) -> None:
        from multires_edge.export import export_bundle

        checkpoint = save_published(random_net(variant(**changes)), tmp_path)
        bundle = export_bundle(checkpoint, tmp_path / "a.bundle", **({"target": "portable"} | options)).path
        folder = unpack(make_kit(open_bundle(bundle)), tmp_path / "here")
        assert check(folder=folder) == 0

    @pytest.mark.slow
    def test_a_window_that_int8_has_no_reference_for(self, check: Check, tmp_path: Path, capsys: Any) -> None:
        from multires_edge.export import Int8Options, export_bundle

        checkpoint = save_published(random_net(SMALL), tmp_path)
        records = tmp_path / "records.npz"
        np.savez(records, x=random_inputs(SMALL, 24, 40))
        bundle = export_bundle(
            checkpoint, tmp_path / "a.bundle", target="portable", pool="window:7",
            precisions=("int8",), int8=Int8Options(data=records),
        ).path  # fmt: skip
        folder = unpack(make_kit(open_bundle(bundle)), tmp_path / "here")
        assert check("--precision", "int8", "--steps", "1", folder=folder) == 0
        assert "int8 full graph: skipped" in capsys.readouterr().out

    def test_steps_are_also_timed_at_the_rate_of_the_network(
        self, check: Check, two_leads: Path, tmp_path: Path
    ) -> None:
        folder = unpack(make_kit(open_bundle(two_leads)), tmp_path / "here")
        assert check("--steps", "10", folder=folder) == 0
        timing = json.loads((tmp_path / "device_report.json").read_text())["timing"]
        assert [each["how"] for each in timing[:2]] == ["without a pause", "at 100 Hz"]


@pytest.mark.slow
def test_the_native_engine_of_a_wheel(for_jetson: Path, tmp_path: Path) -> None:
    engine = Path(str(import_module(_NATIVE).__file__))
    wheel = tmp_path / "multires_edge-1-cp311-cp311-linux_aarch64.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.write(engine, f"multires_edge/runtime/backends/{engine.name}")
    kit = unpack(make_kit(open_bundle(for_jetson), wheel=wheel), tmp_path / "here")
    command = alone(kit, "--backend", "native", "--steps", "20", "--streams", "3", absent=["onnxruntime"])
    done = subprocess.run(command, cwd=kit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fp16 native engine, one whole stream, in chunks, every step: logits" in done.stdout
    report = json.loads((kit / "device_report.json").read_text())
    assert report["backend"] == {"name": "native"} and report["timing"]


@pytest.mark.parametrize("content", [b"", b"no zip"])
def test_a_wheel_without_an_engine(content: bytes, for_jetson: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    if content:
        wheel.write_bytes(content)
    else:
        zipfile.ZipFile(wheel, "w").close()
    with pytest.raises(ConfigError, match=r"a\.whl: (has no native engine|is not a wheel)"):
        make_kit(open_bundle(for_jetson), wheel=wheel)


def test_a_kit_without_the_native_engine(check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(NativeBackend, "missing", lambda self: "it was not built")
    assert check("--backend", "native") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no native engine" in error and "kit --wheel FILE" in error


class TestFinds:
    @pytest.mark.parametrize(
        ("backend", "kind", "what"),
        [
            ("onnxruntime", "step", "step graph"),
            ("onnxruntime", "full", "full graph"),
            ("taps", "taps", "taps graph"),
            ("in-place", "step", "step graph in place"),
        ],
    )
    def test_a_changed_weight(
        self, backend: str, kind: str, what: str, kit: Path, check: Check, capsys: Any
    ) -> None:
        path = kit / "bundle" / f"{kind}.onnx"
        model = onnx.load(path)
        tensor = next(t for t in model.graph.initializer if "layers.1" in t.name and len(t.dims) > 1)
        weight = numpy_helper.to_array(tensor).copy()
        weight.flat[0] += 0.05
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
        onnx.save(model, path)
        self.is_named(path, what, check("--precision", "fp32", "--backend", backend), capsys)

    def is_named(self, path: Path, what: str, code: int, capsys: Any) -> None:
        output = capsys.readouterr().out
        assert code == 1 and f"/{path.name} changed since the kit was made" in output
        assert f"fp32 {what}" in output and "logits is off at step " in output and ", row " in output

    @pytest.mark.native
    def test_a_changed_weight_of_the_kernel(
        self, kit: Path, check: Check, capsys: Any, our_kernel: FakeCuda
    ) -> None:
        path = kit / "bundle" / "native" / "weights.safetensors"
        content = bytearray(path.read_bytes())
        size = int.from_bytes(content[:8], "little")
        entries = json.loads(content[8 : 8 + size])
        first = next(entries[name]["data_offsets"][0] for name in entries if "layers.1" in name)
        np.frombuffer(content, np.float32, 1, 8 + size + first)[...] += 1
        path.write_bytes(content)
        code = check("--precision", "fp32", "--backend", "cuda")
        self.is_named(path, "kernel on the GPU", code, capsys)

    @pytest.mark.native
    @pytest.mark.parametrize("name", ["position", "queue_00", "queue_02", "pool_sum"])
    def test_a_state_that_the_kernel_does_not_keep(
        self, name: str, check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any, our_kernel: FakeCuda
    ) -> None:
        step = CudaStepper.step

        def forgets(self: CudaStepper) -> int:
            self._device.zero(self._states[name], self._size(name))
            return step(self)

        monkeypatch.setattr(CudaStepper, "step", forgets)
        assert check("--precision", "fp32", "--backend", "cuda") == 1
        lines = capsys.readouterr().out.splitlines()
        failed = next(line for line in lines if "state at the end" in line and "is off at" in line)
        assert f"first 2 steps, state at the end: {name} is off at step 1, row " in failed

    @pytest.mark.parametrize("name", ["position", "queue_00", "queue_01", "queue_02", "pool_sum"])
    def test_a_state_that_is_not_fed_back(
        self, name: str, check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
    ) -> None:
        feed = OnnxRuntimeStepper._feed

        def forgets(self: OnnxRuntimeStepper) -> None:
            (state,) = (state for state in self._states if state.spec.input == name)
            state.buffer(self._turn).write(0)
            feed(self)

        monkeypatch.setattr(OnnxRuntimeStepper, "_feed", forgets)
        assert check("--precision", "fp32") == 1
        report = json.loads((tmp_path / "device_report.json").read_text())
        failed = [made for made in report["checks"] if not made["passed"] and "state" in made["name"]]
        assert failed[0]["tensor"] == name and "first 2 steps" in failed[0]["name"]
        assert failed[0]["at"]["step"] == 1
        assert f"{name} is off at step 1, row " in capsys.readouterr().out

    @pytest.mark.parametrize("backend", ["taps", "in-place"])
    @pytest.mark.parametrize("name", ["position", "queue_00", "queue_02", "pool_sum"])
    def test_a_state_that_an_engine_does_not_feed_back(
        self, name: str, backend: str, check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        step = TensorRtStepper.step

        def forgets(self: TensorRtStepper) -> int:
            state = self._states[name]
            self._device.zero(state.addresses[self._turn], self._batch * state.spec.row_bytes)
            return step(self)

        monkeypatch.setattr(TensorRtStepper, "step", forgets)
        assert check("--precision", "fp32", "--backend", backend) == 1
        lines = capsys.readouterr().out.splitlines()
        failed = next(line for line in lines if "state at the end" in line and "is off at" in line)
        assert f"first 2 steps, state at the end: {name} is off at step 1, row " in failed

    def test_a_row_that_is_not_restarted(
        self, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        reset = OnnxRuntimeStepper.reset

        def only_all(self: OnnxRuntimeStepper, rows: Sequence[int]) -> None:
            if len(rows) == len(self.input):
                reset(self, rows)

        monkeypatch.setattr(OnnxRuntimeStepper, "reset", only_all)
        assert check("--precision", "fp32") == 1
        report = json.loads((tmp_path / "device_report.json").read_text())
        first = next(made for made in report["checks"] if not made["passed"])
        restarted = int(first["name"].split("steps ")[1].split()[0])
        assert first["at"]["row"] == 1 and first["at"]["step"] >= restarted

    def test_nan(self, check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
        feed = OnnxRuntimeStepper._feed

        def spoils(self: OnnxRuntimeStepper) -> None:
            feed(self)
            self.output[1:] = np.nan

        monkeypatch.setattr(OnnxRuntimeStepper, "_feed", spoils)
        assert check() == 1
        assert "first 2 steps: logits is not finite: rows [1]" in capsys.readouterr().out
        checks = json.loads((tmp_path / "device_report.json").read_text())["checks"]
        assert next(made for made in checks if not made["passed"])["error"] is None


class TestRefuses:
    @pytest.mark.parametrize(
        "name",
        [
            "bundle/golden.npz",
            "bundle/manifest.json",
            "states.npz",
            "bundle/full.onnx",
            "kit.json",
            "multires_edge/format/golden.py",
        ],
    )
    def test_a_truncated_file(self, name: str, kit: Path, check: Check, capsys: Any) -> None:
        path = kit / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert check() == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and name in error and "unpack" in error

    @pytest.mark.parametrize("name", ["checks.py", "opened.py"])
    def test_its_own_parts(self, name: str, kit: Path) -> None:
        part = kit / "multires_edge" / "runtime" / "kit" / name
        part.unlink() if name == "checks.py" else part.write_text(part.read_text()[:-1500] + "\n(")
        done = subprocess.run(
            alone(kit, "--backend", "onnxruntime"), cwd=kit, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and "unpack the kit again" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1 and name.removesuffix(".py") in done.stderr

    @pytest.mark.parametrize("name", ["", ".", "/", "bundle"])
    def test_a_report_that_is_a_folder(self, name: str, kit: Path, check: Check, capsys: Any) -> None:
        assert check("--report", str(kit / name) if name.isalpha() else name) == 2
        output = capsys.readouterr()
        assert "is not a file" in output.err and "✓" not in output.out

    @pytest.mark.slow
    def test_an_output_that_is_closed(self, kit: Path) -> None:
        command = alone(kit, "--backend", "onnxruntime", "--steps", "1000000")
        with subprocess.Popen(
            command, cwd=kit, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            error = process.stderr.read()
        assert process.returncode == 2 and error.count("\n") == 1 and "pipe was closed" in error

    @pytest.mark.parametrize("streams", ["0", "a", ",", "1,-2"])
    def test_streams_that_are_no_counts(self, streams: str, check: Check, capsys: Any) -> None:
        with pytest.raises(SystemExit, match="2"):
            check(f"--streams={streams}")
        assert "expected positive numbers" in capsys.readouterr().err

    def test_a_graph_that_loads_and_does_not_run(self, kit: Path, check: Check, capsys: Any) -> None:
        path = kit / "bundle" / "step.onnx"
        model = onnx.load(path)
        tensor = next(t for t in model.graph.initializer if t.name == "rings/slots")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))
        onnx.save(model, path)
        assert check("--precision", "fp32") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "step.onnx was changed: unpack the kit again" in error

    def test_a_missing_file(self, kit: Path, check: Check, capsys: Any) -> None:
        (kit / "states.npz").unlink()
        assert check() == 2
        assert "states.npz: cannot be read" in capsys.readouterr().err

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("arguments", "absent", "words"),
        [
            ((), (), ("no CUDA driver was found",)),
            (("--backend", "onnxruntime"), ("onnxruntime",), ("-m venv", "pip install onnxruntime")),
            (("--backend", "onnxruntime"), ("numpy",), ("numpy is not installed", "python3-numpy")),
        ],
    )
    def test_a_missing_package(
        self, arguments: tuple[str, ...], absent: tuple[str, ...], words: tuple[str, ...], kit: Path
    ) -> None:
        command = alone(kit, *arguments, absent=(_NATIVE, *absent))
        done = subprocess.run(command, cwd=kit, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1 and all(word in done.stderr for word in words)
        assert not (kit / "device_report.json").exists()

    def test_a_provider_or_precision_that_is_not_there(self, check: Check, capsys: Any) -> None:
        assert check("--provider", "TensorrtExecutionProvider") == 2
        assert "has only" in capsys.readouterr().err
        assert check("--precision", "int8") == 2
        assert "it has: fp32, fp16" in capsys.readouterr().err

    def test_options_of_a_provider(self, check: Check, capsys: Any, tmp_path: Path) -> None:
        assert check("--provider-option", "one=1", "--provider-option", "two=2", "--precision", "fp32") == 0
        report = json.loads((tmp_path / "device_report.json").read_text())
        assert report["backend"]["provider_options"] == "one=1, two=2"
        with pytest.raises(SystemExit, match="2"):
            check("--provider-option", "one")
        assert "'one', expected KEY=VALUE" in capsys.readouterr().err

    @pytest.mark.slow
    def test_a_full_disk_leaves_nothing(self, kit: Path) -> None:
        def small_files_only() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        command = alone(kit, "--backend", "onnxruntime", "--steps", "0", "--precision", "fp32")
        done = subprocess.run(
            command, cwd=kit, capture_output=True, text=True, check=False, preexec_fn=small_files_only
        )
        assert done.returncode == 2 and "device_report.json: cannot be written" in done.stderr
        assert not list(kit.glob("*device_report*"))

    @pytest.mark.slow
    def test_a_killed_run_leaves_no_report(self, kit: Path) -> None:
        command = alone(kit, "--backend", "onnxruntime", "--steps", "1000000")
        with subprocess.Popen(command, cwd=kit, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert any("[✓]" in printed for printed in iter(process.stdout.readline, ""))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not list(kit.glob("*device_report*"))


class TestParts:
    def test_assemble(self) -> None:
        recorded = np.arange(20).reshape(2, 1, 10)
        streams = assemble(recorded, [[[0, 1]], [[0, 0], [2, 1], [5, 0]]], 6)
        assert streams[:, 0].tolist() == [[10, 11, 12, 13, 14, 15], [0, 1, 10, 11, 12, 0]]

    def test_the_first_step_that_is_off_is_named(self) -> None:
        reference = np.ones((2, 3, 50))
        y = reference.copy()
        y[1, 2, 30] += 0.5
        y[0, 1, 17] += 0.1
        found = compare("a", "y", y, reference, Limit(1e-3, "max"), over_time=True)
        assert not found.passed and found.error == pytest.approx(0.5)
        assert found.at is not None and (found.at.step, found.at.row, found.at.index) == (17, 0, (1,))

    def test_a_mean_is_that_of_the_worst_row(self) -> None:
        reference = np.ones((10, 100))
        y = reference.copy()
        y[3, 7] += 30
        found = compare("a", "y", y, reference, Limit(0.1, "mean"))
        assert not found.passed and found.error == pytest.approx(0.3)
        assert found.at is not None and (found.at.row, found.at.index) == (3, (7,))

    def test_a_sum_is_held_on_its_scale(self) -> None:
        reference, limit = np.zeros((1, 1)), Limit(1e-5, "max")
        y = reference + 1e-3
        assert compare("a", "y", y, reference, limit, floor=1000).passed
        assert not compare("a", "y", y, reference, limit).passed

    def test_the_machine_as_found(self, tmp_path: Path) -> None:
        gpu = tmp_path / "sys/class/devfreq/17000000.gpu"
        gpu.mkdir(parents=True)
        for name, value in (("min_freq", 918), ("cur_freq", 918), ("max_freq", 918)):
            (gpu / name).write_text(f"{value}\n")
        model = tmp_path / "proc/device-tree/model"
        model.parent.mkdir(parents=True)
        model.write_bytes(b"NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0")
        found = machine(tmp_path)
        assert (found.model or "").endswith("Developer Kit")
        assert (found.gpu_clocks or {})["17000000.gpu"].locked
        assert {"l4t_release", "cpu_clocks", "temperatures"} <= set(found.absent)
