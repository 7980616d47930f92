"""What the backend asks of TensorRT when it loads an engine, and what it passes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import BackendError
from multires_edge.runtime import Bundle
from multires_edge.runtime.backends.tensorrt.sidecar import TensorRtRelease
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.bundles import put_engine
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install, plan_of

pytestmark = pytest.mark.native


def install_engine(
    monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt, bundle: Bundle, **changes: Any
) -> Path:
    """A step engine of a package's release in the bundle, and the package."""
    install(monkeypatch, trt.driver, trt)
    plan = plan_of(bundle.path / bundle.manifest.graph("step", "fp32").file)
    release = TensorRtRelease(trt.__name__, trt.__version__)
    return put_engine(bundle, "step", "tensorrt11", plan, tensorrt=release, **changes)


@pytest.mark.parametrize("function", ["cuMemAlloc_v2", "cuMemHostAlloc"])
def test_too_little_memory_leaves_nothing(
    function: str, copied: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_engine(monkeypatch, FakeTensorRt(driver), copied)
    driver.refuse(function, 2)
    with pytest.raises(BackendError, match=rf"{function[:10]}\w* failed: CUDA_ERROR_OUT_OF_MEMORY .*; stop"):
        copied.stream(2, backend="tensorrt")
    assert not driver.alive


def test_too_little_memory_for_tensorrt(
    copied: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = FakeTensorRt(driver)
    install_engine(monkeypatch, trt, copied)
    trt.too_little_memory = True
    words = r"tensorrt11\.engine: no execution context: .* OutOfMemory .*; the device has too little free"
    with pytest.raises(BackendError, match=words):
        copied.stream(2, backend="tensorrt")
    assert not driver.alive


def test_the_warnings_of_an_engine_that_loads(
    copied: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Using an engine plan file across different models of devices is not recommended"
    install_engine(monkeypatch, FakeTensorRt(driver, warning=text), copied)
    with pytest.warns(UserWarning, match=rf"step\.fp32\.tensorrt11\.engine: {text}: the engine runs only on"):
        copied.stream(2, backend="tensorrt")


def test_rtx_compiles_kernels_once(copied: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = FakeTensorRt(driver, "1.7.1", rtx=True)
    kernels = install_engine(monkeypatch, trt, copied).with_suffix(".kernels")
    sample = np.zeros((2, 2), np.float32)
    first = copied.stream(2, backend="tensorrt").step(sample)
    assert trt.compiled == 1 and kernels.read_bytes() == b"kernels"
    assert np.array_equal(copied.stream(2, backend="tensorrt").step(sample), first) and trt.compiled == 1
    kernels.write_bytes(b"of another driver")
    copied.stream(2, backend="tensorrt")
    assert trt.compiled == 2 and kernels.read_bytes() == b"kernels"


def test_a_bundle_that_cannot_be_written_to(
    copied: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = FakeTensorRt(driver, "1.7.1", rtx=True)
    kernels = install_engine(monkeypatch, trt, copied).with_suffix(".kernels")
    kernels.unlink(missing_ok=True)
    kernels.mkdir()  # as root may write everywhere
    copied.stream(2, backend="tensorrt")
    assert trt.compiled == 1
    kernels.rmdir()


def test_nothing_of_rtx_is_asked_of_tensorrt(
    copied: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = install_engine(monkeypatch, FakeTensorRt(driver), copied)
    copied.stream(2, backend="tensorrt")
    assert not path.with_suffix(".kernels").exists()
