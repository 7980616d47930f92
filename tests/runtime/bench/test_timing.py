"""Taking turns, and what the engine's own clock covers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends import _native
from multires_edge.runtime.bench.timing import Budget, Timing, calls, time_in_turns
from tests.conftest import native_model, random_inputs, random_net, save_published, variant


class TestTurns:
    def test_each_is_called_in_every_round(self) -> None:
        seen: list[str] = []

        def timed_as(name: str, seconds: float):  # type: ignore[no-untyped-def]
            def timed(times: int) -> np.ndarray:
                seen.append(name)
                return np.full(times, seconds)

            return timed

        candidates = {"slow": timed_as("slow", 10.0), "quick": timed_as("quick", 1e-3)}
        timings = time_in_turns(candidates, Budget(rounds=4, seconds=0.005))
        # Two calls find out how long a call takes; a slow call gets no warming up.
        assert seen == ["slow"] * 2 + ["quick"] * 2 + ["slow", "quick"] * 4
        assert timings["slow"] == Timing(10.0, 10.0, 10.0, 4)
        assert timings["quick"].calls == 4 * 5

    def test_many_short_calls_warm_up_and_are_limited(self) -> None:
        asked: list[int] = []

        def timed(times: int) -> np.ndarray:
            asked.append(times)
            return np.zeros(times)

        assert time_in_turns({"nothing": timed}, Budget(1, 0.1))["nothing"].calls == 10_000
        assert asked == [1, 1, 1000, 10_000]

    def test_figures_of_a_timing(self) -> None:
        assert Timing.of(np.arange(101.0)) == Timing(50.0, 99.0, 100.0, 101)

    def test_calls_pass_arguments_and_count(self) -> None:
        given: list[object] = []
        seconds = calls(given.append, "x")(7)
        assert given == ["x"] * 7
        assert seconds.shape == (7,) and (seconds >= 0).all()


@pytest.fixture(scope="module", params=["linear", "token"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    from multires_edge.export import export_bundle

    net = random_net(variant(encoder=request.param))
    path = save_published(net, tmp_path_factory.mktemp("kind"))
    return export_bundle(path).path, str(request.param)


def native_states(bundle: Bundle, count: int, batch: int = 1) -> list[_native.State]:
    model = native_model(bundle.path / bundle.manifest.native["fp32"].file)
    return [_native.State(model, batch) for _ in range(count)]


class TestInsideTheEngine:
    def test_every_state_takes_every_step(self, kind: tuple[Path, str]) -> None:
        bundle, states = open_bundle(kind[0]), native_states(open_bundle(kind[0]), 3, batch=2)
        inputs = random_inputs(variant(encoder=kind[1]), 2, 25)
        samples = np.ascontiguousarray(np.moveaxis(inputs, -1, 0))
        seconds = _native.time_steps(states, samples)
        assert seconds.shape == (25,) and (seconds > 0).all()
        expected = bundle.stream(2, backend="native").run(inputs)[..., -1]
        for state in states:
            assert np.array_equal(state.output, expected)
            assert np.array_equal(state.parts()["position"], [25, 25])

    def test_inputs_of_another_kind_or_size(self, kind: tuple[Path, str]) -> None:
        states = native_states(open_bundle(kind[0]), 1)
        tokens = kind[1] == "token"
        wrong_size = np.zeros((4, 2), np.int64) if tokens else np.zeros((4, 1, 3), np.float32)
        with pytest.raises(RuntimeError, match="wrong size"):
            _native.time_steps(states, wrong_size)
        with pytest.raises(RuntimeError, match="no state"):
            _native.time_steps([], wrong_size)
        wrong_kind = np.zeros((4, 1), np.float32) if tokens else np.zeros((4, 1, 2), np.int64)
        with pytest.raises(RuntimeError, match="argument out of range"):
            _native.time_steps(states, wrong_kind)

    def test_rates_count_what_was_done(self) -> None:
        for asked, done in ((1, 512), (512, 512), (513, 1024), (1 << 20, 1 << 20)):
            seconds, read = _native.time_reading(asked, 5)
            assert read == done and seconds.shape == (5,) and (seconds > 0).all()
        for asked, done in ((1, 960), (960, 960), (961, 1920)):
            seconds, count = _native.time_multiply_adds(asked, 5)
            assert count == done and seconds.shape == (5,) and (seconds > 0).all()
