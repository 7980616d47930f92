"""Building engines. TensorRT-RTX needs no GPU; it replaces a device's TensorRT up to the device call."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from multires_edge.base.errors import BackendError, BundleError, ConfigError, InputError, OutputError
from multires_edge.base.files import sha256_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.device import driver as cuda_driver
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.api import Api, log_of
from multires_edge.runtime.backends.tensorrt.engine_file import check_engine, engines_of
from multires_edge.runtime.backends.tensorrt.sidecar import TensorRtRelease, read_sidecar
from multires_edge.runtime.engine_builder import build as build_module
from multires_edge.runtime.engine_builder.build import Builder
from multires_edge.runtime.engine_builder.progress import BuildProgress
from multires_edge.runtime.engine_builder.shapes import Range
from multires_edge.runtime.engine_builder.timing_cache import TimingCache
from tests.forged import replace_file
from tests.runtime.backends.device.fake_driver import ORIN, FakeCuda
from tests.runtime.engine_builder.conftest import build_step

trt: Any = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra, for Linux and Windows on x86-64")
THOR = Gpu("NVIDIA Thor", "11.0", 20, 122)


class FakeRuntime:
    """What needs the device: loading an engine, and looking into it."""

    def __init__(self, logger: Any) -> None:
        del logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        layer = {"Name": "encoder", "LayerType": "gemm", "Outputs": [{"Format/Datatype": "Float"}]}
        information = json.dumps({"Layers": [layer]})
        inspector = SimpleNamespace(get_engine_information=lambda _: information)
        return SimpleNamespace(create_engine_inspector=lambda: inspector) if plan else None


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with a GPU and a release of TensorRT, whose builder is TensorRT-RTX's."""

    def have(gpu: Gpu | None, version: str | None = None) -> None:
        names = {name: getattr(trt, name) for name in dir(trt) if not name.startswith("__")}
        fake = SimpleNamespace(**names | {"Runtime": FakeRuntime, "__version__": version})
        monkeypatch.setattr(cuda_driver, "load_library", lambda: gpu and FakeCuda(gpu=gpu))
        monkeypatch.setattr(build_module, "log_of", lambda _: log_of("tensorrt_rtx"))
        monkeypatch.setitem(sys.modules, "tensorrt", fake if version else None)

    return have


class TestAheadOfTime:
    def test_an_engine_and_what_lies_beside_it(self, bundle: Path) -> None:
        opened = open_bundle(bundle)
        said: list[str] = []
        built = build_step(bundle, ["8.6", "8.9"], {"streams": Range(1, 2, 4)}, progress=said.append)
        sidecar = read_sidecar(built.path)
        assert sidecar == built.sidecar
        graph = opened.manifest.graph("step", "fp32")
        assert sidecar.engine.sha256 == sha256_of(built.path)
        assert sidecar.graph.sha256 == graph.sha256 == sha256_of(bundle / graph.file)
        assert sidecar.compute_capabilities == ("8.6", "8.9") and sidecar.device is None
        assert sidecar.tensorrt == TensorRtRelease("tensorrt_rtx", trt.__version__)
        assert sidecar.profile == {"batch": (1, 2, 4)}
        assert sidecar.in_place == {f"queue_{j:02d}": f"next_queue_{j:02d}" for j in range(3)}
        assert built.path.read_bytes()[4:8] != b"json" and built.path.stat().st_size > 100_000
        layers = built.path.with_suffix(".layers.txt").read_text()
        assert layers.count("kv_cache_update") == 3 and "layers.0/norm" in layers
        assert any("/" in line for line in said)
        assert sorted(path.suffix for path in built.path.parent.iterdir()) == [".engine", ".json", ".txt"]

    def test_the_bundle_stays_whole_and_the_engine_is_its(self, bundle: Path) -> None:
        built = build_step(bundle, ["8.9"])
        manifest = open_bundle(bundle).manifest
        engine = check_engine(built.path, manifest, Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24))
        assert engine.sidecar.source_sha256 == manifest.source.sha256

    def test_no_warning_is_unexplained(self, bundle: Path) -> None:
        built = build_step(bundle)
        assert built.sidecar.warnings and all(warning.explanation for warning in built.sidecar.warnings)

    def test_an_unexpectedly_large_engine_is_warned_of(
        self, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(build_module, "_KERNEL_BYTES", 1000)
        built = build_step(bundle)
        assert any("expected" in str(warning.explanation) for warning in built.sidecar.warnings)

    def test_all_compute_capabilities_but_turing_by_default(self) -> None:
        assert Builder.here("rtx").compute_capabilities == ("8.0", "8.6", "8.9", "12.0", "12.1")

    def test_turing_says_why_it_cannot(self, bundle: Path) -> None:
        with pytest.raises(BackendError, match=r"no float32 matrix products for compute capability 7\.5"):
            build_step(bundle, ["7.5"])
        assert engines_of(bundle) == []

    def test_a_graph_that_is_not_onnx(self, bundle: Path) -> None:
        replace_file(bundle, "step.onnx", b"not a graph")
        with pytest.raises(BundleError, match=r"step\.onnx: is damaged or not an ONNX graph"):
            build_step(bundle)
        replace_file(bundle, "step.onnx", b"\x3a\x00")  # a graph with nothing in it
        with pytest.raises(BackendError, match=r"step\.onnx"):
            build_step(bundle)

    def test_queues_that_would_be_copied(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(build_module, "in_place_updates", lambda *_: {"queue_00": "next_queue_00"})
        with pytest.raises(BackendError, match="missing: queue_01, queue_02"):
            build_step(bundle)


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
class TestOnTheDevice:
    def test_the_device_stands_in_the_sidecar(self, bundle: Path, device: Any) -> None:
        device(ORIN, "10.3.0")
        built = build_step(bundle, None, target="jetpack6")
        sidecar = built.sidecar
        assert sidecar.device == ORIN and sidecar.compute_capabilities == ("8.7",)
        assert sidecar.tensorrt == TensorRtRelease("tensorrt", "10.3.0")
        assert sidecar.graph.file == "step.opset17.onnx" and sidecar.in_place == {}
        layers = built.path.with_suffix(".layers.txt").read_text()
        assert "The engine, as built" in layers and "gemm" in layers
        assert (bundle / "engines" / "Orin-16-SMs-30-GiB.sm87.tensorrt-10.3.0.timing").stat().st_size > 0
        assert check_engine(built.path, open_bundle(bundle).manifest, ORIN).path == built.path
        assert int(sidecar.options["workspace_bytes"]) > 0

    def test_a_card_with_memory_of_its_own_has_no_limit(self, bundle: Path, device: Any) -> None:
        device(Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24), "10.16.1")
        sidecar = build_step(bundle, None, target="tensorrt10").sidecar
        assert "workspace_bytes" not in sidecar.options and sidecar.device is not None

    def test_a_timing_cache_that_cannot_be_kept_costs_no_engine(
        self, bundle: Path, device: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: TimingCache, config: Any) -> None:
            raise OutputError(f"{self.path}: cannot be written (No space left on device)")

        device(ORIN, "10.3.0")
        monkeypatch.setattr(TimingCache, "save", full)
        built = build_step(bundle, None, target="jetpack6")
        assert engines_of(bundle) == [built.path]
        assert "No space left on device): the next build measures again" in built.sidecar.warnings[-1].line()

    @pytest.mark.parametrize(
        ("gpu", "version", "form"),
        [(ORIN, "10.13.3.9", "opset17"), (THOR, "10.16.1", "opset24")],
    )
    def test_the_release_decides_the_form(
        self, bundle: Path, device: Any, gpu: Gpu, version: str, form: str
    ) -> None:
        device(gpu, version)
        assert Builder.here("jetpack7").form(open_bundle(bundle).manifest) == form

    def test_graphs_that_the_target_wants(self, bundle: Path, device: Any) -> None:
        device(THOR, "10.16.1")
        assert Builder.here("jetpack7").kinds(open_bundle(bundle).manifest) == ["taps", "step", "full"]

    def test_an_engine_that_cannot_be_loaded(self, bundle: Path, device: Any) -> None:
        device(ORIN, "10.3.0")
        sys.modules["tensorrt"].Runtime = lambda _: SimpleNamespace(  # type: ignore[attr-defined]
            deserialize_cuda_engine=lambda _: None
        )
        with pytest.raises(BackendError, match="built an engine that it cannot load"):
            build_step(bundle, None, target="jetpack6")
        assert engines_of(bundle) == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("gpu", "version", "message"),
        [
            (None, "10.3.0", r"no CUDA driver .*multires-edge build .* --target jetpack6"),
            (ORIN, None, r"jetpack6 needs tensorrt, which cannot be imported .*JetPack"),
            (ORIN, "10.16.1", r"tensorrt 10\.3\.x, but TensorRT 10\.16\.1 is installed; .*jetpack7"),
            (THOR, "10.3.0", r"compute capability 8\.7, but NVIDIA Thor has 11\.0"),
        ],
    )
    def test_machines(self, gpu: Gpu | None, version: str | None, message: str, device: Any) -> None:
        device(gpu, version)
        with pytest.raises(BackendError, match=message):
            Builder.here("jetpack6")

    @pytest.mark.parametrize(
        ("target", "capabilities", "message"),
        [
            ("jetpak6", None, "did you mean jetpack6"),
            ("cpu", None, "cpu needs no engine"),
            ("jetpack6", ["8.7"], "uses the capability of its device"),
            ("rtx", ["9.9"], "'9.9' is unknown"),
            ("rtx", [], "no compute"),
            ("rtx", ["7.5", "8.6"], "separate"),
        ],
    )
    def test_targets(self, target: str, capabilities: list[str] | None, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Builder.here(target, capabilities)

    def test_no_tensorrt_rtx(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        with pytest.raises(BackendError, match=r"pip install .*\[rtx\]'"):
            Builder.here("rtx")

    def test_a_form_that_the_bundle_lacks(self, bundle: Path, device: Any) -> None:
        device(ORIN, "10.3.0")
        manifest = open_bundle(bundle).manifest
        del manifest.forms["opset17"]
        with pytest.raises(ConfigError, match=r"reads opset17 .*bundle has opset24: export it with"):
            Builder.here("jetpack6").form(manifest)

    def test_a_shape_that_does_not_fit(self, bundle: Path) -> None:
        with pytest.raises(InputError, match="TensorRT allows at most"):
            build_step(bundle, None, {"streams": Range(1, 1, 10**9)})


def test_progress_shows_the_outermost_and_innermost_phase() -> None:
    said: list[str] = []
    monitor = BuildProgress(trt, said.append).monitor
    monitor.phase_start("Building", None, 2)
    monitor.phase_start("Tactics", "Building", 1000)
    for step in range(1000):
        assert monitor.step_complete("Tactics", step)
    monitor.phase_finish("Tactics")
    monitor.step_complete("Building", 0)
    assert said[:2] == ["Building 0/2", "Building 0/2, Tactics 0/1000"]
    assert said[-1] == "Building 1/2"
    assert len(said) < 150


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_a_timing_cache_of_nobody_counts_as_none(tmp_path: Path) -> None:
    log = log_of("tensorrt_rtx")
    config = trt.Builder(log.logger).create_builder_config()
    cache = TimingCache.of(tmp_path / "engines", ORIN, Api("tensorrt", trt, (10, 3, 0)))
    assert cache.path.name == "Orin-16-SMs-30-GiB.sm87.tensorrt-10.3.0.timing"
    cache.path.parent.mkdir()
    cache.path.write_bytes(b"damaged")
    cache.load(config)
    cache.save(config)
    assert cache.path.read_bytes() != b"damaged"
