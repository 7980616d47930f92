"""A piece that is read alone is that of a recording that was read from its start."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.format.card import Preprocessing
from multires_edge.format.high_pass import HighPass
from multires_edge.runtime.ecg.sources.opening import read_through
from multires_edge.runtime.ecg.sources.protocol import Missing, Samples, SignalSpec
from multires_edge.runtime.ecg.sources.recordings.record import Record, RecordSource
from multires_edge.runtime.evaluation.pieces import Recording, RecordPieces
from tests.runtime.conftest import beats

FILTERS = [None, HighPass("butterworth", 2.0, order=2), HighPass("linear-phase", 0.5, delay=1.0)]
X = beats(120, 250) + np.array([3.0, -2.0])
GAPS = st.lists(st.tuples(st.integers(0, 110), st.integers(1, 4000), st.booleans()), max_size=4)


@settings(max_examples=15)
@given(GAPS, st.sampled_from(FILTERS), st.sampled_from([100, 128, 250]), st.data())
def test_pieces_in_any_order(
    gaps: list[tuple[int, int, bool]], high_pass: HighPass | None, rate: float, data: st.DataObject
) -> None:
    x, lost, end = X[: round(120 * rate)].copy(), list[tuple[int, int]](), 0
    for second, length, is_lost in sorted(gaps):
        start, stop = max(end, round(second * rate)), min(round(second * rate) + length, len(x))
        if not is_lost:
            x[start:stop, second % 2] = np.nan
        elif start < stop:
            lost.append((start, stop))
        end = max(end, stop)
    signal = SignalSpec(["I", "II"], rate, "mV", "a")
    read = list[int]()

    def parts(start: int = 0) -> Iterator[Samples | Missing]:
        read.append(start)
        return read_through(RecordSource(Record(signal, len(x), lambda a, b: x[a:b], gaps=lost)), start)

    card = Preprocessing(100, ("I", "II"), "mV", 0.05, 0.25, high_pass=high_pass)
    recordings = [Recording(signal, parts, len(x))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_order = RecordPieces(recordings, card, 700)[:]
        pieces = RecordPieces(recordings, card, 700)
        for row in data.draw(st.lists(st.integers(0, len(pieces) - 1), max_size=6)):
            assert np.array_equal(pieces[row : row + 1][0], in_order[row])
        read.clear()
        fresh = RecordPieces(recordings, card, 700)
        assert np.array_equal(fresh[len(fresh) - 1 :][0], in_order[-1])
    assert read[-1] > 80 * rate
