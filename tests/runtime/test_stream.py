"""Streams: the same function at every step, strict about what they are fed, constant for ever."""

from __future__ import annotations

import contextlib
import gc
import json
import resource
import statistics
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from multires_edge.base.errors import (
    BackendError,
    ConfigError,
    InputError,
    MultiresError,
    OverflowedError,
    StateError,
)
from multires_edge.export import export_bundle
from multires_edge.format.fields import digest_of
from multires_edge.models import load_checkpoint
from multires_edge.runtime import Bundle, Stream, StreamState, open_bundle
from tests.conftest import SMALL, as_double, random_inputs, random_net, save_published, variant, within_limit
from tests.waiting import PATIENCE

X = random_inputs(SMALL, 3, 60)


@pytest.fixture(scope="module")
def opened(exported: Path) -> Bundle:
    return open_bundle(exported)


@pytest.fixture(params=["native", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stream(opened: Bundle, backend: str) -> Stream:
    return opened.stream(3, backend=backend)


@pytest.fixture(scope="module")
def stepwise(exported: Path) -> np.ndarray:
    net = load_checkpoint(exported.parent / "run" / "ckpt.pth").double()
    return net.stepwise(as_double(X)).numpy()


def steps(stream: Stream, x: np.ndarray) -> np.ndarray:
    return np.stack([stream.step(np.ascontiguousarray(x[..., t])) for t in range(x.shape[-1])], -1)


class TestStepping:
    def test_equals_the_reference_at_every_step(self, stream: Stream, stepwise: np.ndarray) -> None:
        assert within_limit(steps(stream, X), stepwise)

    @pytest.mark.parametrize("cuts", [[], [1], [7, 8, 30], list(range(1, 60))])
    def test_chunks_of_any_length_are_the_same(
        self, stream: Stream, stepwise: np.ndarray, cuts: list[int]
    ) -> None:
        chunks = [stream.run(chunk) for chunk in np.split(X, cuts, axis=-1)]
        assert within_limit(np.concatenate(chunks, axis=-1), stepwise)

    def test_full_graph_is_the_last_step(self, opened: Bundle, stream: Stream) -> None:
        assert within_limit(stream.run(X)[..., -1], opened.full()(X))

    @pytest.mark.parametrize("commits", [False, True])
    def test_looking_ahead_changes_not_a_bit(
        self, opened: Bundle, backend: str, stream: Stream, commits: bool
    ) -> None:
        plain = opened.stream(3, backend=backend)
        for t in range(40):
            x = np.ascontiguousarray(X[..., t])
            stream.prepare()
            assert np.array_equal(stream.step(x), plain.step(x))
            if commits:
                stream.commit()
            if t % 10 == 9:
                assert stream.save_state().to_bytes() == plain.save_state().to_bytes()
            if t % 10 == 5:
                stream.prepare()
                stream.load_state(plain.save_state([0, 2]), [0, 2])
            if t == 21:
                stream.reset([1])
                plain.reset([1])
        stream.prepare()
        assert np.array_equal(stream.run(X), plain.run(X))

    def test_an_output_stays_what_it_was(self, stream: Stream) -> None:
        first = stream.step(X[..., 0])
        kept = first.copy()
        stream.step(X[..., 1])
        assert np.array_equal(first, kept)

    def test_streams_share_nothing(self, opened: Bundle, backend: str) -> None:
        a, b, c = (opened.stream(3, backend=backend) for _ in range(3))
        a.run(X)
        assert np.array_equal(b.run(X), c.run(X))

    def test_threads_change_nothing_but_speed(self, opened: Bundle, stepwise: np.ndarray) -> None:
        assert within_limit(opened.stream(3, threads=2).run(X), stepwise)


class TestReset:
    def test_of_all(self, stream: Stream, stepwise: np.ndarray) -> None:
        stream.run(X[..., :13])
        stream.reset()
        assert within_limit(stream.run(X), stepwise)

    def test_of_some_rows(self, stream: Stream, stepwise: np.ndarray) -> None:
        stream.run(X[..., :13])
        stream.reset(rows=[0, 2])
        y = stream.run(np.stack([X[0, :, :20], X[1, :, 13:33], X[2, :, :20]]))
        assert within_limit(y[[0, 2]], stepwise[[0, 2], :, :20])
        assert within_limit(y[1], stepwise[1, :, 13:33])

    def test_of_no_row_changes_nothing(self, stream: Stream, stepwise: np.ndarray) -> None:
        stream.run(X[..., :13])
        stream.reset(rows=[])
        assert within_limit(stream.run(X[..., 13:]), stepwise[..., 13:])

    def test_rows_may_come_from_anything_that_gives_numbers(
        self, stream: Stream, stepwise: np.ndarray
    ) -> None:
        for rows in ((row for row in [0, 1, 2]), {0, 1, 2}, np.arange(3)):
            stream.run(X[..., :13])
            stream.reset(rows=rows)
            assert within_limit(stream.run(X), stepwise)
            stream.reset()

    @pytest.mark.parametrize("rows", [[3], [-1], [True, False], [0.0], 0, "0", [None]])
    def test_of_a_row_that_is_not_there(self, stream: Stream, rows: Any) -> None:
        with pytest.raises(InputError, match="expected"):
            stream.reset(rows=rows)


class TestSavedState:
    @pytest.mark.parametrize("at", [0, 1, 30, 31])
    def test_goes_on_where_it_was(self, opened: Bundle, stream: Stream, backend: str, at: int) -> None:
        if at:
            stream.run(X[..., :at])
        saved = stream.save_state()
        expected = stream.run(X[..., at:])
        other = opened.stream(3, backend=backend)
        other.load_state(StreamState.from_bytes(saved.to_bytes()))
        assert np.array_equal(other.run(X[..., at:]), expected)

    def test_is_a_copy(self, stream: Stream) -> None:
        stream.run(X[..., :5])
        saved = stream.save_state()
        before = saved.to_bytes()
        expected = stream.run(X)
        assert saved.to_bytes() == before
        stream.load_state(saved)
        assert np.array_equal(stream.run(X), expected)

    def test_of_one_row_costs_one_row(self, opened: Bundle, backend: str) -> None:
        stream = opened.stream(1000, backend=backend)
        stream.save_state([3])
        tracemalloc.start()
        try:
            saved = stream.save_state([3])
            stream.load_state(saved, [200])
            stream.reset([7])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2 * stream.state_bytes + 50_000 < 500 * stream.state_bytes

    def test_of_some_rows_moves_into_others(self, opened: Bundle, stream: Stream, backend: str) -> None:
        stream.run(X[..., :20])
        saved = stream.save_state(rows=[2, 0])
        expected = stream.run(X[..., 20:])
        other = opened.stream(3, backend=backend)
        other.run(X[..., :5])
        middle = other.save_state(rows=[1])
        other.load_state(saved, rows=[0, 1])
        y = other.run(X[[2, 0, 1], :, 20:])
        assert within_limit(y[:2], expected[[2, 0]])
        third = opened.stream(1, backend=backend)
        third.load_state(middle)
        assert third.save_state().arrays["position"].tolist() == [5]
        with pytest.raises(StateError, match="batch of 2, expected 1 as in rows"):
            other.load_state(saved, rows=[1])
        with pytest.raises(InputError, match="row numbers from 0 to 2"):
            other.save_state(rows=[3])

    @pytest.mark.parametrize("position", [-1, (1 << 62) + 1])
    def test_with_a_position_that_cannot_be(self, position: int, stream: Stream) -> None:
        saved = stream.save_state()
        saved.arrays["position"][1] = position
        with pytest.raises(StateError, match="position outside of 0"):
            stream.load_state(saved)

    @pytest.mark.slow
    def test_of_another_model_pooling_or_batch_is_refused(
        self, opened: Bundle, stream: Stream, tmp_path: Path
    ) -> None:
        path = save_published(random_net(SMALL, seed=5), tmp_path)
        other = open_bundle(export_bundle(path).path)
        with pytest.raises(StateError, match="of another model"):
            stream.load_state(other.stream(3).save_state())
        run = opened.path.parent / "run" / "ckpt.pth"
        windowed = open_bundle(export_bundle(run, tmp_path / "windowed", pool="window:4").path)
        with pytest.raises(StateError, match="of another model"):
            stream.load_state(windowed.stream(3).save_state())
        with pytest.raises(StateError, match="batch of 2, expected this stream's 3"):
            stream.load_state(opened.stream(2).save_state())

    @pytest.mark.slow
    @pytest.mark.parametrize("to", ["native", "onnxruntime"])
    def test_of_the_same_model_for_another_target_and_backend_is_welcome(
        self, opened: Bundle, stream: Stream, tmp_path: Path, to: str
    ) -> None:
        run = opened.path.parent / "run" / "ckpt.pth"
        older = open_bundle(export_bundle(run, tmp_path / "older", target="portable").path)
        stream.run(X[..., :20])
        elsewhere = older.stream(3, backend=to)
        elsewhere.load_state(stream.save_state())
        assert within_limit(elsewhere.run(X[..., 20:]), stream.run(X[..., 20:]))

    def test_misshapen_or_no_state(self, stream: Stream) -> None:
        saved = stream.save_state()
        arrays = saved.arrays | {"queue_00": saved.arrays["queue_00"][..., 1:]}
        with pytest.raises(StateError, match="state queue_00 is"):
            stream.load_state(StreamState(saved.model, 3, arrays))
        with pytest.raises(StateError, match="the state has"):
            stream.load_state(StreamState(saved.model, 3, {}))
        with pytest.raises(StateError, match="expected a StreamState"):
            stream.load_state(saved.arrays)  # type: ignore[arg-type]

    def test_damaged_bytes(self, stream: Stream) -> None:
        data = stream.save_state().to_bytes()
        for damaged in (b"", b"junk", data[:100], data[:-30], data[:400] + b"\xff" + data[401:]):
            with pytest.raises(StateError):
                StreamState.from_bytes(damaged)


class TestInputs:
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (X[:, :1, 0], r"shape \(3, 1\), expected \(3, 2\)"),
            (X[:2, :, 0], r"shape \(2, 2\)"),
            (X, r"shape \(3, 2, 60\)"),
            (X[..., 0].astype(np.float64), "dtype float64, expected float32"),
            (X[..., 0].astype(np.int64), "dtype int64"),
            ([[0.0, 0.0]] * 3, "is a list, expected a plain numpy array"),
            (
                np.full((3, 2), np.nan, np.float32),
                r"6 NaN or infinite values, the first at \(0, 0\)",
            ),
            (np.array([[0, 0], [0, np.inf], [0, -np.inf]], np.float32), r"the first at \(1, 1\)"),
        ],
    )
    def test_bad_ones_are_refused_and_leave_the_state(
        self, stream: Stream, stepwise: np.ndarray, x: np.ndarray, message: str
    ) -> None:
        stream.run(X[..., :10])
        with pytest.raises(InputError, match=message):
            stream.step(x)
        assert within_limit(stream.run(X[..., 10:]), stepwise[..., 10:])

    def test_layouts_that_numpy_allows(self, stream: Stream, stepwise: np.ndarray) -> None:
        wide = np.zeros((6, 4), np.float32)
        for t in range(0, 60, 3):
            wide[::2, ::2] = X[..., t + 2]
            for i, x in enumerate((np.asfortranarray(X[..., t]), X[..., t + 1], wide[::2, ::2])):
                assert within_limit(stream.step(x), stepwise[..., t + i])

    def test_an_empty_chunk(self, stream: Stream) -> None:
        with pytest.raises(InputError, match=r"shape \(3, 2, 0\), expected \(3, 2, time\)"):
            stream.run(X[..., :0])

    def test_finite_values_whose_sum_is_not(self, stream: Stream) -> None:
        x = np.zeros((3, 2), np.float32)
        x[0] = 3e38
        with pytest.raises(OverflowedError, match=r"reset\(rows=\[0\]\)"):
            stream.step(x)

    def test_an_overflowed_row_recovers_by_reset_and_the_others_go_on(
        self, stream: Stream, stepwise: np.ndarray
    ) -> None:
        x = X[..., :20].copy()
        x[1, :, 3] = 3e38
        with pytest.raises(OverflowedError, match=r"rows \[1\]"):
            stream.run(x)
        stream.reset(rows=[1])
        y = stream.run(np.stack([X[0, :, 20:40], X[1, :, :20], X[2, :, 20:40]]))
        assert within_limit(y[[0, 2]], stepwise[[0, 2], :, 20:40])
        assert within_limit(y[1], stepwise[1, :, :20])

    @pytest.mark.slow
    def test_tokens(self, tmp_path: Path, backend: str) -> None:
        path = save_published(random_net(variant(encoder="token")), tmp_path)
        stream = open_bundle(export_bundle(path).path).stream(2, backend=backend)
        assert stream.step(np.array([0, 10])).shape == (2, 3)
        for token in (-1, 11):
            with pytest.raises(InputError, match=f"contains token {token}, expected 0 to 10"):
                stream.step(np.array([0, token]))
        with pytest.raises(InputError, match="dtype float32, expected int64"):
            stream.step(np.zeros(2, np.float32))

    @pytest.mark.parametrize("batch", [1 << 29, (1 << 31) - 1])
    def test_a_batch_beyond_the_memory_is_refused_before_it_takes_any(
        self, opened: Bundle, backend: str, batch: int
    ) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(InputError, match=rf"batch is {batch:,}: its states of .* do not fit in memory"):
            opened.stream(batch, backend=backend)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (100 << 10)  # in kB

    @pytest.mark.parametrize("batch", [0, -1, 1.5])
    def test_a_batch_that_cannot_be(self, opened: Bundle, batch: int) -> None:
        with pytest.raises(InputError, match="batch is"):
            opened.stream(batch)

    def test_threads_that_cannot_be(self, opened: Bundle) -> None:
        with pytest.raises(InputError, match="threads is 0"):
            opened.stream(threads=0)


class TestBackends:
    def test_one_that_is_not_there(self, opened: Bundle) -> None:
        with pytest.raises(BackendError, match="expected auto or native, onnxruntime"):
            opened.stream(backend="abacus")

    def test_native_is_the_default_where_nothing_else_is_asked_for(self, opened: Bundle) -> None:
        native, other = opened.stream(3).run(X), opened.stream(3, backend="native").run(X)
        assert np.array_equal(native, other)
        assert not np.array_equal(native, opened.stream(3, provider="cpu").run(X))

    def test_native_has_no_provider(self, opened: Bundle) -> None:
        with pytest.raises(BackendError, match="does not support provider"):
            opened.full(backend="native", provider="cpu")

    def test_a_bundle_without_native_weights(self, bundle: Path) -> None:
        path = bundle / "manifest.json"
        entry = json.loads(path.read_text())
        entry["native"] = {}
        path.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
        opened = open_bundle(bundle)
        assert opened.stream().run(X[:1]).shape == (1, 3, 60)
        with pytest.raises(BackendError, match="no native weights in 'fp32'; it has: none"):
            opened.stream(backend="native")

    def test_a_precision_that_is_not_there(self, opened: Bundle) -> None:
        with pytest.raises(MultiresError, match=r"no step graph in 'int8'; it has: fp32"):
            opened.stream(precision="int8")


class TestPoolsOfOnesOwn:
    @pytest.mark.slow
    def test_are_those_of_a_bundle_exported_so(self, opened: Bundle, tmp_path: Path) -> None:
        run = opened.path.parent / "run" / "ckpt.pth"
        windowed = open_bundle(export_bundle(run, tmp_path / "windowed", pool="window:7").path)
        for one, other, pool in ((opened, windowed, "window:7"), (windowed, opened, "cumulative")):
            mine, own = one.stream(3, pool=pool), other.stream(3, backend="native")
            assert np.array_equal(mine.run(X[..., :30]), own.run(X[..., :30]))
            # A state says nothing of how its stream came by the pooling.
            mine.load_state(own.save_state())
            assert np.array_equal(mine.run(X[..., 30:]), own.run(X[..., 30:]))
            assert mine.state_bytes == own.state_bytes

    def test_that_a_graph_cannot_give(self, opened: Bundle) -> None:
        with pytest.raises(BackendError, match="export the bundle with --pool window:7"):
            opened.stream(pool="window:7", backend="onnxruntime")
        assert opened.stream(pool="cumulative", backend="onnxruntime").batch == 1

    def test_that_are_none(self, opened: Bundle, drawing: Path) -> None:
        with pytest.raises(ConfigError, match="pool is 'window:0', expected cumulative"):
            opened.stream(pool="window:0")
        with pytest.raises(InputError, match="has an output at every step"):
            open_bundle(drawing).stream(pool="cumulative")


def test_a_second_thread_is_turned_away(opened: Bundle, backend: str) -> None:
    stream = opened.stream(1, backend=backend)
    x = random_inputs(SMALL, 1, 100_000)
    refused: list[Exception] = []
    done = threading.Event()

    def intrude() -> None:
        while not refused and not done.is_set():
            try:
                stream.save_state()
            except StateError as error:
                refused.append(error)

    thread = threading.Thread(target=intrude, daemon=True)
    thread.start()
    try:
        limit = time.monotonic() + PATIENCE
        while not refused:
            assert time.monotonic() < limit, "no thread was turned away"
            with contextlib.suppress(StateError):
                stream.run(x[..., :2000])
    finally:
        done.set()
        thread.join(PATIENCE)
    assert "another thread" in str(refused[0])


def test_a_step_while_the_stream_is_in_use_is_turned_away(stream: Stream, stepwise: np.ndarray) -> None:
    with stream._ownership, pytest.raises(StateError, match="another thread"):
        stream.step(X[..., 0])
    with pytest.raises(InputError):
        stream.step(np.full((3, 2), np.nan, np.float32))
    # Neither has left the stream in use, or changed it.
    assert within_limit(steps(stream, X), stepwise)


@pytest.mark.slow
def test_memory_does_not_grow(opened: Bundle, backend: str) -> None:
    stream = opened.stream(1, backend=backend)
    x = random_inputs(SMALL, 1, 2000)

    def resident() -> int:
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    def a_round() -> int:
        """Bytes that 8,400 steps added to the process."""
        before = resident()
        for _ in range(4):
            stream.run(x)
            for t in range(100):
                stream.step(np.ascontiguousarray(x[..., t]))
        return resident() - before

    a_round()
    # A leak grows in every round; an allocator that takes a new arena, or gives one back, does so in one.
    # Leaking as little as 16 bytes at each step would show.
    assert statistics.median(a_round() for _ in range(5)) < 8_400 * 16


def test_bytes_of_state(opened: Bundle) -> None:
    slots = sum(2**j + 1 for j in range(SMALL.depth))
    queues = slots * SMALL.n_layers * SMALL.d_model * 4
    assert opened.stream().state_bytes == queues + 8 + 2 * SMALL.d_model * 4
