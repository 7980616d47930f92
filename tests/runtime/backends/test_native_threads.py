"""Several threads of the native engine: every result is that of one thread, to the last bit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import InputError
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.native_threads import in_threads, parts_of
from tests.conftest import SMALL, random_inputs
from tests.waiting import exit_code_of

BATCH = 5
X = random_inputs(SMALL, BATCH, 40)


@pytest.fixture(scope="module")
def opened(exported: Path) -> Bundle:
    return open_bundle(exported)


@given(st.integers(1, 300), st.integers(1, 300))
def test_every_row_has_one_thread(batch: int, threads: int) -> None:
    parts = parts_of(batch, threads)
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(batch))
    sizes = [part.stop - part.start for part in parts]
    assert len(sizes) == min(batch, threads) and min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


rows_of_a_batch = st.none() | st.lists(st.integers(0, BATCH - 1), max_size=BATCH)


@settings(max_examples=20, deadline=None)
@given(threads=st.integers(2, 7), rows=rows_of_a_batch, data=st.data())
def test_a_stream(opened: Bundle, threads: int, rows: list[int] | None, data: st.DataObject) -> None:
    one = opened.stream(BATCH, backend="native")
    several = opened.stream(BATCH, backend="native", threads=threads)
    for stream in (one, several):
        stream.run(X[..., :9])
    for _ in range(data.draw(st.integers(0, 3))):
        several.prepare()
        sample = np.ascontiguousarray(X[..., 9])
        assert np.array_equal(one.step(sample), several.step(sample))
    saved, same = one.save_state(rows), several.save_state(rows)
    assert saved.to_bytes() == same.to_bytes()
    for stream in (one, several):
        stream.reset(rows)
        stream.run(X[..., 20:22])
        stream.load_state(same, rows)
    assert np.array_equal(one.run(X), several.run(X))
    assert one.save_state().to_bytes() == several.save_state().to_bytes()


def test_bad_input_changes_no_row(opened: Bundle) -> None:
    stream = opened.stream(BATCH, backend="native", threads=2)
    before = stream.save_state().to_bytes()
    bad = np.array(X[..., 0])
    bad[-1, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        stream.step(bad)
    assert stream.save_state().to_bytes() == before


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_whole_sequences(opened: Bundle, threads: int) -> None:
    one, several = (opened.full(backend="native", threads=n) for n in (1, threads))
    assert np.array_equal(one(X), several(X))


def test_a_forked_process_has_all_threads(opened: Bundle) -> None:
    stream = opened.stream(BATCH, backend="native", threads=2)
    stream.run(X)
    child = os.fork()
    if child == 0:
        stream.run(X)
        os._exit(0)
    assert exit_code_of(child) == 0


def test_an_error_in_any_thread_is_raised() -> None:
    def fail() -> int:
        raise InputError("other thread")

    with pytest.raises(InputError, match="other thread"):
        in_threads([lambda: 1, fail])
