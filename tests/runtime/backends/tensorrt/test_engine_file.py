"""Reading an engine back: every way in which it is not for this bundle or this machine is said in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.format.fields import digest_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.tensorrt.engine_file import (
    EngineFile,
    check_engine,
    engine_path,
    engines_of,
)
from multires_edge.runtime.backends.tensorrt.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.sidecar import (
    GraphBytes,
    TensorRtRelease,
    sidecar_content,
    sidecar_path,
)
from tests.hostile import put as put_value
from tests.runtime.backends.tensorrt.bundles import ORIN, sidecar_of

RTX = Gpu("NVIDIA GeForce RTX 4090", "8.9")


def put(bundle: Path, target: str = "jetpack7", **changes: Any) -> Path:
    """An engine as a build leaves it; its content does not matter here."""
    graph = open_bundle(bundle).manifest.graph("step", "fp32")
    path = engine_path(bundle, "step", "fp32", target)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"engine of " + target.encode())
    sidecar = sidecar_of(path.name, path.read_bytes(), graph, {"queue_00": "next_queue_00"})
    sidecar_path(path).write_bytes(sidecar_content(replace(sidecar, **changes)))
    return path


def put_rtx(bundle: Path) -> Path:
    return put(
        bundle,
        "rtx",
        tensorrt=TensorRtRelease("tensorrt_rtx", "1.7.1.116"),
        device=None,
        compute_capabilities=("8.6", "8.9"),
    )


def read(bundle: Path, target: str = "jetpack7", **changes: Any) -> EngineFile:
    here: dict[str, Any] = {"package": "tensorrt", "version": (10, 16, 1), "gpu": ORIN} | changes
    path = engine_path(bundle, "step", "fp32", target)
    return check_engine(path, open_bundle(bundle).manifest, "step", "fp32", **here)


def read_rtx(bundle: Path, **changes: Any) -> EngineFile:
    here = {"package": "tensorrt_rtx", "version": (1, 7, 1, 116), "gpu": RTX}
    return read(bundle, "rtx", **(here | changes))


class TestWhatFits:
    def test_an_engine_of_this_device(self, bundle: Path) -> None:
        path = put(bundle)
        engine = read(bundle)
        assert engine.path == path and engine.read() == b"engine of jetpack7"
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

    def test_truncated_engine(self, bundle: Path) -> None:
        path = put(bundle)
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(BundleError, match=r"truncated or changed \(15 of 18 bytes.* --force"):
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

    @pytest.mark.parametrize("content", [[], {}, {"format": "something"}, 7])
    def test_no_sidecar_at_all(self, bundle: Path, content: Any) -> None:
        sidecar_path(put(bundle)).write_text(json.dumps(content))
        with pytest.raises(BundleError, match="not a sidecar"):
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

    @pytest.mark.parametrize("version", [(10, 16, 2), (10, 13, 3), (11, 4, 1)])
    def test_another_release(self, bundle: Path, version: tuple[int, ...]) -> None:
        put(bundle)
        with pytest.raises(BackendError, match=r"built by tensorrt 10\.16\.1, but tensorrt 1[01]\."):
            read(bundle, version=version)

    def test_another_product(self, bundle: Path) -> None:
        put_rtx(bundle)
        with pytest.raises(BackendError, match=r"built by tensorrt_rtx 1\.7\.1\.116, but tensorrt 10"):
            read(bundle, "rtx")

    def test_another_device(self, bundle: Path) -> None:
        put(bundle)
        with pytest.raises(BackendError, match=r"built on Orin, but this is Orin Nano: build it again"):
            read(bundle, gpu=Gpu("Orin Nano", "8.7"))

    def test_another_compute_capability(self, bundle: Path) -> None:
        put_rtx(bundle)
        with pytest.raises(BackendError, match=r"needs compute capability 8\.6 or 8\.9, but A100 has 8\.0"):
            read_rtx(bundle, gpu=Gpu("A100", "8.0"))

    def test_no_device(self, bundle: Path) -> None:
        put_rtx(bundle)
        with pytest.raises(BackendError, match="no CUDA driver or GPU was found"):
            read_rtx(bundle, gpu=None)


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
