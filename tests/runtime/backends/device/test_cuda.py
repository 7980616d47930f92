"""The CUDA device, up to the driver."""

from __future__ import annotations

import pytest

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.device.cuda import WAIT, CudaDevice
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.fake_tensorrt import install

pytestmark = pytest.mark.native


class TestWaiting:
    @pytest.mark.parametrize(("wait", "flags"), [("spin", 1), ("yield", 2), ("block", 4)])
    def test_as_the_user_says(self, wait: str, flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
        driver = FakeCuda()
        install(monkeypatch, driver)
        monkeypatch.setenv(WAIT, wait)
        CudaDevice().close()
        assert driver.fake_flags() == flags

    def test_as_the_driver_chooses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        driver = FakeCuda()
        install(monkeypatch, driver)
        monkeypatch.delenv(WAIT, raising=False)
        CudaDevice().close()
        assert "cuDevicePrimaryCtxSetFlags_v2" not in driver.calls

    def test_in_an_unknown_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, FakeCuda())
        monkeypatch.setenv(WAIT, "sleep")
        with pytest.raises(BackendError, match="MULTIRES_CUDA_WAIT is 'sleep', expected spin, yield, block"):
            CudaDevice()


def test_memory_that_kernels_use(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeCuda()
    install(monkeypatch, driver)
    device = CudaDevice()
    array, address = device.mapped((2, 3), "float32")
    assert array.shape == (2, 3) and not array.any() and address == array.ctypes.data
    device.close()
    assert not driver.alive


def test_a_size_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeCuda())
    words = r"cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY \(2\), of the fake driver; stop other programs"
    with pytest.raises(BackendError, match=words):
        CudaDevice().allocate(1 << 41)
