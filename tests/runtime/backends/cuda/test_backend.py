"""The backend by its name, on a driver without a GPU: by the native engine, and by plans in the bundle."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.cuda import backend
from multires_edge.runtime.backends.device import driver as cuda_driver
from multires_edge.runtime.backends.registry import backend_named
from tests.conftest import random_inputs, variant, within_limit
from tests.runtime.backends.device.fake_driver import FakeCuda, install_compiler

pytestmark = pytest.mark.native


@pytest.fixture(params=["engine", "plan"])
def opened(
    request: pytest.FixtureRequest, planned: Path, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Bundle:  # fmt: skip
    """A bundle on a machine with the native engine and a compiler, or with neither."""
    install_compiler(monkeypatch, tmp_path)
    if request.param == "plan":
        monkeypatch.setattr(backend, "_has_engine", lambda: False)
    return open_bundle(planned)


class TestStreams:
    @pytest.mark.slow
    @pytest.mark.parametrize("batch", [2, 70])
    def test_as_the_native_engine(self, batch: int, opened: Bundle, driver: FakeCuda) -> None:
        """Of 70 streams several share a block on 16 multiprocessors."""
        check_streams(opened, batch, None)
        assert not driver.alive, driver.alive

    def test_over_another_window(self, opened: Bundle, request: pytest.FixtureRequest) -> None:
        if "plan" in request.node.name:
            with pytest.raises(BackendError, match=r"for windows of 0 steps .*, not 3; install the native"):
                check_streams(opened, 1, "window:3")
        else:
            check_streams(opened, 1, "window:3")

    def test_whole_sequences(self, opened: Bundle) -> None:
        full, native = (opened.full(backend=name) for name in ("cuda", "native"))
        x = random_inputs(variant(), 3, 30)
        assert within_limit(full(x), native(x))

    def test_a_step_is_one_launch_and_one_wait(self, opened: Bundle, driver: FakeCuda) -> None:
        stream = opened.stream(2, backend="cuda")
        assert driver.calls
        stream.step(random_inputs(variant(), 2, 1)[..., 0])
        assert driver.calls == ["cuCtxSetCurrent", "cuLaunchKernel", "cuStreamSynchronize"]


def check_streams(bundle: Bundle, batch: int, pool: str | None) -> None:
    """Steps, chunks, a reset and a snapshot."""
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


class TestWhatIsMissing:
    def test_a_driver(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda_driver, "load_library", lambda: None)
        assert str(backend_named("cuda").missing()).startswith("no CUDA driver was found")
        with pytest.raises(BackendError, match="no CUDA driver was found"):
            open_bundle(exported).stream(backend="cuda")

    def test_the_compiler(
        self, exported: Path, planned: Path, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nothing(most: int) -> None:
            assert most == 12
            raise BackendError("no NVRTC")

        monkeypatch.setattr(backend, "find_nvrtc", nothing)
        cuda = backend_named("cuda")
        assert cuda.missing() == "no NVRTC"
        bundles = [open_bundle(path) for path in (exported, planned)]
        assert [cuda.unable(each.path, each.manifest) for each in bundles] == ["no NVRTC", None]

    def test_nothing(self, opened: Bundle) -> None:
        assert backend_named("cuda").missing() is None


class TestRefusals:
    def test_options(self, exported: Path) -> None:
        with pytest.raises(BackendError, match="does not support threads: it runs on the first device"):
            open_bundle(exported).stream(backend="cuda", threads=2)

    def test_a_precision_that_the_bundle_lacks(self, opened: Bundle) -> None:
        with pytest.raises(BundleError, match="'int8'"):
            opened.stream(backend="cuda", precision="int8")

    def test_weights_that_changed(self, bundle: Path, driver: FakeCuda) -> None:
        opened = open_bundle(bundle)
        path = bundle / "native" / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(BundleError, match="changed since the bundle was opened"):
            opened.stream(backend="cuda")

    @pytest.mark.parametrize(
        ("fail", "status", "said"),
        [
            ("cuModuleLoadData", 222, r"CUDA_ERROR_UNSUPPORTED_PTX_VERSION \(222\), .*; the kernels need"),
            ("cuMemAlloc_v2", 2, r"CUDA_ERROR_OUT_OF_MEMORY \(2\), .*; stop other programs"),
            ("cuLaunchKernel", 1, r"CUDA_ERROR_INVALID_VALUE \(1\), of the fake driver"),
        ],
    )
    def test_a_device_that_fails(
        self, fail: str, status: int, said: str, opened: Bundle, driver: FakeCuda
    ) -> None:
        driver.refuse(fail, status)
        with pytest.raises(BackendError, match=f"^{fail.removesuffix('_v2')} failed: {said}"):
            opened.stream(backend="cuda").step(np.zeros((1, 2), np.float32))
        gc.collect()
        assert not driver.alive
