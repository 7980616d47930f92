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
from tests.conftest import random_inputs, random_net, save_published, variant, within_limit
from tests.runtime.backends.device.fake_driver import FakeCuda, install_compiler
from tests.runtime.backends.tensorrt.fake_tensorrt import install

pytestmark = pytest.mark.native


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "pool"), [(2, None), (70, None), (1, "window:3")])
def test_streams_as_the_native_engine(
    batch: int, pool: str | None, exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Steps, chunks, a reset and a snapshot. Of 70 streams several share a block on 16 multiprocessors."""
    driver = FakeCuda()
    install(monkeypatch, driver)
    install_compiler(monkeypatch, tmp_path)
    bundle = open_bundle(exported)
    stream, native = (bundle.stream(batch, backend=name, pool=pool) for name in ("cuda", "native"))
    x = random_inputs(variant(), batch, 40)
    for t in range(5):
        assert within_limit(stream.step(x[..., t]), native.step(x[..., t])), t
    stream.reset(rows=[batch - 1])
    native.reset(rows=[batch - 1])
    assert within_limit(stream.run(x), native.run(x))
    native.load_state(stream.save_state())
    stream.reset(rows=[batch - 1])
    stream.load_state(native.save_state(rows=[batch - 1]), rows=[batch - 1])
    native.load_state(stream.save_state(rows=[0]), rows=[0])
    assert within_limit(stream.run(x), native.run(x))
    del stream
    assert not driver.alive, driver.alive


def test_whole_sequences(exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, FakeCuda())
    install_compiler(monkeypatch, tmp_path)
    full, native = (open_bundle(exported).full(backend=name) for name in ("cuda", "native"))
    x = random_inputs(variant(), 3, 30)
    assert within_limit(full(x), native(x))


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
        assert not driver.alive
