"""The high-pass filters of a card, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from multires_edge.base.errors import CardError, StateError
from multires_edge.format.high_pass import HighPass

KINDS = [
    *(HighPass("butterworth", 0.25, order) for order in (1, 2, 3, 4)),
    HighPass("linear-phase", 0.5, delay=2),
]


def noise(steps: int, channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(0)
    walk = np.cumsum(random.standard_normal((steps, channels)), 0)
    return np.asarray(walk + np.array([5.0, -300.0, 0.0])[:channels])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize(("rate", "corner"), [(100, 0.25), (500, 0.05), (2000, 0.5), (50, 5)])
def test_butterworth_is_scipys(order: int, rate: float, corner: float) -> None:
    x = noise(3000)
    sos = signal.butter(order, corner, "high", fs=rate, output="sos")
    start = signal.sosfilt_zi(sos)[:, :, None] * x[0]
    expected = signal.sosfilt(sos, x, axis=0, zi=start)[0]
    found = HighPass("butterworth", corner, order).apply(x.T, rate).T
    assert np.abs(found - expected).max() < 1e-8 * np.abs(x).max()


@pytest.mark.parametrize("high_pass", KINDS, ids=str)
class TestEvery:
    def test_a_constant_gives_zeros(self, high_pass: HighPass) -> None:
        y = high_pass.apply(np.full((2, 700), [[300.0], [-7.0]]), 100)
        assert np.abs(y).max() < 1e-9

    def test_its_response(self, high_pass: HighPass) -> None:
        """Offsets and drift are gone, the frequencies of a QRS complex pass."""
        y = high_pass.apply(np.eye(1, 12_000, 6_000), 100)[0]
        gain = np.abs(np.fft.rfft(y))
        frequencies = np.fft.rfftfreq(12_000, 0.01)
        at = {f: gain[np.argmin(np.abs(frequencies - f))] for f in (0.01, high_pass.corner, 5.0, 20.0)}
        assert at[0.01] < 0.05
        assert at[high_pass.corner] == pytest.approx(0.5 if high_pass.delay else 0.5**0.5, abs=0.03)
        assert at[5.0] == pytest.approx(1, abs=0.01) and at[20.0] == pytest.approx(1, abs=0.01)

    @pytest.mark.slow
    @given(cuts=st.lists(st.integers(0, 900), max_size=8), saved=st.integers(0, 900))
    def test_chunks_and_states_give_the_same_bits(
        self, high_pass: HighPass, cuts: list[int], saved: int
    ) -> None:
        x = noise(900)
        whole = high_pass.filter(100, 3)
        expected = np.concatenate([whole.process(x), whole.finish()])
        running, parts, start = high_pass.filter(100, 3), [], 0
        for cut in sorted([*cuts, saved]):
            parts.append(running.process(x[start:cut]))
            start = cut
            if cut == saved:
                other = high_pass.filter(100, 3)
                other.restore(running.state())
                running = other
        parts += [running.process(x[start:]), running.finish()]
        assert np.array_equal(np.concatenate(parts), expected)
        assert len(expected) == len(x)

    def test_it_settles_anew(self, high_pass: HighPass) -> None:
        running = high_pass.filter(100, 3)
        running.process(noise(500))
        running.settle()
        other = high_pass.filter(100, 3)
        x = noise(300)[::-1].copy()
        assert np.array_equal(running.process(x), other.process(x))

    def test_states_of_other_filters_are_refused(self, high_pass: HighPass) -> None:
        running = high_pass.filter(100, 3)
        running.process(noise(500))
        for channels, state in ((2, running.state()), (3, np.zeros((3, 3)))):
            with pytest.raises(StateError, match="of another high-pass filter"):
                high_pass.filter(100, channels).restore(state)


def test_linear_phase_keeps_shapes() -> None:
    """A symmetrical wave stays symmetrical. A causal filter bends it."""
    wave = np.exp(-(((np.arange(3001) - 1500) / 30) ** 2))[None]
    for high_pass in KINDS:
        y = high_pass.apply(wave, 100)[0]
        assert (np.abs(y - y[::-1]).max() < 1e-9) == (high_pass.kind == "linear-phase")


@pytest.mark.parametrize(
    "arguments",
    [
        ("butterworth", 0.25),
        ("butterworth", 0.25, 1, 1.0),
        ("linear-phase", 0.5),
        ("linear-phase", 0.5, 2, 1.0),
    ],
)
def test_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(CardError, match="expected an order for butterworth, a delay for linear-phase"):
        HighPass(*arguments)  # type: ignore[arg-type]
