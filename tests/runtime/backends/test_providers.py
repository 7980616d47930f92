"""ONNX Runtime's GPU providers, up to the device: a session on the CPU stands in for one on a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.export import export_bundle
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends import providers
from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeStepper, open_session
from multires_edge.runtime.backends.tensorrt.gpu import Gpu
from tests.conftest import SMALL, random_net, save_published

SAMPLES = np.random.default_rng(0).standard_normal((3, 2, 20), np.float32)


@pytest.fixture(scope="module")
def exported_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twice")
    checkpoint = save_published(random_net(SMALL), folder / "run")
    return export_bundle(checkpoint, folder / "two.bundle", target="cpu,portable").path


@pytest.fixture
def two(exported_twice: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported_twice, tmp_path / "two.bundle"))


class FakeGpu:
    """An ONNX Runtime with GPU providers, all of whose sessions run on the CPU."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, dict[str, str]]] = []  # file, provider, options
        self.broken: set[str] = set()  # providers without their device, and files that fail to load
        self.real = ort.InferenceSession

    def session(self, path: str, options: ort.SessionOptions, providers: list[Any]) -> Any:
        name, given = providers[0]
        file = Path(path).name
        self.opened.append((file, name, given))
        if file in self.broken:
            raise RuntimeError("engine of another driver")
        plain = ort.SessionOptions()
        plain.log_severity_level = 3
        session = self.real(path, plain, providers=["CPUExecutionProvider"])
        try:
            context = options.get_session_config_entry("ep.context_file_path")
        except RuntimeError:  # there is no such entry
            context = None
        if context:
            shutil.copy(path, context)
        found = ["CPUExecutionProvider"] if name in self.broken else [name, "CPUExecutionProvider"]
        session.get_providers = lambda: found
        return session


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(providers.PROVIDERS.values()))
    monkeypatch.setattr(ort, "InferenceSession", fake.session)
    monkeypatch.setattr(providers, "find_gpu", lambda: Gpu("NVIDIA RTX 4090", "8.9"))
    on_device = ort.OrtValue.ortvalue_from_numpy
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", lambda array, *_: on_device(array))
    return fake


class TestRefusals:
    @pytest.mark.parametrize("provider", ["cuda", "tensorrt", "rtx"])
    def test_a_provider_that_is_not_here(self, exported: Path, provider: str) -> None:
        message = rf"provider '{provider}' needs .*, which this onnxruntime .* \(it has cpu\): pip install"
        with pytest.raises(BackendError, match=message):
            open_bundle(exported).full(provider=provider)

    def test_a_provider_that_is_none(self, exported: Path) -> None:
        with pytest.raises(BackendError, match="expected one of cpu, cuda, tensorrt, rtx"):
            open_bundle(exported).full(provider="gpu")

    def test_a_provider_without_its_device(self, exported: Path, gpu: FakeGpu) -> None:
        gpu.broken.add("CUDAExecutionProvider")
        with pytest.raises(BackendError, match="'cuda': CUDAExecutionProvider found no device"):
            open_bundle(exported).full(provider="cuda")

    @pytest.mark.parametrize("provider", ["tensorrt", "rtx"])
    def test_queues_in_place_where_they_are_copied(self, bundle: Path, gpu: FakeGpu, provider: str) -> None:
        with pytest.raises(BackendError, match=r"copies the queues .*\(opset24\).* --target cpu,portable"):
            open_bundle(bundle).stream(provider=provider)

    def test_a_graph_that_does_not_load(self, exported: Path, gpu: FakeGpu) -> None:
        gpu.broken.add("full.onnx")
        with pytest.raises(BundleError, match="cannot load it"):
            open_bundle(exported).full(provider="cuda")


class TestSelection:
    def test_the_best_that_works(self, bundle: Path, gpu: FakeGpu) -> None:
        gpu.broken.add("NvTensorRTRTXExecutionProvider")
        open_bundle(bundle).full()
        assert [name for _, name, _ in gpu.opened] == [
            "NvTensorRTRTXExecutionProvider",
            "CUDAExecutionProvider",
        ]

    def test_the_cpu_where_nothing_else_works(self, bundle: Path, gpu: FakeGpu) -> None:
        gpu.broken |= {"NvTensorRTRTXExecutionProvider", "CUDAExecutionProvider"}
        y = open_bundle(bundle).full()(SAMPLES)
        assert gpu.opened[-1][1] == "CPUExecutionProvider"
        np.testing.assert_array_equal(y, open_bundle(bundle).full(provider="cpu")(SAMPLES))

    def test_cuda_computes_in_float32(self, exported: Path, gpu: FakeGpu) -> None:
        open_bundle(exported).full(provider="cuda")
        assert gpu.opened == [("full.onnx", "CUDAExecutionProvider", {"use_tf32": "0"})]


class TestEngines:
    def test_a_context_is_left_and_taken(self, bundle: Path, gpu: FakeGpu) -> None:
        y = open_bundle(bundle).full(provider="rtx")(SAMPLES)
        (context,) = (bundle / "engines" / "onnxruntime").rglob("*.onnx")
        assert context.parent.parent.name == f"rtx-{ort.__version__}-NVIDIA-RTX-4090"
        assert gpu.opened[0][2]["nv_runtime_cache_path"] == str(context.parent)
        again = open_bundle(bundle).full(provider="rtx")
        assert [file for file, _, _ in gpu.opened] == ["full.onnx", "context.onnx"]
        np.testing.assert_array_equal(again(SAMPLES), y)
        assert [path.name for path in context.parent.iterdir()] == ["context.onnx"]

    def test_a_context_that_fails_is_made_anew(self, bundle: Path, gpu: FakeGpu) -> None:
        open_bundle(bundle).full(provider="rtx")
        (context,) = (bundle / "engines" / "onnxruntime").rglob("*.onnx")
        context.write_bytes(b"damaged")
        open_bundle(bundle).full(provider="rtx")
        assert [file for file, _, _ in gpu.opened] == ["full.onnx", "context.onnx", "full.onnx"]
        assert context.read_bytes() == (bundle / "full.onnx").read_bytes()

    def test_a_failed_session_leaves_no_context(self, bundle: Path, gpu: FakeGpu) -> None:
        gpu.broken.add("full.onnx")
        with pytest.raises(BundleError):
            open_bundle(bundle).full(provider="rtx")
        assert [path for path in (bundle / "engines").rglob("*") if path.is_file()] == []

    def test_tensorrt_keeps_its_engines_where_shapes_come_later(self, bundle: Path, gpu: FakeGpu) -> None:
        open_bundle(bundle).full(provider="tensorrt")
        _, name, options = gpu.opened[0]
        folder = options["trt_engine_cache_path"]
        assert name == "TensorrtExecutionProvider" and options["trt_engine_cache_enable"] == "1"
        assert Path(folder).is_dir() and Path(folder).is_relative_to(bundle / "engines")
        assert "trt_profile_min_shapes" not in options

    def test_a_bundle_that_cannot_be_written(
        self, bundle: Path, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read_only(*_: Any, **__: Any) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(Path, "mkdir", read_only)
        with pytest.warns(UserWarning, match="Read-only file system.* engine is not kept"):
            open_bundle(bundle).full(provider="rtx")
        assert "nv_runtime_cache_path" not in gpu.opened[0][2]


class TestStreams:
    @pytest.mark.parametrize(("provider", "prefix"), [("tensorrt", "trt"), ("rtx", "nv")])
    def test_states_are_copied_at_a_fixed_batch(
        self, two: Path, gpu: FakeGpu, provider: str, prefix: str
    ) -> None:
        opened = open_bundle(two)
        stream = opened.stream(3, provider=provider)
        file, _, options = gpu.opened[0]
        assert file == "step.opset17.onnx"
        shapes = {options[f"{prefix}_profile_{end}_shapes"] for end in ("min", "opt", "max")}
        (shape,) = shapes
        assert shape.startswith("x:3x2,pool_sum:3x8,") and "position:3,queue_00:3x1x2x16," in shape
        assert isinstance(stream._stepper, OnnxRuntimeStepper)
        assert all(state.buffer(0) is not state.buffer(1) for state in stream._stepper._states)
        native = opened.stream(3, backend="native")
        half = SAMPLES.shape[-1] // 2
        for part in (SAMPLES[..., :half], SAMPLES[..., half:]):
            np.testing.assert_allclose(stream.run(part), native.run(part), rtol=0, atol=1e-5)
            stream.reset(rows=[1])
            native.reset(rows=[1])
        saved = stream.save_state()
        native.load_state(saved)

    def test_cuda_updates_in_place(self, two: Path, gpu: FakeGpu) -> None:
        stream = open_bundle(two).stream(3, provider="cuda")
        native = open_bundle(two).stream(3, backend="native")
        assert gpu.opened[0][0] == "step.onnx"
        np.testing.assert_allclose(stream.run(SAMPLES), native.run(SAMPLES), rtol=0, atol=1e-5)


class TestForms:
    def test_an_older_onnxruntime_runs_the_older_form(
        self, two: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ort, "__version__", "1.24.0")
        opened: list[str] = []
        session = ort.InferenceSession

        def spy(path: str, *args: Any, **kwargs: Any) -> Any:
            opened.append(Path(path).name)
            return session(path, *args, **kwargs)

        monkeypatch.setattr(ort, "InferenceSession", spy)
        bundle = open_bundle(two)
        bundle.full(provider="cpu")
        bundle.stream(backend="onnxruntime")
        assert opened == ["full.opset17.onnx", "step.opset17.onnx"]

    def test_without_one_loading_says_what_is_wrong(
        self, exported: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ort, "__version__", "1.20.0")

        def too_new(*_: Any, **__: Any) -> None:
            raise RuntimeError("opset 24 is under development")

        monkeypatch.setattr(ort, "InferenceSession", too_new)
        with pytest.raises(BundleError, match=r"onnxruntime 1\.20\.0 cannot load it.*--target portable"):
            open_bundle(exported).full(provider="cpu")


def test_a_session_without_a_manifest(exported: Path) -> None:
    session = open_session(exported / "full.onnx", 1, "cpu")
    assert session.get_providers() == ["CPUExecutionProvider"]
