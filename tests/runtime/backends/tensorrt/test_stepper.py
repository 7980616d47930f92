"""The TensorRT backend on the host, in each form of engine, against the native engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import BundleError, InputError, OverflowedError
from multires_edge.runtime import Bundle, Stream, StreamState
from multires_edge.runtime.backends.tensorrt.host import HostDevice, HostEngine
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import random_inputs, variant, within_limit
from tests.runtime.backends.tensorrt.bundles import FORMS, export, on_host

pytestmark = pytest.mark.slow

NETWORKS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "fading": ("cumulative", {}),
    "windowed, long filters": ("window:7", {"kernel_size": 4, "norm": "batch"}),
    "one scale": ("window:1", {"depth": 1}),
    "uniform": ("cumulative", {"tree_select": "uniform", "memory_size": 9}),
    "tokens": ("cumulative", {"encoder": "token"}),
    "autoregressive": (None, {"task": "autoregressive", "d_output": 30}),
    "per step": ("none", {"pooling": "none", "encoder_kernel_size": 4, "output_activation": "sigmoid"}),
    "max and window": ("max:5+window:5", {"pooling": "max+mean"}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pool, changes = NETWORKS[request.param]
    return export(tmp_path_factory.mktemp("taps"), pool=pool, **changes)


def device_bytes(device: HostDevice) -> int:
    return sum(memory.nbytes for memory in device._memory.values())


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inputs_of(bundle: Bundle, rows: int, steps: int) -> np.ndarray:
    model = bundle.manifest.model
    return random_inputs(variant(encoder=model.encoder), rows, steps)


def steps(stream: Stream, x: np.ndarray) -> np.ndarray:
    return np.stack([stream.step(np.ascontiguousarray(x[..., t])) for t in range(x.shape[-1])], -1)


def test_equals_the_native_engine(bundle: Bundle, form: str) -> None:
    """By steps and chunks in turns, past every ring's end, rows restarted at different positions."""
    x = inputs_of(bundle, 3, 300)
    ours, native = on_host(bundle, form, 3), bundle.stream(3, backend="native")
    at = 0
    for length, restart in ((1, 0), (10, 1), (65, 2), (3, 0), (130, 1), (64, 2), (27, 0)):
        chunk = x[..., at : at + length]
        y = steps(ours, chunk) if length < 20 else ours.run(chunk)
        assert within_limit(y, native.run(chunk)), at
        at += length
        ours.reset(rows=[restart])
        native.reset(rows=[restart])
    assert at == x.shape[-1]


@pytest.mark.parametrize("other", ["native", "onnxruntime"])
def test_states_move_between_backends(bundle: Bundle, form: str, other: str) -> None:
    x = inputs_of(bundle, 2, 90)
    ours, theirs = on_host(bundle, form, 2), bundle.stream(2, backend=other)
    # An odd number of steps: what has two buffers lies in the second.
    ours.run(x[..., :31])
    theirs.load_state(StreamState.from_bytes(ours.save_state().to_bytes()))
    assert within_limit(theirs.run(x[..., 31:60]), ours.run(x[..., 31:60]))
    ours.reset()
    ours.load_state(theirs.save_state())
    assert within_limit(ours.run(x[..., 60:]), theirs.run(x[..., 60:]))
    kept, their = ours.save_state().arrays, theirs.save_state().arrays
    for name, array in their.items():
        assert kept[name].dtype == array.dtype
        if not name.endswith("_error"):  # what a sum has lost to rounding, which depends on its order
            assert within_limit(kept[name], array), name


def test_half_precision(bundle: Bundle, form: str) -> None:
    x = inputs_of(bundle, 2, 100)
    theirs = bundle.stream(2, backend="onnxruntime", precision="fp16")
    assert within_limit(on_host(bundle, form, 2, "fp16").run(x), theirs.run(x), limit=1e-2)


def test_many_streams_are_as_many_alone(with_taps: Bundle, form: str) -> None:
    x = inputs_of(with_taps, 17, 70)
    together = on_host(with_taps, form, 17).run(x)
    for row in (0, 7, 16):
        assert within_limit(on_host(with_taps, form, 1).run(x[row : row + 1]), together[row : row + 1])


def test_a_far_position_is_as_good_as_a_near_one(with_taps: Bundle, form: str) -> None:
    x, stream, native = (
        inputs_of(with_taps, 2, 60),
        on_host(with_taps, form, 2),
        with_taps.stream(2, backend="native"),
    )
    saved = stream.save_state()
    saved.arrays["position"][:] = 31_536_000_123, 2**61
    stream.load_state(saved)
    native.load_state(saved)
    assert within_limit(stream.run(x), native.run(x))


def test_a_bad_sample_changes_nothing(with_taps: Bundle, form: str) -> None:
    x, stream = inputs_of(with_taps, 1, 20), on_host(with_taps, form, 1)
    stream.run(x)
    before = stream.save_state()
    with pytest.raises(InputError, match="NaN"):
        stream.step(np.full((1, 2), np.nan, np.float32))
    after = stream.save_state()
    assert all(np.array_equal(before.arrays[name], after.arrays[name]) for name in before.arrays)


def test_an_overflow_names_its_row(with_taps: Bundle, form: str) -> None:
    stream = on_host(with_taps, form, 2)
    x = np.zeros((2, 2), np.float32)
    x[1] = 3e38
    with pytest.raises(OverflowedError, match=r"rows \[1\]"):
        for _ in range(4):
            stream.step(x)


def placed(
    bundle: Bundle, form: str, batch: int, kind: str = "", of: Bundle | None = None
) -> tuple[HostDevice, TensorRtStepper]:
    """Streams on an engine of a form, of another bundle if ``of`` is given, as for graphs of a kind."""
    engine_kind, in_place = FORMS[form]
    device, source = HostDevice(), of or bundle
    engine = HostEngine(device, source.path, source.manifest.graph(engine_kind, "fp32"), in_place=in_place)
    spec, step = (bundle.manifest.graph(each, "fp32") for each in (kind or engine_kind, "step"))
    return device, TensorRtStepper(device, engine, spec, step.states, batch, None)


class TestMemory:
    def test_queues_in_place_lie_there_once(self, with_taps: Bundle) -> None:
        states = with_taps.manifest.graph("step", "fp32").states
        queues = 5 * sum(state.row_bytes for state in states if state.in_place)
        used = {}
        for form in FORMS:
            device, stepper = placed(with_taps, form, 5)
            used[form] = device_bytes(device)
            del stepper
        assert used["step"] - used["step in place"] == queues
        assert queues < used["taps"] < used["step"]


class TestEngines:
    def test_of_another_graph(self, with_taps: Bundle) -> None:
        with pytest.raises(BundleError, match=r"does not fit step\.onnx.*build it again"):
            placed(with_taps, "taps", 1, kind="step")

    def test_of_another_network(self, with_taps: Bundle, tmp_path: Path) -> None:
        other = export(tmp_path, pool="window:9", d_model=9)
        with pytest.raises(BundleError, match=r"its \w+ is an \w+ of float32 .*, expected an \w+ of float32"):
            placed(with_taps, "step in place", 1, of=other)


def test_verify_runs_the_taps_graph(with_taps: Bundle) -> None:
    checks = {check.name: check for check in verify_bundle(with_taps)}
    assert all(check.passed for check in checks.values())
    assert {"taps graph, every prefix", "fp16: taps graph, resumed"} <= set(checks)
