"""The page's trace is what the network gets: behind the card's filter, with gaps where there is no value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.format.card import Preprocessing
from multires_edge.format.high_pass import HighPass
from multires_edge.runtime.ecg.frontend import FrontEnd
from multires_edge.runtime.ecg.gaps import GapPolicy
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from multires_edge.runtime.monitor.trace import Trace
from tests.runtime.conftest import beats

CAUSAL = HighPass("butterworth", 0.25, order=2)
CARD = Preprocessing(100, ("I", "II"), "mV", 0.05, 0.25, high_pass=CAUSAL)
FILTERS = [None, CAUSAL, HighPass("linear-phase", 0.5, delay=1.0)]
OFFSETS = np.array([3.0, -2.0])
filters = pytest.mark.parametrize("high_pass", FILTERS, ids=str)


def shown(trace: Trace, x: NDArray[Any], chunk: int = 7, lost: slice = slice(0)) -> NDArray[Any]:
    """The drawn samples (n, channels) in mV, NaN elsewhere. Samples of ``lost`` never arrive."""
    drawn = np.full(x.shape, np.nan)
    kept = np.ones(len(x), bool)
    kept[lost] = False
    for start in range(0, len(x), chunk):
        numbers = np.arange(start, min(start + chunk, len(x)))[kept[start : start + chunk]]
        if len(numbers):
            for first, samples in trace.take(int(numbers[0]), x[numbers]):
                drawn[first : first + len(samples)] = samples
    return drawn


def seen(card: Preprocessing, x: NDArray[Any], gap: str = "hold") -> NDArray[Any]:
    """What the network gets of samples (n, channels), in mV, from the last start of its stream."""
    signal = SignalSpec(card.channels, card.sampling_rate, card.unit, "a")
    front = FrontEnd(signal, card, every=10, gap=GapPolicy.parse(gap))
    front.add_mapped(x)
    front.finish()
    blocks = list(front.ready)
    last = max([i for i, block in enumerate(blocks) if block.restart], default=0)
    inputs = np.concatenate([block.x for block in blocks[last:] if block.x is not None], 1)
    return inputs.T * card.std + card.mean


@filters
def test_it_is_what_the_network_gets(high_pass: HighPass | None) -> None:
    """With an offset, a lead that is off for a while, a sentinel, and a packet that is lost."""
    card = replace(CARD, high_pass=high_pass)
    x = beats(12, 100) + OFFSETS
    x[300:360, 1] = np.nan
    x[500, 0] = -32.768
    x[700:780] = np.nan
    drawn = shown(Trace(card, 100, silence=None, missing=()), x, lost=slice(700, 780))
    network, there = seen(card, x), np.isfinite(drawn)
    late = 0 if high_pass is None or high_pass.delay is None else 100
    assert there[: 1200 - late].sum() == 2 * (1200 - late) - 60 - 1 - 2 * 80
    assert np.abs(drawn - network)[there].max() < 1e-6
    if high_pass is not None:
        assert np.nanmax(np.abs(np.nanmedian(drawn, 0))) < 0.1


@filters
def test_where_the_stream_starts_over_so_does_the_trace(high_pass: HighPass | None) -> None:
    card = replace(CARD, high_pass=high_pass)
    x = beats(12, 100) + OFFSETS
    x[300:420] = np.nan
    drawn = shown(Trace(card, 100, silence=1.0, missing=()), x)[420:]
    network, there = seen(card, x, "restart:1s"), np.isfinite(drawn)
    assert there.sum() >= 2 * (len(x) - 420 - 100)
    assert np.abs(drawn[: len(network)] - network)[there[: len(network)]].max() < 1e-6


def test_chunks_change_nothing() -> None:
    x = beats(6, 100) + 5
    x[100:200, 0] = np.nan
    several = [shown(Trace(CARD, 100, silence=1.0, missing=()), x, chunk) for chunk in (1, 33, 600)]
    assert np.array_equal(several[0], several[1], equal_nan=True)
    assert np.array_equal(several[0], several[2], equal_nan=True)


def test_millivolts_of_a_card_in_microvolt() -> None:
    card = replace(CARD, unit="uV", high_pass=None)
    trace = Trace(card, 100, silence=None, missing=())
    ((first, samples),) = trace.take(0, np.array([[1000.0, -500.0]]))
    assert first == 0 and np.allclose(samples, [[1, -0.5]])


def test_an_hour_without_samples_takes_no_memory() -> None:
    trace = Trace(CARD, 500, silence=None, missing=())
    trace.take(0, beats(1, 500))
    ((first, samples),) = trace.take(3600 * 500, beats(1, 500) + 4)
    assert (first, samples.shape) == (3600 * 500, (500, 2))
    assert (samples[0] == 0).all()
