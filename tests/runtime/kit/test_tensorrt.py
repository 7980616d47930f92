"""The kit on the stand-ins for the CUDA driver, its compiler and TensorRT: all but a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper
from multires_edge.runtime.kit.archive import make_kit
from tests.runtime.backends.device.fake_driver import ORIN, FakeCuda
from tests.runtime.backends.tensorrt.bundles import export
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install
from tests.runtime.kit.conftest import report_in, unpack

Check = Callable[..., int]
ON = ("--backend", "tensorrt")

pytestmark = pytest.mark.native


@pytest.fixture
def jetson(driver: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    """A device with JetPack 6, as far as the kit can tell."""
    trt = FakeTensorRt(driver, "10.3.0", aliases=False)
    install(monkeypatch, driver, trt)
    return trt


@pytest.mark.slow
def test_the_whole_kit(jetson: FakeTensorRt, kit: Path, check: Check, tmp_path: Path) -> None:
    """The engines that the runtime takes, by steps and chunks, the full graph, timing."""
    assert check(*ON, "--steps", "20", "--streams", "1,3") == 0
    report = report_in(tmp_path)
    assert any("taps engine, rows restarted" in made["name"] for made in report["checks"])
    assert any("against ONNX Runtime" in made["name"] for made in report["checks"]) and not report["notes"]
    assert not jetson.driver.alive, "memory that was not given back"
    assert {"gather_taps", "push_rows"} <= {kernel.rpartition("_")[0] for kernel in jetson.driver.launched}
    assert report["backend"] == {
        "name": "tensorrt", "gpu": str(ORIN), "compute_capability": "8.7", "tensorrt": "10.3.0"
    }  # fmt: skip
    taken = [(each["what"], each["sidecar"]["graph"]["precision"]) for each in report["engines"]]
    assert taken == [(what, p) for p in ("fp32", "fp16") for what in ("taps engine", "full engine")]
    taps = report["engines"][0]["sidecar"]
    assert taps["profile"] == {"batch": [1, 1, 3]}
    assert taps.items() <= json.loads((kit / "bundle/engines/taps.fp32.jetpack6.json").read_text()).items()

    assert jetson.builds == 6
    again = (*ON, "--streams", "1,3")
    assert check(*again) == 0 and jetson.builds == 6, "kept engines are taken"
    (kit / "bundle/engines/full.fp32.jetpack6.engine").write_bytes(b"half")
    assert check(*again) == 0 and jetson.builds == 7, "damaged ones are not"
    jetson.__version__ = "10.3.1"
    assert check(*again, "--precision", "fp32") == 0 and jetson.builds == 10, "nor those of another version"
    jetson.driver.have(replace(ORIN, memory_gib=7))
    assert check(*again, "--precision", "fp32") == 0 and jetson.builds == 13, "nor those of another device"
    assert check(*again, "--precision", "fp32", "--rebuild") == 0 and jetson.builds == 16


@pytest.mark.slow
def test_a_changed_graph_is_built_anew(
    jetson: FakeTensorRt, kit: Path, check: Check, tmp_path: Path, capsys: Any
) -> None:
    assert check(*ON, "--precision", "fp32") == 0
    path = kit / "bundle" / "taps.onnx"
    content = path.read_bytes()
    path.write_bytes(content + b"\x32\x01x")  # another doc_string
    assert check(*ON, "--precision", "fp32") == 1 and jetson.builds == 4
    assert "bundle/taps.onnx changed since" in capsys.readouterr().out
    path.write_bytes(content)
    assert check(*ON, "--precision", "fp32") == 0 and jetson.builds == 5


@pytest.mark.slow
def test_queues_that_are_updated_in_place(
    driver: FakeCuda, monkeypatch: pytest.MonkeyPatch, check: Check, tmp_path: Path
) -> None:
    install(monkeypatch, driver, FakeTensorRt(driver, "11.4.1"))
    folder = unpack(make_kit(export(tmp_path)), tmp_path / "here")
    assert check(*ON, folder=folder) == 0
    assert report_in(tmp_path)["engines"][0]["what"] == "step engine, queues in place"


@pytest.mark.slow
def test_states_that_are_swapped_one_step_late_are_found(
    jetson: FakeTensorRt, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = TensorRtStepper.step

    def stuck(self: TensorRtStepper) -> int:
        outcome = step(self)
        self._turn = 0
        return outcome

    monkeypatch.setattr(TensorRtStepper, "step", stuck)
    assert check(*ON, "--precision", "fp32") == 1
    failed = {made["tensor"] for made in report_in(tmp_path)["checks"] if not made["passed"]}
    assert {"logits", "position", "pool_sum"} <= failed


@pytest.mark.slow
def test_our_own_kernel(our_kernel: FakeCuda, check: Check, tmp_path: Path) -> None:
    assert check("--backend", "cuda", "--steps", "20", "--streams", "1,70") == 0
    report = report_in(tmp_path)
    for name in (
        "fp32 kernel on the GPU, one whole stream, in chunks, every step",
        "fp16 full graph, 2 rows",
    ):
        assert any(made["name"].startswith(name) for made in report["checks"]), name
    assert report["backend"] == {"name": "cuda", "gpu": str(ORIN), "compute_capability": "8.7"}
    timed = {(each["graph"], each["streams"]) for each in report["timing"]}
    assert timed == {("step", 1), ("step", 70), ("full", 1)}
    assert not our_kernel.alive and set(our_kernel.launched) == {"multires_step"}


@pytest.mark.parametrize("backend", ["tensorrt", "cuda"])
@pytest.mark.parametrize("there", [True, False])
def test_no_device(
    there: bool, backend: str, monkeypatch: pytest.MonkeyPatch, check: Check, capsys: Any
) -> None:
    install(monkeypatch, FakeCuda("cuInit", 999) if there else None)
    assert check("--backend", backend) == 2
    error = capsys.readouterr().err
    assert ("CUDA_ERROR_UNKNOWN (999)" if there else "no CUDA driver was found") in error
    assert error.count("\n") == 1


def test_no_tensorrt(driver: FakeCuda, monkeypatch: pytest.MonkeyPatch, check: Check, capsys: Any) -> None:
    install(monkeypatch, driver)
    assert check(*ON) == 2
    assert "python3-libnvinfer" in capsys.readouterr().err
