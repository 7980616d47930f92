"""The backend by its name: on a driver without a GPU, and without a driver."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.cli.main import main
from multires_edge.export import export_bundle
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.cuda import backend
from multires_edge.runtime.backends.device import driver as cuda_driver
from multires_edge.runtime.backends.registry import backend_named
from tests.conftest import random_net, save_published, variant
from tests.runtime.backends.device.compiled_driver import build_driver, run_on_driver
from tests.runtime.backends.tensorrt.fakes import FakeCuda, install


@pytest.mark.slow
@pytest.mark.native
def test_streams_on_a_driver(exported: Path, tmp_path: Path) -> None:
    run_on_driver(build_driver(tmp_path), "tests.runtime.backends.cuda.on_driver", exported)


class TestWhatIsMissing:
    def test_a_driver(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda_driver, "load_library", lambda: None)
        assert str(backend_named("cuda").missing()).startswith("no CUDA driver was found")
        with pytest.raises(BackendError, match="no CUDA driver was found"):
            open_bundle(exported).stream(backend="cuda")
        assert (
            "-[x] stream on an NVIDIA GPU by one kernel: no CUDA" in CliRunner().invoke(main, "doctor").output
        )

    def test_the_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, FakeCuda())

        def nothing(most: int) -> None:
            assert most == 12
            raise BackendError("no NVRTC")

        monkeypatch.setattr(backend, "find_nvrtc", nothing)
        assert backend_named("cuda").missing() == "no NVRTC"

    def test_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, FakeCuda())
        monkeypatch.setattr(backend, "find_nvrtc", lambda most: most)
        assert backend_named("cuda").missing() is None


class TestRefusals:
    def test_options(self, exported: Path) -> None:
        with pytest.raises(BackendError, match="does not support threads: it runs on the first device"):
            open_bundle(exported).stream(backend="cuda", threads=2)

    def test_a_precision_that_the_bundle_lacks(self, exported: Path) -> None:
        with pytest.raises(BackendError, match=r"no native weights in 'int8'; it has: fp32"):
            backend.open_network(exported, open_bundle(exported).manifest, "int8", None)

    def test_a_maximum_of_a_window(self, tmp_path: Path) -> None:
        checkpoint = save_published(random_net(variant(pooling="max")), tmp_path)
        folder = export_bundle(checkpoint, pool="max:9").path
        with pytest.raises(BackendError, match="no maximum of a window; use backend native"):
            backend.open_network(folder, open_bundle(folder).manifest, "fp32", None)

    def test_weights_that_changed(self, bundle: Path) -> None:
        opened = open_bundle(bundle)
        path = bundle / "native" / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(BundleError, match="changed since the bundle was opened"):
            backend.open_network(bundle, opened.manifest, "fp32", None)

    def test_a_device_that_fails(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        driver = FakeCuda(fail="cuModuleLoadData", status=222)
        install(monkeypatch, driver)
        monkeypatch.setattr(backend, "find_nvrtc", lambda most: most)
        monkeypatch.setattr(backend, "compile_kernel", lambda *_: b"code\0")
        with pytest.raises(BackendError, match="cuModuleLoadData failed: CUDA_ERROR_UNSUPPORTED_PTX_VERSION"):
            open_bundle(exported).stream(backend="cuda")
        assert not any(driver.alive.values())
