"""Reading an engine back: every way in which it is not for this bundle or this machine is said in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.base.files import sha256_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.tensorrt.engine_file import (
    EngineFile,
    check_engine,
    engine_path,
    engines_of,
    sidecar_content,
    sidecar_path,
)
from multires_edge.runtime.backends.tensorrt.gpu import Gpu

ORIN = Gpu("Orin", "8.7")
RTX = Gpu("NVIDIA GeForce RTX 4090", "8.9")


def put(bundle: Path, target: str = "jetpack7", **changes: Any) -> Path:
    """An engine as a build leaves it; its content does not matter here."""
    graph = open_bundle(bundle).manifest.graph("step", "fp32")
    path = engine_path(bundle, "step", "fp32", target)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"engine of " + target.encode())
    entry: dict[str, Any] = {
        "engine": {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)},
        "graph": {
            "kind": "step", "precision": "fp32", "form": "opset24",
            "file": graph.file, "sha256": graph.sha256,
        },
        "tensorrt": {"package": "tensorrt", "version": "10.16.1"},
        "device": {"name": ORIN.name, "compute_capability": ORIN.compute_capability},
        "compute_capabilities": [ORIN.compute_capability],
        "profile": {"batch": [1, 1, 4]},
        "in_place": {"queue_00": "next_queue_00"},
    }  # fmt: skip
    sidecar_path(path).write_bytes(sidecar_content(entry | changes))
    return path


def put_rtx(bundle: Path) -> Path:
    return put(
        bundle,
        "rtx",
        tensorrt={"package": "tensorrt_rtx", "version": "1.7.1.116"},
        device=None,
        compute_capabilities=["8.6", "8.9"],
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
        assert engine.in_place == {"queue_00": "next_queue_00"}

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
        put(bundle, version=2)
        with pytest.raises(BundleError, match="has version 2, this release reads 1"):
            read(bundle)

    def test_another_bundles(self, bundle: Path) -> None:
        graph = {"form": "opset24", "file": "step.onnx", "sha256": "0" * 64}
        put(bundle, graph=graph)
        with pytest.raises(BundleError, match=r"another bundle's step\.onnx"):
            read(bundle)
        put(bundle, graph=graph | {"form": "opset17"})
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
