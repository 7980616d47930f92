"""``bundle.stream(backend="tensorrt")``: which engine it takes, and what it says when none will do."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import BackendError, BundleError, InputError, MultiresError
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.opening import STREAM_KINDS, find_engine
from multires_edge.runtime.backends.tensorrt.sidecar import (
    SIDECAR,
    GraphBytes,
    TensorRtRelease,
    sidecar_path,
)
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.bundles import export, sidecar_of
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install

THOR, XAVIER = Gpu("Thor", "8.7", 20, 122), Gpu("Xavier", "8.7", 8, 31)

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def exported_with_taps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("opening")).path


@pytest.fixture
def bundle(exported_with_taps: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(exported_with_taps, tmp_path / "a.bundle"))


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 10.16.1 and an Orin, as far as anyone asks before an engine is loaded."""
    driver = FakeCuda()
    install(monkeypatch, driver, FakeTensorRt(driver))


def add_engine(
    bundle: Bundle, kind: str, *, in_place: bool = False, target: str = "jetpack7", **changes: Any
) -> Path:
    """An engine file with a sidecar; TensorRT is never asked to read it."""
    spec = bundle.manifest.graph(kind, "fp32")
    path = bundle.path / "engines" / f"{kind}.fp32.{target}.engine"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"an engine")
    updates = {state.input: state.output for state in spec.states if in_place and state.in_place}
    sidecar = replace(sidecar_of(path.name, b"an engine", spec, updates), **changes)
    sidecar_path(path).write_bytes(SIDECAR.to_bytes(sidecar))
    return path


def chosen(bundle: Bundle) -> str:
    engine = find_engine(bundle.path, bundle.manifest, "fp32", STREAM_KINDS)
    assert engine.api.version == (10, 16, 1) and engine.updates_in_place == bool(engine.sidecar.in_place)
    return engine.kind


class TestChoice:
    def test_a_step_in_place_is_the_best(self, bundle: Bundle) -> None:
        add_engine(bundle, "taps")
        add_engine(bundle, "step", in_place=True)
        assert chosen(bundle) == "step"

    def test_taps_rather_than_copies_of_queues(self, bundle: Bundle) -> None:
        add_engine(bundle, "step")
        assert chosen(bundle) == "step"
        add_engine(bundle, "taps")
        assert chosen(bundle) == "taps"

    def test_the_first_that_runs_here(self, bundle: Bundle) -> None:
        add_engine(bundle, "step", target="a", compute_capabilities=["11.0"], device=THOR)
        path = add_engine(bundle, "step", target="b")
        assert find_engine(bundle.path, bundle.manifest, "fp32", STREAM_KINDS).path == path

    def test_the_best_for_so_many_streams(self, bundle: Bundle) -> None:
        add_engine(bundle, "taps", profile={"batch": (1, 1, 64)})
        add_engine(bundle, "step", in_place=True)
        engine = find_engine(bundle.path, bundle.manifest, "fp32", STREAM_KINDS, 64)
        assert engine.kind == "taps"
        with pytest.raises(InputError, match=r"built for 1 to 4 streams, not 65: .* --streams 65"):
            bundle.stream(65, backend="tensorrt")

    def test_sequences_that_an_engine_was_not_built_for(self, bundle: Bundle) -> None:
        add_engine(bundle, "full")
        engine = find_engine(bundle.path, bundle.manifest, "fp32", ("full",))
        engine.check_sizes(batch=4, time=40)
        with pytest.raises(InputError, match=r"for 1 to 40 steps, not 41: .* --graph full --time 41 --f"):
            engine.check_sizes(batch=4, time=41)
        with pytest.raises(InputError, match=r"built for 1 to 4 sequences, not 5: .* --batch 5 --force$"):
            engine.check_sizes(batch=5, time=1)

    def test_the_full_graph_is_no_step(self, bundle: Bundle) -> None:
        add_engine(bundle, "full")
        with pytest.raises(BackendError, match="no step engine"):
            bundle.stream(backend="tensorrt")


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "error", "reason"),
        [
            ({"tensorrt": TensorRtRelease("tensorrt", "10.3.0")}, BackendError,
             r"built by tensorrt 10\.3\.0, but tensorrt 10\.16\.1 is installed"),
            ({"device": THOR}, BackendError, "built on Thor, 20 SMs, 122 GiB, but this is Orin"),
            ({"device": None, "compute_capabilities": ("8.6", "8.9")}, BackendError,
             r"8\.6 or 8\.9, but Orin has 8\.7"),
            ({"graph": GraphBytes("step", "fp32", "opset24", "step.onnx", "0" * 64, 9)}, BundleError,
             "another bundle's"),
        ],
    )  # fmt: skip
    def test_an_engine_that_does_not_fit(
        self, changes: dict[str, Any], error: type[MultiresError], reason: str, bundle: Bundle
    ) -> None:
        add_engine(bundle, "step", **changes)
        with pytest.raises(error, match=reason):
            bundle.stream(backend="tensorrt")

    def test_no_engine(self, bundle: Bundle) -> None:
        with pytest.raises(BackendError, match="multires-edge build"):
            bundle.stream(backend="tensorrt")
        add_engine(bundle, "step")
        with pytest.raises(BackendError, match="no step engine in fp16"):
            bundle.stream(backend="tensorrt", precision="fp16")

    def test_every_reason_is_given(self, bundle: Bundle) -> None:
        add_engine(bundle, "step", device=THOR)
        add_engine(bundle, "taps", device=XAVIER)
        with pytest.raises(BackendError, match=r"Thor.*; .*Xavier"):
            bundle.stream(backend="tensorrt")

    def test_no_tensorrt(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        add_engine(bundle, "step")
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(BackendError, match=r"^step\.fp32\.jetpack7\.engine needs tensorrt, which"):
            bundle.stream(backend="tensorrt")

    def test_no_device(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, None)
        with pytest.raises(BackendError, match=r"no CUDA driver was found"):
            bundle.stream(backend="tensorrt")  # with no engine either, which is no use to build

    def test_threads_and_providers(self, bundle: Bundle) -> None:
        for options in ({"threads": 2}, {"provider": "cuda"}):
            with pytest.raises(BackendError, match="CUDA_VISIBLE_DEVICES"):
                bundle.stream(backend="tensorrt", **options)

    def test_whole_sequences(self, bundle: Bundle) -> None:
        add_engine(bundle, "step")
        with pytest.raises(BackendError, match="no full engine in fp32"):
            bundle.full(backend="tensorrt")
