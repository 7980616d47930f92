"""The kit's script with ONNX Runtime standing in: what it passes, what it finds, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from multires_edge.base.errors import BundleError, ConfigError
from multires_edge.format.fields import digest_of
from multires_edge.runtime.backends._native_library import library_path
from multires_edge.runtime.backends.cuda.stepper import CudaStepper
from multires_edge.runtime.backends.native import NativeBackend
from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeStepper
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper
from multires_edge.runtime.bundle import open_bundle
from multires_edge.runtime.engine_builder.kernels import build_kernels
from multires_edge.runtime.kit.archive import make_kit
from tests.conftest import SMALL, random_inputs, random_net, save_published, variant
from tests.hostile import check_hostile
from tests.runtime.backends.device.fake_driver import FakeCuda, install_compiler, on_driver
from tests.runtime.kit.conftest import NATIVE, report_in, run_alone, unpack

Check = Callable[..., int]


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
        options = ("--backend", "onnxruntime", "--streams", "1,3", "--steps", "20", "--name", "bench")
        done = run_alone(kit, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        report = report_in(kit)
        assert report["passed"] and report["name"] == "bench" and report["target"] == "jetpack6"
        compared = {check["tensor"] for check in report["checks"]}
        assert compared >= {"logits", "position", "queue_02", "pool_sum"}
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
        timing = report_in(tmp_path)["timing"]
        assert [each["how"] for each in timing[:2]] == ["without a pause", "at 100 Hz"]


@pytest.mark.slow
def test_the_native_engine_of_a_wheel(for_jetson: Path, tmp_path: Path) -> None:
    engine = library_path()
    assert engine is not None
    wheel = tmp_path / "multires_edge-1-py3-none-linux_aarch64.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.write(engine, f"multires_edge/runtime/backends/{engine.name}")
    kit = unpack(make_kit(open_bundle(for_jetson), wheel=wheel), tmp_path / "here")
    done = run_alone(kit, "--backend", "native", "--steps", "20", "--streams", "3", absent=["onnxruntime"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fp16 native engine, one whole stream, in chunks, every step: logits" in done.stdout
    report = report_in(kit)
    assert report["backend"] == {"name": "native"} and report["timing"]


@pytest.mark.slow
@pytest.mark.native
def test_our_kernel_without_the_engine(for_jetson: Path, tmp_path: Path) -> None:
    """By numpy and the driver alone: the kernels and their plans come with the bundle."""
    bundle = open_bundle(shutil.copytree(for_jetson, tmp_path / "small.bundle"))
    with pytest.MonkeyPatch.context() as patch:
        install_compiler(patch, tmp_path)
        build_kernels(bundle, ["fp16"])
    kit = unpack(make_kit(bundle), tmp_path / "here")
    options = ("--backend", "cuda", "--steps", "20", "--streams", "3", "--precision", "fp16")
    done = run_alone(kit, *options, absent=(NATIVE, "onnxruntime"), env=on_driver(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fp16 kernel on the GPU, one whole stream, in chunks, every step: logits" in done.stdout
    report = report_in(kit)
    assert report["backend"]["name"] == "cuda" and report["timing"]


@pytest.mark.parametrize(
    ("members", "why"),
    [
        (None, "is not a wheel"),
        ({}, "has no native engine"),
        (
            {"multires_edge/runtime/backends/_engine.so": b"\x7fELF"},
            "its native engine is of another release",
        ),
    ],
)
def test_a_wheel_that_it_refuses(
    members: dict[str, bytes] | None, why: str, for_jetson: Path, tmp_path: Path
) -> None:
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"no zip")
    if members is not None:
        with zipfile.ZipFile(wheel, "w") as packed:
            for name, content in members.items():
                packed.writestr(name, content)
    with pytest.raises(ConfigError, match=rf"a\.whl: {why}"):
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
    @pytest.mark.parametrize(
        ("backend", "stepper"),
        [
            ("onnxruntime", OnnxRuntimeStepper),
            ("taps", TensorRtStepper),
            ("in-place", TensorRtStepper),
            ("cuda", CudaStepper),
        ],
    )
    @pytest.mark.parametrize("name", ["position", "queue_00", "queue_01", "queue_02", "pool_sum"])
    def test_a_state_that_is_not_fed_back(
        self, name: str, backend: str, stepper: Any, check: Check, monkeypatch: pytest.MonkeyPatch,
        capsys: Any, our_kernel: FakeCuda,
    ) -> None:  # fmt: skip
        step = stepper.step

        def forgets(self: Any) -> int:
            state = self.read_state()
            state[name][...] = 0
            self.write_state(state)
            outcome: int = step(self)
            return outcome

        monkeypatch.setattr(stepper, "step", forgets)
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
        report = report_in(tmp_path)
        first = next(made for made in report["checks"] if not made["passed"])
        restarted = int(first["name"].split("steps ")[1].split()[0])
        assert first["at"]["row"] == 1 and first["at"]["step"] >= restarted

    def test_nan(self, check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
        feed = OnnxRuntimeStepper.feed

        def spoils(self: OnnxRuntimeStepper) -> None:
            feed(self)
            self.output[1:] = np.nan

        monkeypatch.setattr(OnnxRuntimeStepper, "feed", spoils)
        assert check() == 1
        assert "first 2 steps: logits is not finite: rows [1]" in capsys.readouterr().out
        checks = report_in(tmp_path)["checks"]
        assert next(made for made in checks if not made["passed"])["error"] is None
