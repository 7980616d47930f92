"""ONNX Runtime's providers, up to the device: a session on the CPU stands in for a session on a GPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.export import export_bundle
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends import providers
from multires_edge.runtime.backends.device import driver
from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeStepper, open_session
from multires_edge.runtime.backends.providers import _preload, install_cuda
from tests.conftest import SMALL, random_net, save_published
from tests.runtime.backends.device.fake_driver import FakeCuda

SAMPLES = np.random.default_rng(0).standard_normal((3, 2, 20), np.float32)
CPU, CUDA, NNAPI = "CPUExecutionProvider", "CUDAExecutionProvider", "NnapiExecutionProvider"


@pytest.fixture(scope="module")
def exported_twice(opset24: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twice")
    checkpoint = save_published(random_net(SMALL), folder / "run")
    return export_bundle(checkpoint, folder / "two.bundle", target="cpu,portable").path


@pytest.fixture
def two(exported_twice: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported_twice, tmp_path / "two.bundle"))


def file_of(content: bytes) -> str:
    """The file of a graph, by what it takes and its version."""
    model = onnx.ModelProto.FromString(content)
    kind = "full" if len(model.graph.input[0].type.tensor_type.shape.dim) == 3 else "step"
    return f"{kind}.opset17.onnx" if model.opset_import[0].version == 17 else f"{kind}.onnx"


class FakeDevices:
    """An ONNX Runtime with a GPU and an NPU, all of whose sessions run on the CPU."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, dict[str, str]]] = []  # file, provider, options
        self.broken: set[str] = set()  # providers without their device, and files that fail to load
        self.real = ort.InferenceSession

    def session(self, content: bytes, options: ort.SessionOptions, providers: list[Any]) -> Any:
        name, given = providers[0]
        file = file_of(content)
        self.opened.append((file, name, given))
        if file in self.broken:
            raise RuntimeError("operator not supported")
        session = self.real(content, options, providers=[CPU])
        found = [CPU] if name in self.broken else [name, CPU]
        session.get_providers = lambda: found
        return session


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> FakeDevices:
    fake = FakeDevices()
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU, CUDA, NNAPI])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(driver, "load_library", FakeCuda)
    _preload.cache_clear()
    monkeypatch.setattr(ort, "InferenceSession", fake.session)
    on_host = ort.OrtValue.ortvalue_from_numpy
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", lambda array, *_: on_host(array))
    return fake


class TestRefusals:
    @pytest.mark.parametrize(
        ("provider", "install"), [("cuda", r": pip install .*\[gpu\]"), (NNAPI, "$"), ("npu", "$")]
    )
    def test_a_provider_that_is_not_here(self, exported: Path, provider: str, install: str) -> None:
        message = rf"provider '{provider}' is not in this onnxruntime .*, which has .*cpu{install}"
        for make in (open_bundle(exported).full, open_bundle(exported).stream):
            with pytest.raises(BackendError, match=message):
                make(provider=provider)

    @pytest.mark.parametrize(("provider", "name"), [("cuda", CUDA), (NNAPI, NNAPI)])
    def test_a_provider_without_its_device(
        self, exported: Path, devices: FakeDevices, provider: str, name: str
    ) -> None:
        devices.broken.add(name)
        with pytest.raises(BackendError, match=f"'{provider}': {name} found no usable device"):
            open_bundle(exported).full(provider=provider)

    def test_cuda_without_a_driver(
        self, exported: Path, devices: FakeDevices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(driver, "load_library", lambda: FakeCuda("cuInit", 803))
        with pytest.raises(BackendError, match=r"provider 'cuda' cannot run here: cuInit failed: .*\(803\)"):
            open_bundle(exported).stream(provider="cuda")

    def test_cuda_without_a_library(
        self, exported: Path, devices: FakeDevices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = "Failed to load libcublasLt.so.13: cannot open shared object file"
        monkeypatch.setattr(ort, "preload_dlls", lambda: print(said, "\nPlease follow"))
        with pytest.raises(BackendError, match=rf"cannot run here: {said} ?: pip install .*\[gpu\]"):
            open_bundle(exported).stream(provider="cuda")
        assert devices.opened == []

    def test_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(providers, "_installed", lambda _: "1.31.1")
        assert install_cuda().startswith("pip uninstall onnxruntime onnxruntime-gpu, then pip install ")
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        assert "use backend 'tensorrt'" in install_cuda()

    def test_a_graph_that_does_not_load(self, exported: Path, devices: FakeDevices) -> None:
        devices.broken.add("full.onnx")
        with pytest.raises(BundleError, match="cannot load it"):
            open_bundle(exported).full(provider="cuda")
        with pytest.raises(BackendError, match="provider 'cuda' with device_id=1 cannot load it"):
            open_bundle(exported).full(provider="cuda", provider_options={"device_id": "1"})

    def test_options_of_no_provider(self, exported: Path) -> None:
        for make in (open_bundle(exported).full, open_bundle(exported).stream):
            with pytest.raises(BackendError, match="provider_options were given without a provider"):
                make(provider_options={"device_id": "1"})


class TestSelection:
    def test_cuda_where_it_works(self, bundle: Path, devices: FakeDevices) -> None:
        open_bundle(bundle).full()
        assert [name for _, name, _ in devices.opened] == [CUDA]

    def test_the_cpu_where_it_does_not(self, bundle: Path, devices: FakeDevices) -> None:
        devices.broken.add(CUDA)
        with pytest.warns(UserWarning, match="runs on the CPU: provider .* found no usable device"):
            y = open_bundle(bundle).full()(SAMPLES)
        assert [name for _, name, _ in devices.opened] == [CUDA, CPU]
        np.testing.assert_array_equal(y, open_bundle(bundle).full(provider="cpu")(SAMPLES))

    def test_the_cpu_without_a_gpu(
        self, bundle: Path, devices: FakeDevices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(driver, "load_library", lambda: None)
        open_bundle(bundle).full()
        assert [name for _, name, _ in devices.opened] == [CPU]

    def test_cuda_computes_in_float32(self, exported: Path, devices: FakeDevices) -> None:
        open_bundle(exported).full(provider="cuda")
        open_bundle(exported).full(provider="cuda", provider_options={"use_tf32": "1", "device_id": "1"})
        assert [options for _, _, options in devices.opened] == [
            {"use_tf32": "0"},
            {"use_tf32": "1", "device_id": "1"},
        ]

    def test_the_options_of_any_provider_are_passed_on(self, exported: Path, devices: FakeDevices) -> None:
        options = {"NNAPI_FLAG_USE_FP16": "1"}
        open_bundle(exported).full(provider=NNAPI, provider_options=options)
        open_bundle(exported).stream(provider=NNAPI, provider_options=options)
        opened = [(file.partition(".")[0], *given) for file, *given in devices.opened]
        assert opened == [("full", NNAPI, options), ("step", NNAPI, options)]


class TestStreams:
    @pytest.mark.parametrize(("provider", "buffers"), [("cuda", 1), ("cpu", 1), (NNAPI, 2)])
    def test_update_in_place_where_that_is_known_to_work(
        self, two: Path, devices: FakeDevices, provider: str, buffers: int
    ) -> None:
        opened = open_bundle(two)
        stream = opened.stream(3, backend="onnxruntime", provider=provider)
        assert devices.opened[0][0] == "step.onnx"
        assert isinstance(stream._stepper, OnnxRuntimeStepper)
        in_place = [state for state in stream._stepper._states if state.spec.in_place]
        assert in_place and all(len({id(s.buffer(0)), id(s.buffer(1))}) == buffers for s in in_place)
        native = opened.stream(3, backend="native")
        half = SAMPLES.shape[-1] // 2
        for part in (SAMPLES[..., :half], SAMPLES[..., half:]):
            np.testing.assert_allclose(stream.run(part), native.run(part), rtol=0, atol=1e-5)
            stream.reset(rows=[1])
            native.reset(rows=[1])
        native.load_state(stream.save_state())

    def test_another_real_provider(self, two: Path) -> None:
        others = [name for name in ort.get_available_providers() if name != CPU]
        if not others:
            pytest.skip("this onnxruntime has the CPU alone")
        native = open_bundle(two).stream(3, backend="native")
        stream = open_bundle(two).stream(3, provider=others[-1])
        np.testing.assert_allclose(stream.run(SAMPLES), native.run(SAMPLES), rtol=0, atol=1e-5)


class TestForms:
    @pytest.mark.parametrize(
        ("release", "provider", "file"),
        [
            ("1.27.2", "cuda", "step.opset17.onnx"),
            ("1.28.0", "cuda", "step.onnx"),
            ("1.27.2", NNAPI, "step.onnx"),
        ],
    )
    def test_cuda_runs_whole_graphs(
        self,
        release: str,
        provider: str,
        file: str,
        two: Path,
        devices: FakeDevices,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(ort, "__version__", release)
        open_bundle(two).stream(provider=provider)
        assert [opened for opened, _, _ in devices.opened] == [file]

    def test_int8_queues_on_cuda(self, two: Path, devices: FakeDevices) -> None:
        opened = open_bundle(two)
        spec = opened.manifest.graphs["step"]["fp32"]
        states = tuple(replace(state, dtype="int8") for state in spec.states)
        opened.manifest.graphs["step"]["fp32"] = replace(spec, states=states)
        with pytest.raises(BackendError, match=r"no int8 queues.*'native'.*taps engine"):
            opened.stream(provider="cuda")

    def test_an_older_onnxruntime_runs_the_older_form(
        self, two: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ort, "__version__", "1.24.0")
        opened: list[str] = []
        session = ort.InferenceSession

        def spy(content: bytes, *args: Any, **kwargs: Any) -> Any:
            opened.append(file_of(content))
            return session(content, *args, **kwargs)

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


def test_a_session_of_a_graph(exported: Path) -> None:
    session = open_session(exported, open_bundle(exported).manifest.graph("full", "fp32"), 1, "cpu")
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_onnxruntime_writes_and_sends_nothing(tmp_path: Path) -> None:
    code = "from multires_edge.runtime.backends.providers import load_onnxruntime\nload_onnxruntime()"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
