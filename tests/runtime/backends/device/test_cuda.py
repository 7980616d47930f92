"""The CUDA device, up to the driver."""

from __future__ import annotations

import pytest

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.device.cuda import WAIT, CudaDevice
from tests.runtime.backends.device.fake_driver import FakeCuda

pytestmark = pytest.mark.native


@pytest.mark.parametrize(("wait", "flags"), [("spin", 1), ("yield", 2), ("block", 4), ("", None)])
def test_it_waits_as_the_user_says_or_the_driver_chooses(
    wait: str, flags: int | None, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAIT, wait)
    devices = CudaDevice(), CudaDevice()
    for device in devices:
        device.close()
    assert ("cuDevicePrimaryCtxSetFlags_v2" in driver.calls) == (flags is not None)
    assert flags is None or driver.fake_flags() == flags


def test_an_unknown_way_to_wait(driver: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT, "sleep")
    with pytest.raises(BackendError, match="MULTIRES_CUDA_WAIT is 'sleep', expected spin, yield, block"):
        CudaDevice()


def test_memory_that_kernels_use(driver: FakeCuda) -> None:
    device = CudaDevice()
    array, address = device.mapped((2, 3), "float32")
    assert array.shape == (2, 3) and not array.any() and address == array.ctypes.data
    device.close()
    assert not driver.alive


def test_a_size_beyond_32_bits(driver: FakeCuda) -> None:
    words = r"cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY \(2\), of the fake driver; stop other programs"
    with pytest.raises(BackendError, match=words):
        CudaDevice().allocate(1 << 41)
