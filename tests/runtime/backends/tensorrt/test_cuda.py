"""The CUDA device and TensorRT's engines, up to the driver: what is asked of both, what is said without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from multires_edge.base.errors import BackendError
from multires_edge.runtime import Bundle
from multires_edge.runtime.backends.tensorrt.api import load_api
from multires_edge.runtime.backends.tensorrt.loaded import LoadedEngine
from multires_edge.runtime.backends.tensorrt.rings import RingDevice
from multires_edge.runtime.backends.tensorrt.runner import TensorRtRunner
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper
from multires_edge.runtime.full import FullGraph
from tests.conftest import random_inputs, variant, within_limit
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.bundles import FORMS, export
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install, plan_of

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tmp_path_factory.mktemp("cuda"), pool="window:5")


@pytest.fixture
def driver() -> FakeCuda:
    return FakeCuda()


def stepper_on(
    driver: FakeCuda,
    bundle: Bundle,
    form: str,
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    capturable: bool = True,
) -> TensorRtStepper:
    kind, in_place = FORMS[form]
    spec = bundle.manifest.graph(kind, "fp32")
    install(monkeypatch, driver, FakeTensorRt(driver, aliases=in_place, capturable=capturable))
    device = RingDevice()
    loaded = LoadedEngine(device, load_api("tensorrt"), plan_of(bundle.path / spec.file), spec.file)
    states = bundle.manifest.graph("step", "fp32").states
    return TensorRtStepper(device, loaded, spec, states, batch, n_tokens=None)


@pytest.mark.parametrize("fails", ["is_stream_capturable", "cuGraphInstantiateWithFlags"])
def test_steps_that_cannot_be_captured(
    fails: str, bundle: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.refuse(fails, 2)
    capturable = fails != "is_stream_capturable"
    with pytest.warns(UserWarning, match="runs without CUDA graphs, which is slower: ") as warned:
        stepper = stepper_on(driver, bundle, "taps", 2, monkeypatch, capturable=capturable)
        stream = bundle.stream_of(stepper, 2, "fp32")
        native, x = bundle.stream(2, backend="native"), random_inputs(variant(), 2, 70)
        assert within_limit(stream.step(x[..., 0]), native.step(x[..., 0]))
        assert within_limit(stream.run(x), native.run(x))
    assert len(warned) == 1 and "cuGraphLaunch" not in driver.calls


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_whole_way_to_the_driver_and_back(
    form: str, bundle: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
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


def test_a_step_is_one_launch(bundle: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    stepper = stepper_on(driver, bundle, "taps", 2, monkeypatch)
    assert driver.calls
    stepper.step()
    assert driver.calls == ["cuCtxSetCurrent", "cuGraphLaunch", "cuStreamSynchronize"]


def test_sixteen_steps_of_a_chunk_are_one_launch(
    bundle: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper = stepper_on(driver, bundle, "taps", 2, monkeypatch)
    samples = np.zeros((33, 2, 2), np.float32)
    stepper.run(samples)
    assert driver.calls
    stepper.run(samples)
    assert driver.calls == ["cuCtxSetCurrent", *["cuGraphLaunch", "cuStreamSynchronize"] * 3]


def test_a_dropped_stream_leaves_nothing(
    bundle: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper = stepper_on(driver, bundle, "step", 1, monkeypatch)
    stepper.run(np.zeros((17, 1, 2), np.float32))
    assert driver.alive["graph"] == 4 and driver.alive["memory"] > 0
    del stepper
    assert not driver.alive, driver.alive


class TestRefusals:
    @pytest.mark.parametrize("function", ["cuMemAlloc_v2", "cuMemHostAlloc"])
    def test_what_fails_is_named(
        self, function: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = FakeCuda(fail=function, status=2)
        with pytest.raises(BackendError, match=rf"{function[:10]}\w* failed: CUDA_ERROR_OUT_OF_MEMORY"):
            stepper_on(driver, bundle, "step", 1, monkeypatch)

    def test_a_step_that_fails(
        self, bundle: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stepper = stepper_on(driver, bundle, "step", 1, monkeypatch)
        driver.refuse("cuStreamSynchronize", 700)
        with pytest.raises(BackendError, match="cuStreamSynchronize failed"):
            stepper.step()

    def test_an_engine_that_tensorrt_does_not_read(
        self, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(monkeypatch, driver, FakeTensorRt(driver))
        with pytest.raises(
            BackendError, match=r"a\.engine: TensorRT 10\.16\.1 refuses it: magic tag does not match"
        ):
            LoadedEngine(RingDevice(), load_api("tensorrt"), b"else", "a.engine")


class TestWholeSequences:
    def graph(
        self,
        bundle: Bundle,
        driver: FakeCuda,
        monkeypatch: pytest.MonkeyPatch,
        check_sizes: Callable[..., None] = lambda **_: None,
    ) -> FullGraph:
        spec = bundle.manifest.graph("full", "fp32")
        install(monkeypatch, driver, FakeTensorRt(driver))
        device = RingDevice()
        plan = plan_of(bundle.path / spec.file, most=40)  # both the batch and the steps
        engine = LoadedEngine(device, load_api("tensorrt"), plan, spec.file)
        return FullGraph(TensorRtRunner(device, engine, spec, check_sizes), spec, n_tokens=None)

    def test_of_any_size_as_onnx_runtime_runs_them(
        self, bundle: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full, theirs = self.graph(bundle, driver, monkeypatch), bundle.full(backend="onnxruntime")
        for rows, steps in ((2, 9), (1, 40), (7, 3), (1, 1)):
            x = random_inputs(variant(), rows, steps)
            assert within_limit(full(x), theirs(x))
        del full
        assert not driver.alive, driver.alive

    def test_sizes_are_checked_first(
        self, bundle: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checked: list[dict[str, int]] = []
        full = self.graph(bundle, driver, monkeypatch, lambda **sizes: checked.append(sizes))
        full(random_inputs(variant(), 2, 9))
        assert checked == [{"batch": 2, "time": 9}]
