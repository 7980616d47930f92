"""Reading an engine back: every way in which it is not for this bundle or this machine is said in words."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from multires_edge.base.errors import BackendError, BundleError, InputError, MultiresError
from multires_edge.format.fields import digest_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.engine_file import (
    EngineFile,
    check_engine,
    engine_path,
    engines_of,
)
from multires_edge.runtime.backends.tensorrt.sidecar import GraphBytes, TensorRtRelease, sidecar_path
from tests.hostile import check_hostile
from tests.hostile import put as put_value
from tests.runtime.backends.device.fake_driver import ORIN, FakeCuda
from tests.runtime.backends.tensorrt.bundles import put_engine


@pytest.fixture(autouse=True)
def release(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The release of TensorRT that is installed."""
    release = SimpleNamespace(__version__="10.16.1")
    monkeypatch.setitem(sys.modules, "tensorrt", release)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__version__="1.7.1.116"))
    return release


def read(bundle: Path, target: str = "jetpack7", gpu: Gpu = ORIN) -> EngineFile:
    return check_engine(engine_path(bundle, "step", "fp32", target), open_bundle(bundle).manifest, gpu)


def signed(entry: dict[str, Any]) -> str:
    """A document with the digest that it should have."""
    return json.dumps(entry | {"sha256": digest_of(entry)})


class TestWhatFits:
    def test_an_engine_of_this_device(self, bundle: Path) -> None:
        path = put_engine(bundle, in_place=True)
        engine = read(bundle)
        assert engine.path == path and engine.api.version == (10, 16, 1) and engine.kind == "step"
        assert engine.sidecar.in_place["queue_00"] == "next_queue_00"

    def test_an_engine_for_several_devices(self, bundle: Path) -> None:
        release = TensorRtRelease("tensorrt_rtx", "1.7.1.116")
        able = ("8.6", "8.9")
        path = put_engine(bundle, "step", "rtx", tensorrt=release, device=None, compute_capabilities=able)
        assert read(bundle, "rtx", Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24)).path == path
        assert engines_of(bundle) == [path]
        assert open_bundle(bundle).manifest.files


class TestDamage:
    def test_nothing_built(self, bundle: Path) -> None:
        with pytest.raises(BackendError, match="has not been built; multires-edge build"):
            read(bundle)

    def test_a_build_that_was_killed(self, bundle: Path) -> None:
        sidecar_path(put_engine(bundle)).unlink()
        assert engines_of(bundle) == []
        with pytest.raises(BackendError, match="its sidecar is missing"):
            read(bundle)

    @pytest.mark.parametrize("content", [b"", b"an eng", b"no engine", None])
    def test_a_truncated_changed_or_missing_engine(self, content: bytes | None, bundle: Path) -> None:
        path = put_engine(bundle)
        path.unlink() if content is None else path.write_bytes(content)
        words = rf"truncated or changed \({len(content or b'')} of 9 bytes.* --force"
        with pytest.raises(BundleError, match="cannot be read" if content is None else words):
            read(bundle)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda text: text[:-20], r"\.json: cannot be read"),
            (lambda text: text.replace('"8.7"', '"8.9"'), "changed since it was written"),
            (lambda text: signed(json.loads(text) | {"version": 2}), "has version 2, this release reads 1"),
            *((lambda _, other=other: other, "cannot be read|not a sidecar")
              for other in ("", "{", "[]", "{}", '{"format": "something"}', "7")),
        ],
    )  # fmt: skip
    def test_a_damaged_sidecar(self, change: Callable[[str], str], words: str, bundle: Path) -> None:
        path = sidecar_path(put_engine(bundle))
        path.write_text(change(path.read_text()))
        with pytest.raises(BundleError, match=words):
            read(bundle)


GRAPH = GraphBytes("step", "fp32", "opset24", "step.onnx", "0" * 64, 9)
NANO = replace(ORIN, multiprocessors=8, memory_gib=7, board="NVIDIA Jetson Orin Nano")
THOR = Gpu("Thor", "8.7", 20, 122)


@pytest.mark.native
@pytest.mark.parametrize(
    ("changes", "gpu", "error", "words"),
    [
        ({"graph": GRAPH}, ORIN, BundleError, r"another bundle's step\.onnx"),
        ({"graph": replace(GRAPH, form="opset17")}, ORIN, BundleError, r"another bundle's step\.onnx"),
        *(({"tensorrt": TensorRtRelease("tensorrt", other)}, ORIN, BackendError,
           rf"built by tensorrt {other}, but tensorrt 10\.16\.1 is installed")
          for other in ("10.3.0", "10.16.2", "10.13.3", "11.4.1")),
        ({"device": THOR}, ORIN, BackendError, "built on Thor, 20 SMs, 122 GiB, but this is Orin"),
        # To the driver every Jetson Orin is "Orin".
        ({}, NANO, BackendError, "on Orin, 16 SMs, 30 GiB, but this is Orin, 8 SMs, 7 GiB, NVIDIA Jetson"),
        ({"device": None, "compute_capabilities": ("8.6", "8.9")}, ORIN, BackendError,
         r"needs compute capability 8\.6 or 8\.9, but Orin has 8\.7"),
    ],
)  # fmt: skip
def test_an_engine_that_does_not_fit(
    changes: dict[str, Any], gpu: Gpu, error: type[MultiresError], words: str, bundle: Path, driver: FakeCuda
) -> None:
    """It is refused when it is read, and when a stream looks for one."""
    driver.have(gpu)
    put_engine(bundle, **changes)
    opened = open_bundle(bundle)
    if gpu.board is None:
        with pytest.raises(error, match=words):
            opened.stream(backend="tensorrt")
    with pytest.raises(error, match=words):
        read(bundle, gpu=gpu)


@pytest.mark.parametrize(
    ("kind", "sizes", "words", "options"),
    [
        ("step", {"batch": 5}, "1 to 4 streams, not 5", "--streams 5"),
        ("full", {"batch": 5, "time": 1}, "1 to 4 sequences, not 5", "--batch 5"),
        ("full", {"batch": 4, "time": 41}, "1 to 40 steps, not 41", "--time 41"),
    ],
)
def test_sizes_that_it_was_not_built_for(
    kind: str, sizes: dict[str, int], words: str, options: str, bundle: Path
) -> None:
    engine = check_engine(put_engine(bundle, kind), open_bundle(bundle).manifest, ORIN)
    engine.check_sizes(batch=4, time=40)
    command = f"multires-edge build {bundle} --target jetpack7 --graph {kind} {options} --force"
    with pytest.raises(InputError, match=f"was built for {words}: {re.escape(command)}$"):
        engine.check_sizes(**sizes)


def test_other_than_the_one_number_of_streams(bundle: Path) -> None:
    put_engine(bundle, profile={"batch": (64, 64, 64)})
    with pytest.raises(InputError, match="was built for 64 streams, not 1: "):
        read(bundle).check_sizes(batch=1)


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
    file = sidecar_path(put_engine(bundle, in_place=True))
    file.write_text(signed(put_value(json.loads(file.read_text()), path, value)))
    with pytest.raises(BundleError, match=message):
        read(bundle)


def test_generated_hostile_sidecars(bundle: Path) -> None:
    file = sidecar_path(put_engine(bundle, in_place=True))

    def use(entry: Any) -> None:
        file.write_text(signed(entry))
        engine = read(bundle)
        assert engine.kind == "step" and engine.sidecar.engine.file == engine.path.name

    taken, refused = check_hostile([json.loads(file.read_text())], use)
    assert taken and refused > taken
