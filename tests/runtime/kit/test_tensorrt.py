"""The kit's TensorRT runner, on a stand-in for the library and for CUDA: all but the arithmetic on a GPU."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from multires_edge.runtime.backends.tensorrt.api import log_of
from multires_edge.runtime.bundle import open_bundle
from multires_edge.runtime.kit.archive import make_kit
from multires_edge.runtime.kit.device import tensorrt
from multires_edge.runtime.kit.device.cuda import Cuda
from multires_edge.runtime.kit.device.engines import build, profile_of
from multires_edge.runtime.kit.device.files import KitError
from multires_edge.runtime.kit.device.kit import Graph, Kit
from tests.runtime.kit.conftest import unpack
from tests.runtime.kit.fake_tensorrt import make_module

Check = Callable[..., int]


@pytest.fixture(scope="session")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CUDA runtime's functions on host memory, compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("cudart") / "libcudart.so.12"
    source = Path(__file__).with_name("fake_cudart.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


@pytest.fixture
def jetson(cudart: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A device with TensorRT and CUDA, as far as the kit can tell; the module."""
    module = make_module(cudart)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(Cuda, "_LIBRARIES", (str(cudart),))
    monkeypatch.setattr(Cuda, "_FOLDERS", ("",))
    return module


def test_the_whole_kit(jetson: Any, cudart: Path, kit: Path, check: Check, tmp_path: Path) -> None:
    """Engines, ping-pong, restarted rows, CUDA graphs, the full graph, timing."""
    library = ctypes.CDLL(str(cudart))
    launches = library.fake_launches()
    engines = str(tmp_path / "engines")
    assert check("--backend", "tensorrt", "--engines", engines, "--steps", "20", "--streams", "1,3") == 0
    report = json.loads((tmp_path / "device_report.json").read_text())
    assert {timing["how"] for timing in report["timing"]} == {"enqueued", "CUDA graph"}
    assert any("by CUDA graph" in made["name"] for made in report["checks"])
    assert library.fake_launches() > launches + 150
    assert library.fake_live() == 0, "memory that was not given back"
    assert report["backend"]["compute_capability"] == "8.7" and report["backend"]["cuda_runtime"] == "12.6"
    sidecars = report["backend"]["engines"]
    assert {entry["graph"] for entry in sidecars} == {path.name for path in (kit / "graphs").iterdir()}
    step = next(entry for entry in sidecars if entry["graph"] == "step.onnx")
    assert step["profile"]["queue_02"] == [[n, 1, 5, 16] for n in (1, 1, 3)]
    assert step == json.loads((tmp_path / "engines" / "step.json").read_text())

    assert jetson.builds == 4
    again = ("--backend", "tensorrt", "--engines", engines, "--streams", "1,3")
    assert check(*again) == 0 and jetson.builds == 4, "kept engines are taken"
    (tmp_path / "engines" / "full.engine").write_bytes(b"half")
    assert check(*again) == 0 and jetson.builds == 5, "damaged ones are not"
    jetson.__version__ = "10.4.0"
    assert check(*again, "--precision", "fp32") == 0 and jetson.builds == 7, "nor those of another version"


def test_states_that_must_be_updated_in_place(
    jetson: Any, exported: Path, check: Check, tmp_path: Path
) -> None:
    """Graphs with TensorScatter: one address for both sides of a queue, two for everything else."""
    folder = unpack(make_kit(open_bundle(exported)), tmp_path / "here")
    assert check("--backend", "tensorrt", "--engines", str(tmp_path / "engines"), folder=folder) == 0


def test_one_buffer_for_all_states_is_what_tensorrt_does_not_take(
    jetson: Any, check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    """The stand-in is no easier than TensorRT."""
    monkeypatch.setattr(tensorrt, "_aliased", lambda engine, output: True)
    assert check("--backend", "tensorrt", "--engines", str(tmp_path / "engines")) == 2
    assert "could not run a step" in capsys.readouterr().err


def test_states_that_are_swapped_one_step_late_are_found(
    jetson: Any, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = tensorrt.TensorRTStep.step

    def stuck(self: tensorrt.TensorRTStep, x: Any) -> Any:
        y = step(self, x)
        self._turn = 0
        return y

    monkeypatch.setattr(tensorrt.TensorRTStep, "step", stuck)
    assert check("--backend", "tensorrt", "--engines", str(tmp_path / "engines"), "--precision", "fp32") == 1
    report = json.loads((tmp_path / "device_report.json").read_text())
    failed = {made["tensor"] for made in report["checks"] if not made["passed"]}
    assert {"logits", "position", "queue_00", "queue_02"} <= failed


def test_no_device(jetson: Any, cudart: Path, check: Check, capsys: Any) -> None:
    library = ctypes.CDLL(str(cudart))
    library.fake_devices(0)
    try:
        assert check("--backend", "tensorrt") == 2
    finally:
        library.fake_devices(1)
    assert "no CUDA-capable device is detected" in capsys.readouterr().err


def test_no_cuda_library(jetson: Any, check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(Cuda, "_LIBRARIES", ("libcudart-that-is-not-there.so",))
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert check("--backend", "tensorrt") == 2
    assert "libcudart was not found" in capsys.readouterr().err


def test_a_full_disk_leaves_no_engine(
    jetson: Any, check: Check, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    import os

    engines, fsync = tmp_path / "engines", os.fsync

    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert check("--backend", "tensorrt", "--engines", str(engines)) == 2
    assert "step.engine: cannot be written (No space left on device)" in capsys.readouterr().err
    assert not list(engines.iterdir())


def test_the_real_library_without_a_device() -> None:
    """The functions are there under these names, and say what is missing."""
    libraries = sorted(Path("/usr/local").glob("cuda*/lib*/libcudart.so*"))
    if not libraries:
        pytest.skip("no CUDA runtime library here")
    try:
        cuda = Cuda(str(libraries[0]))
    except KitError as error:
        assert "cudaGetDeviceCount failed: " in str(error)
        return
    pinned = cuda.pinned((3,), np.float32)
    pinned[...] = 7
    address = cuda.allocate(pinned.nbytes)
    cuda.copy(pinned.ctypes.data, address, pinned.nbytes, cuda.TO_HOST)
    cuda.synchronize()
    assert not pinned.any()


@pytest.mark.parametrize("name", ["step", "full"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_rtx_builds_the_graphs(
    name: str, precision: str, kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder's calls are those of TensorRT; it needs no GPU. Its engines do not run on a Jetson."""
    trt: Any = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra, for x86-64")
    # A process has one logger, and other tests read this one.
    monkeypatch.setattr(trt, "Logger", Mock(return_value=log_of("tensorrt_rtx").logger))
    graph = Graph(Kit(kit), name, precision)
    least, best = {"batch": 1, "time": 1}, {"batch": 1, "time": 9}
    profile = profile_of(graph, least, best, {"batch": 3, "time": 64})

    def for_ampere(config: Any) -> None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        assert not config.get_flag(trt.BuilderFlag.TF32)

    assert len(build(trt, graph, profile, for_ampere)) > 1000
    graph.path.write_bytes(b"no graph")
    with pytest.raises(KitError, match="cannot parse it"):
        build(trt, graph, profile, for_ampere)
