"""The CUDA device and TensorRT's engines, up to the driver: what is asked of both, what is said without."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import BackendError, MissingExtraError
from multires_edge.runtime import Bundle
from multires_edge.runtime.backends.tensorrt import loaded
from multires_edge.runtime.backends.tensorrt.api import Api, Log
from multires_edge.runtime.backends.tensorrt.cuda import CudaDevice, load_driver
from multires_edge.runtime.backends.tensorrt.host import HostEngine
from multires_edge.runtime.backends.tensorrt.loaded import LoadedEngine
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper
from tests.conftest import random_inputs, variant, within_limit
from tests.runtime.backends.tensorrt.bundles import FORMS, export
from tests.runtime.backends.tensorrt.fakes import FakeDriver, FakeTensorRt, Result


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tmp_path_factory.mktemp("cuda"), pool="window:5")


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


def api_of(trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch) -> Api:
    module: Any = trt
    module.__version__ = "10.16.1"
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    log = Log(module)  # of this fake, and no other test's
    monkeypatch.setattr(loaded, "log_of", lambda _: log)
    return Api("tensorrt", trt, (10, 16, 1))


def stepper_on(
    driver: FakeDriver,
    bundle: Bundle,
    form: str,
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
    **changes: bool,
) -> TensorRtStepper:
    kind, in_place = FORMS[form]
    spec = bundle.manifest.graph(kind, "fp32")
    engine = HostEngine(driver.host, bundle.path / spec.file, spec, in_place=in_place)
    device: Any = CudaDevice(driver)  # type: ignore[arg-type]
    trt = FakeTensorRt(engine, **changes)
    loaded = LoadedEngine(device, api_of(trt, monkeypatch), b"engine", spec.file)
    return TensorRtStepper(
        device, loaded, spec, bundle.manifest.graph("step", "fp32").states, batch, n_tokens=None
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_whole_way_to_the_driver_and_back(
    form: str, bundle: Bundle, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = random_inputs(variant(), 3, 150)
    stream = bundle.stream_of(stepper_on(driver, bundle, form, 3, monkeypatch), 3, "fp32")
    native = bundle.stream(3, backend="native")
    for at, steps in ((0, 1), (1, 70), (71, 2), (73, 77)):
        chunk = np.ascontiguousarray(x[..., at : at + steps])
        if steps > 2:
            y = stream.run(chunk)
        else:
            y = np.stack([stream.step(np.ascontiguousarray(chunk[..., t])) for t in range(steps)], axis=-1)
        assert within_limit(y, native.run(chunk))
        stream.reset(rows=[at % 3])
        native.reset(rows=[at % 3])
    native.load_state(stream.save_state())
    assert within_limit(native.run(x), stream.run(x))


def test_a_step_is_one_launch(bundle: Bundle, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    stepper = stepper_on(driver, bundle, "taps", 2, monkeypatch)
    del driver.calls[:]
    stepper.step()
    assert [name for name, _ in driver.calls] == ["cuCtxSetCurrent", "cuGraphLaunch", "cuStreamSynchronize"]


def test_a_dropped_stream_leaves_nothing(
    bundle: Bundle, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper = stepper_on(driver, bundle, "step", 1, monkeypatch)
    stepper.run(np.zeros((3, 1, 2), np.float32))
    assert driver.alive["graph"] == 4 and driver.alive["memory"] > 0
    del stepper
    assert not any(driver.alive.values()), driver.alive


def test_calls_have_the_arguments_of_the_real_binding(
    bundle: Bundle, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pytest.importorskip("cuda.bindings.driver", reason="needs the tensorrt extra")
    stepper = stepper_on(driver, bundle, "taps", 1, monkeypatch)
    stepper.run(np.zeros((3, 1, 2), np.float32))
    stepper.step()
    del stepper
    called = {name: len(arguments) for name, arguments in driver.calls}
    assert {"cuLaunchKernel", "cuGraphInstantiate", "cuMemFreeHost", "cuMemcpyDtoDAsync"} <= set(called)
    for name, count in called.items():
        signature = (getattr(real, name).__doc__ or "").splitlines()[0]
        found = re.fullmatch(rf"{name}\((.*)\)", signature)
        assert found is not None and len(found[1].split(",")) == count, signature
    for group in (FakeDriver.CUstream_flags, FakeDriver.CUstreamCaptureMode):
        for flag, value in vars(group).items():
            assert any(
                getattr(getattr(real, kind), flag, None) == value
                for kind in ("CUstream_flags", "CUstreamCaptureMode")
            )


class TestRefusals:
    def test_no_binding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        with pytest.raises(MissingExtraError, match=r"cuda\.bindings.*\[tensorrt\]"):
            load_driver()

    def test_no_driver_here(self) -> None:
        """The real binding on this machine, unless it has a GPU."""
        driver = pytest.importorskip("cuda.bindings.driver", reason="needs the tensorrt extra")
        if any(Path("/dev").glob("nvidia*")) or Path("/dev/nvhost-gpu").exists():
            pytest.skip("this machine has a GPU")
        with pytest.raises(BackendError, match="found no CUDA driver or GPU"):
            CudaDevice(driver)

    def test_no_device(self) -> None:
        driver: Any = FakeDriver(fail="cuInit")
        with pytest.raises(BackendError, match=r"found no CUDA driver or GPU.*cuInit failed.*no device"):
            CudaDevice(driver)

    @pytest.mark.parametrize("function", ["cuMemAlloc", "cuMemHostAlloc", "cuGraphInstantiate"])
    def test_what_fails_is_named(
        self, function: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = FakeDriver(fail=function, status=Result.CUDA_ERROR_OUT_OF_MEMORY)
        with pytest.raises(BackendError, match=rf"{function} failed: .*out of memory"):
            stepper_on(driver, bundle, "step", 1, monkeypatch)

    def test_a_step_that_fails(
        self, bundle: Bundle, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stepper = stepper_on(driver, bundle, "step", 1, monkeypatch)
        driver.fail = "cuStreamSynchronize"
        with pytest.raises(BackendError, match="cuStreamSynchronize failed"):
            stepper.step()

    def test_no_capture(self, bundle: Bundle, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(BackendError, match="cannot be captured"):
            stepper_on(driver, bundle, "step", 1, monkeypatch, capturable=False)
        assert [name for name, _ in driver.calls].count("cuStreamEndCapture") == 1

    def test_an_engine_that_tensorrt_does_not_read(
        self, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device: Any = CudaDevice(driver)  # type: ignore[arg-type]
        with pytest.raises(
            BackendError, match=r"a\.engine: TensorRT 10\.16\.1 refuses it: magic tag does not match"
        ):
            LoadedEngine(device, api_of(FakeTensorRt(None), monkeypatch), b"else", "a.engine")


def test_a_tensorrt_that_knows_no_aliases_gets_two_buffers(
    bundle: Bundle, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = random_inputs(variant(), 1, 40)
    stepper = stepper_on(driver, bundle, "step", 1, monkeypatch, aliases=False)
    y = bundle.stream_of(stepper, 1, "fp32").run(x)
    assert within_limit(y, bundle.stream(1, backend="native").run(x))
