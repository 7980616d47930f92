"""The backend by its name: on a driver without a GPU, and without a driver."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.cli.main import main
from multires_edge.format.manifest import Manifest
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.cuda import backend
from multires_edge.runtime.backends.cuda.backend import CudaBackend
from multires_edge.runtime.backends.device import driver as cuda_driver
from multires_edge.runtime.backends.protocol import RunOptions
from multires_edge.runtime.backends.registry import backend_named
from tests.conftest import random_inputs, variant, within_limit
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
            make_stepper(exported, open_bundle(exported).manifest, RunOptions("int8"))

    def test_weights_that_changed(self, bundle: Path) -> None:
        opened = open_bundle(bundle)
        path = bundle / "native" / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(BundleError, match="changed since the bundle was opened"):
            make_stepper(bundle, opened.manifest, RunOptions())

    @pytest.mark.parametrize(
        ("fail", "status", "said"),
        [
            ("cuModuleLoadData", 222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222), .*; the kernels need"),
            ("cuMemAlloc_v2", 2, "CUDA_ERROR_OUT_OF_MEMORY (2), .*; stop other programs"),
            ("cuLaunchKernel", 1, "CUDA_ERROR_INVALID_VALUE (1), of the fake driver"),
        ],
    )
    def test_a_device_that_fails(
        self,
        fail: str,
        status: int,
        said: str,
        exported: Path,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        driver = FakeCuda(fail=fail, status=status)
        install(monkeypatch, driver)
        install_compiler(monkeypatch, tmp_path)
        pattern = f"^{fail.removesuffix('_v2')} failed: {said}".replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(BackendError, match=pattern):
            open_bundle(exported).stream(backend="cuda").step(np.zeros((1, 2), np.float32))
        gc.collect()
        assert not driver.alive


def make_stepper(folder: Path, manifest: Manifest, options: RunOptions) -> None:
    CudaBackend().make_stepper(folder, manifest, 1, options)
