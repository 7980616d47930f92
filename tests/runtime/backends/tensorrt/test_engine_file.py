"""Reading an engine back: every way in which it is not for this bundle or this machine is said in words."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from multires_edge.base.errors import BackendError, BundleError, InputError
from multires_edge.format.fields import digest_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.engine_file import (
    EngineFile,
    check_engine,
    engine_path,
    engines_of,
)
from multires_edge.runtime.backends.tensorrt.sidecar import (
    SIDECAR,
    GraphBytes,
    TensorRtRelease,
    sidecar_path,
)
from tests.hostile import check_hostile
from tests.hostile import put as put_value
from tests.runtime.backends.device.fake_driver import ORIN
from tests.runtime.backends.tensorrt.bundles import sidecar_of

RTX = Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24)


def put(bundle: Path, target: str = "jetpack7", **changes: Any) -> Path:
    """An engine as a build leaves it; its content does not matter here."""
    graph = open_bundle(bundle).manifest.graph("step", "fp32")
    path = engine_path(bundle, "step", "fp32", target)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"engine of " + target.encode())
    sidecar = sidecar_of(path.name, path.read_bytes(), graph, {"queue_00": "next_queue_00"})
    sidecar_path(path).write_bytes(SIDECAR.to_bytes(replace(sidecar, **changes)))
    return path


def put_rtx(bundle: Path) -> Path:
    return put(
        bundle,
        "rtx",
        tensorrt=TensorRtRelease("tensorrt_rtx", "1.7.1.116"),
        device=None,
        compute_capabilities=("8.6", "8.9"),
    )


@pytest.fixture(autouse=True)
def release(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The release of TensorRT that is installed."""
    release = SimpleNamespace(__version__="10.16.1")
    monkeypatch.setitem(sys.modules, "tensorrt", release)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__version__="1.7.1.116"))
    return release


def read(bundle: Path, target: str = "jetpack7", gpu: Gpu = ORIN) -> EngineFile:
    return check_engine(engine_path(bundle, "step", "fp32", target), open_bundle(bundle).manifest, gpu)


def read_rtx(bundle: Path, gpu: Gpu = RTX) -> EngineFile:
    return read(bundle, "rtx", gpu)


class TestWhatFits:
    def test_an_engine_of_this_device(self, bundle: Path) -> None:
        path = put(bundle)
        engine = read(bundle)
        assert engine.path == path and engine.api.version == (10, 16, 1) and engine.kind == "step"
        assert engine.sidecar.in_place == {"queue_00": "next_queue_00"}

    def test_an_engine_for_several_devices(self, bundle: Path) -> None:
        path = put_rtx(bundle)
        assert read_rtx(bundle).path == path
        assert engines_of(bundle) == [path]
        assert open_bundle(bundle).manifest.files


class TestRefusals:
    def test_nothing_built(self, bundle: Path) -> None:
        with pytest.raises(BackendError, match="has not been built; multires-edge build"):
            read(bundle)

    def test_a_build_that_was_killed(self, bundle: Path) -> None:
        sidecar_path(put(bundle)).unlink()
        assert engines_of(bundle) == []
        with pytest.raises(BackendError, match="its sidecar is missing"):
            read(bundle)

    @pytest.mark.parametrize("content", [b"", b"engine of jetpa", b"another of jetpack7"])
    def test_a_truncated_or_changed_engine(self, content: bytes, bundle: Path) -> None:
        put(bundle).write_bytes(content)
        words = rf"truncated or changed \({len(content)} of 18 bytes.* --force"
        with pytest.raises(BundleError, match=words):
            read(bundle)

    def test_engine_gone(self, bundle: Path) -> None:
        put(bundle).unlink()
        with pytest.raises(BundleError, match="cannot be read"):
            read(bundle)

    def test_truncated_sidecar(self, bundle: Path) -> None:
        path = sidecar_path(put(bundle))
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(BundleError, match=r"\.json: cannot be read"):
            read(bundle)

    def test_changed_sidecar(self, bundle: Path) -> None:
        path = sidecar_path(put(bundle))
        path.write_text(path.read_text().replace('"8.7"', '"8.9"'))
        with pytest.raises(BundleError, match="changed since it was written"):
            read(bundle)

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "something"}', "7"])
    def test_no_sidecar_at_all(self, bundle: Path, content: str) -> None:
        sidecar_path(put(bundle)).write_text(content)
        with pytest.raises(BundleError, match=r"cannot be read|not a sidecar"):
            read(bundle)

    def test_a_later_sidecar(self, bundle: Path) -> None:
        path = sidecar_path(put(bundle))
        entry = json.loads(path.read_text()) | {"version": 2}
        path.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
        with pytest.raises(BundleError, match="has version 2, this release reads 1"):
            read(bundle)

    def test_another_bundles(self, bundle: Path) -> None:
        graph = GraphBytes("step", "fp32", "opset24", "step.onnx", "0" * 64, 9)
        put(bundle, graph=graph)
        with pytest.raises(BundleError, match=r"another bundle's step\.onnx"):
            read(bundle)
        put(bundle, graph=replace(graph, form="opset17"))
        with pytest.raises(BundleError, match=r"another bundle's step\.onnx"):
            read(bundle)

    @pytest.mark.parametrize("version", ["10.16.2", "10.13.3", "11.4.1"])
    def test_another_release(self, bundle: Path, release: SimpleNamespace, version: str) -> None:
        put(bundle)
        release.__version__ = version
        with pytest.raises(BackendError, match=r"built by tensorrt 10\.16\.1, but tensorrt 1[01]\."):
            read(bundle)

    def test_another_device_of_the_same_name(self, bundle: Path) -> None:
        """To the driver every Jetson Orin is "Orin"."""
        put(bundle)
        nano = replace(ORIN, multiprocessors=8, memory_gib=7, board="NVIDIA Jetson Orin Nano")
        with pytest.raises(
            BackendError,
            match="built on Orin, 16 SMs, 30 GiB, but this is Orin, 8 SMs, 7 GiB, NVIDIA Jetson Orin Nano: ",
        ):
            read(bundle, gpu=nano)

    def test_other_numbers_of_streams(self, bundle: Path) -> None:
        put(bundle)
        read(bundle).check_sizes(batch=4)
        command = f"multires-edge build {bundle} --target jetpack7 --graph step --streams 5 --force"
        with pytest.raises(InputError, match=f"was built for 1 to 4 streams, not 5: {re.escape(command)}$"):
            read(bundle).check_sizes(batch=5)
        put(bundle, profile={"batch": (64, 64, 64)})
        with pytest.raises(InputError, match="was built for 64 streams, not 1: "):
            read(bundle).check_sizes(batch=1)

    def test_another_compute_capability(self, bundle: Path) -> None:
        put_rtx(bundle)
        with pytest.raises(BackendError, match=r"needs compute capability 8\.6 or 8\.9, but A100 has 8\.0"):
            read_rtx(bundle, gpu=Gpu("A100", "8.0", 108, 40))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("engine.bytes", -1, "engine.bytes is -1, expected 0 to"),
        ("engine.file", "../a.engine", "engine.file is '../a.engine', expected a file in the bundle"),
        ("engine.file", "step.fp16.jetpack7.engine", r"expected step\.fp32\.jetpack7\.engine"),
        ("target", "rtx", r"expected step\.fp32\.rtx\.engine"),
        ("device.compute_capability", "eight", "expected a compute capability such as 8.7"),
        ("device", 7, "device is 7, expected an object or null"),
        ("compute_capabilities", [], "compute_capabilities at least one"),
        ("profile.batch", [4, 1, 1], r"profile.batch is \[4, 1, 1\], expected MIN <= OPT <= MAX"),
        ("profile.batch", [1, 1], "expected a list of 3"),
        ("profile.depth", [1, 1, 1], "a key of profile is 'depth', expected batch or time"),
        ("in_place.queue_07", "next_queue_07", "has other states than step.onnx"),
        ("tensorrt.version", "10;3", "expected a version such as 10.3.0"),
        ("seconds", 1e999, "Infinity is not JSON"),
        ("warnings", [{"text": "\x1b[31m", "explanation": None, "count": 1}], "without control characters"),
        ("tools", None, "tools is None, expected an object"),
    ],
)
def test_a_hostile_sidecar(bundle: Path, path: str, value: Any, message: str) -> None:
    file = sidecar_path(put(bundle))
    entry = put_value(json.loads(file.read_text()), path, value)
    file.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
    with pytest.raises(BundleError, match=message):
        read(bundle)


def test_generated_hostile_sidecars(bundle: Path) -> None:
    file = sidecar_path(put(bundle))

    def use(entry: Any) -> None:
        file.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
        engine = read(bundle)
        assert engine.kind == "step" and engine.sidecar.engine.file == engine.path.name

    taken, refused = check_hostile([json.loads(file.read_text())], use)
    assert taken and refused > taken
