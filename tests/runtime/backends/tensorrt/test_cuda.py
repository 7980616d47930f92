"""The CUDA device and TensorRT's engines, up to the driver: what is asked of both, what is said without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from multires_edge.base.errors import BackendError
from multires_edge.runtime import Bundle
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.api import load_api
from multires_edge.runtime.backends.tensorrt.loaded import LoadedEngine
from multires_edge.runtime.backends.tensorrt.rings import RingDevice
from multires_edge.runtime.backends.tensorrt.runner import TensorRtRunner
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper
from multires_edge.runtime.full import FullGraph
from tests.conftest import random_inputs, variant, within_limit
from tests.runtime.backends.device.fake_driver import ORIN, FakeCuda
from tests.runtime.backends.tensorrt.bundles import FORMS
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install, plan_of

PC = Gpu("NVIDIA GeForce RTX 4090", "8.9", 128, 24)
Make = Callable[..., TensorRtStepper]

pytestmark = pytest.mark.native


@pytest.fixture
def make(with_taps: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes streams of a form of engine for a batch."""

    def make(form: str, batch: int, *, capturable: bool = True) -> TensorRtStepper:
        kind, in_place = FORMS[form]
        spec, step = (with_taps.manifest.graph(each, "fp32") for each in (kind, "step"))
        install(monkeypatch, driver, FakeTensorRt(driver, aliases=in_place, capturable=capturable))
        device, plan = RingDevice(), plan_of(with_taps.path / spec.file)
        loaded = LoadedEngine(device, load_api("tensorrt"), plan, spec.file)
        return TensorRtStepper(device, loaded, spec, step.states, batch, n_tokens=None)

    return make


@pytest.mark.parametrize("fails", ["is_stream_capturable", "cuGraphInstantiateWithFlags"])
@pytest.mark.parametrize("gpu", [ORIN, PC])
def test_steps_that_cannot_be_captured(
    gpu: Gpu, fails: str, with_taps: Bundle, driver: FakeCuda, make: Make
) -> None:
    """They copy samples and outputs, unless host and device share their memory."""
    driver.have(gpu)
    driver.refuse(fails, 2)
    with pytest.warns(UserWarning, match="runs without CUDA graphs, which is slower: ") as warned:
        stepper = make("taps", 2, capturable=fails != "is_stream_capturable")
        stream = with_taps.stream_of(stepper, 2, "fp32")
        native, x = with_taps.stream(2, backend="native"), random_inputs(variant(), 2, 70)
        assert within_limit(stream.step(x[..., 0]), native.step(x[..., 0]))
        assert within_limit(stream.run(x), native.run(x))
    assert len(warned) == 1 and "cuGraphLaunch" not in driver.calls
    stepper.step()
    assert ("cuMemcpyHtoDAsync_v2" in driver.calls) == (gpu is PC)
    del stepper, stream
    assert not driver.alive, "memory that only the garbage collector would give back"


@pytest.mark.slow
@pytest.mark.parametrize(("form", "gpu"), [*((form, ORIN) for form in FORMS), ("taps", PC)])
def test_the_whole_way_to_the_driver_and_back(
    form: str, gpu: Gpu, with_taps: Bundle, driver: FakeCuda, make: Make
) -> None:
    driver.have(gpu)
    x = random_inputs(variant(), 3, 150)
    stream = with_taps.stream_of(make(form, 3), 3, "fp32")
    native = with_taps.stream(3, backend="native")
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


def test_a_step_and_sixteen_steps_of_a_chunk_are_one_launch_each(driver: FakeCuda, make: Make) -> None:
    stepper, samples = make("taps", 2), np.zeros((33, 2, 2), np.float32)
    assert driver.calls
    stepper.step()
    assert driver.calls == ["cuCtxSetCurrent", "cuGraphLaunch", "cuStreamSynchronize"]
    stepper.run(samples)
    assert driver.calls
    stepper.run(samples)
    assert driver.calls == ["cuCtxSetCurrent", *["cuGraphLaunch", "cuStreamSynchronize"] * 3]


def test_a_dropped_stream_leaves_nothing(driver: FakeCuda, make: Make) -> None:
    stepper = make("step", 1)
    stepper.run(np.zeros((17, 1, 2), np.float32))
    assert driver.alive["graph"] == 4 and driver.alive["memory"] > 0
    del stepper
    assert not driver.alive, driver.alive


class TestRefusals:
    def test_a_step_that_fails(self, driver: FakeCuda, make: Make) -> None:
        stepper = make("step", 1)
        driver.refuse("cuStreamSynchronize", 700)
        with pytest.raises(BackendError, match="cuStreamSynchronize failed"):
            stepper.step()

    def test_an_engine_that_tensorrt_does_not_read(
        self, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(monkeypatch, driver, FakeTensorRt(driver))
        words = r"a\.engine: TensorRT 10\.16\.1 refuses it: magic tag does not match"
        with pytest.raises(BackendError, match=words):
            LoadedEngine(RingDevice(), load_api("tensorrt"), b"else", "a.engine")


def test_whole_sequences_of_any_size(
    with_taps: Bundle, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ONNX Runtime runs them. Their sizes are checked first."""
    spec, checked = with_taps.manifest.graph("full", "fp32"), []
    install(monkeypatch, driver, FakeTensorRt(driver))
    device = RingDevice()
    plan = plan_of(with_taps.path / spec.file, most=40)  # both the batch and the steps
    engine = LoadedEngine(device, load_api("tensorrt"), plan, spec.file)
    runner = TensorRtRunner(device, engine, spec, lambda **sizes: checked.append(sizes))
    full, theirs = FullGraph(runner, spec, n_tokens=None), with_taps.full(backend="onnxruntime")
    for rows, steps in ((2, 9), (1, 40), (7, 3), (1, 1)):
        x = random_inputs(variant(), rows, steps)
        assert within_limit(full(x), theirs(x))
        assert checked.pop() == {"batch": rows, "time": steps} and not checked
    del full, runner
    assert not driver.alive, driver.alive
