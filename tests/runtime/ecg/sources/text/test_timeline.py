"""Times of devices: those that mean nothing, and those that mean a gap, a repetition or a new clock."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.format.fields import plain, read_fields
from multires_edge.runtime.ecg.sources.protocol import Missing, Note
from multires_edge.runtime.ecg.sources.text.timeline import Timeline, TimelineState

# Rate in Hz, and samples per line.
DEVICES = [(500, 1), (250, 25), (128, 1), (360, 360)]


class Seen:
    """What a timeline made of lines whose samples are numbered."""

    def __init__(self, rate: float, times: Iterable[float], size: int, *, save_at: int = -1) -> None:
        timeline, placed, self.count = Timeline(rate), [], 0
        for i, time in enumerate(times):
            if i == save_at:
                saved = read_fields(TimelineState, json.loads(json.dumps(plain(timeline.save()))))
                timeline = Timeline(rate)
                timeline.load(saved)
            placed += timeline.place(float(time), [[float(self.count + k)] for k in range(size)])
            self.count += size
        placed += timeline.finish()
        self.samples = [row[0] for item in placed if isinstance(item, list) for row in item]
        self.missing = sum(item.count for item in placed if isinstance(item, Missing))
        self.events = [(item.kind, item.details) for item in placed if isinstance(item, Note)]

    @property
    def untouched(self) -> bool:
        """Whether no sample is missing, dropped or moved, and no event was reported."""
        return self.all_there and not self.missing and not self.events

    @property
    def all_there(self) -> bool:
        return self.samples == list(range(self.count))


@pytest.fixture(params=DEVICES, ids=lambda device: f"{device[1]} at {device[0]} Hz")
def device(request: pytest.FixtureRequest) -> Any:
    return request.param


def regular(device: tuple[int, int], seconds: int = 30) -> NDArray[np.float64]:
    rate, size = device
    return np.arange(seconds * rate // size) * size / rate


class TestNothingHappened:
    @pytest.mark.parametrize(
        ("drift", "jitter"),
        [(0, 0), (0, 0.01), (0.002, 0), (0.002, 0.01), (-0.002, 0.01), (0.005, 0.003), (-0.005, 0)],
    )
    def test_drift_and_jitter(self, device: tuple[int, int], drift: float, jitter: float) -> None:
        times = regular(device)
        noise = np.random.default_rng(0).uniform(-jitter, jitter, len(times))
        assert Seen(device[0], times * (1 + drift) + noise, device[1]).untouched

    @pytest.mark.parametrize("step", [0.001, 0.01, 0.05])
    @pytest.mark.parametrize("start", [0.0, 0.0337])
    def test_clocks_that_count_in_steps(self, device: tuple[int, int], step: float, start: float) -> None:
        assert Seen(device[0], np.floor((regular(device) + start) / step) * step, device[1]).untouched

    @pytest.mark.parametrize("start", [0.0, 0.7])
    def test_whole_seconds(self, start: float) -> None:
        assert Seen(500, np.floor(regular((500, 1)) + start), 1).untouched

    def test_lines_that_are_sent_together(self) -> None:
        times = regular((500, 1))
        assert Seen(500, np.repeat(times[::50], 50), 1).untouched

    @pytest.mark.parametrize(
        ("start", "unit"), [(0, 1e3), (0, 1e6), (1.7e9, 1), (1.7e9, 1e3), (1.7e9, 1e6), (1.7e9, 1e9)]
    )
    def test_units_and_epochs(self, device: tuple[int, int], start: float, unit: float) -> None:
        assert Seen(device[0], np.round((start + regular(device)) * unit, 3), device[1]).untouched

    @pytest.mark.slow
    @given(st.lists(st.integers(1, 60), min_size=400, max_size=400))
    def test_irregular_packets(self, sizes: list[int]) -> None:
        timeline, number, samples = Timeline(250), 0, []
        for size in sizes:
            rows = [[float(number + k)] for k in range(size)]
            for item in timeline.place(number / 250, rows):
                assert isinstance(item, list)
                samples += item
            number += size
        assert [row[0] for row in samples] == list(range(len(samples)))


class TestSomethingHappened:
    @pytest.mark.parametrize("seconds", [0.15, 1.0, 60.0, 3599.0, 40_000.0])
    @pytest.mark.parametrize("jitter", [0, 0.01])
    def test_a_gap_is_one_event(self, device: tuple[int, int], seconds: float, jitter: float) -> None:
        times = regular(device)
        times += np.random.default_rng(0).uniform(-jitter, jitter, len(times))
        times[len(times) // 2 :] += seconds
        seen = Seen(device[0], times, device[1])
        assert seen.all_there and [kind for kind, _ in seen.events] == ["gap"]
        assert seen.missing == pytest.approx(seconds * device[0], abs=1 + 2.5 * jitter * device[0])

    def test_two_lost_samples_of_an_exact_clock(self) -> None:
        times = np.delete(regular((500, 1)), [7000, 7001])
        seen = Seen(500, times, 1)
        assert seen.all_there and (seen.missing, len(seen.events)) == (2, 1)

    @pytest.mark.parametrize("by", [3600, -3600, 7200, 1e9, -1e9, -20])
    def test_a_clock_that_was_set(self, device: tuple[int, int], by: float) -> None:
        times = regular(device)
        times[len(times) // 2 :] += by
        seen = Seen(device[0], times, device[1])
        assert seen.all_there and not seen.missing
        assert [kind for kind, _ in seen.events] == ["clock"] and f"{by:+.3f} s" in str(seen.events)

    @pytest.mark.parametrize("by", [3601, 3000, -3000, 1.5, -1.5])
    def test_one_wrong_time(self, device: tuple[int, int], by: float) -> None:
        times = regular(device)
        times[len(times) // 2] += by
        seen = Seen(device[0], times, device[1])
        assert seen.all_there and not seen.missing
        assert seen.events == [("clock", {"message": "1 wrong time"})]

    def test_times_without_meaning(self, device: tuple[int, int]) -> None:
        times = np.random.default_rng(0).uniform(0, 1e6, len(regular(device)))
        seen = Seen(device[0], times, device[1])
        assert len(seen.samples) > 0.99 * seen.count and len(seen.events) < 0.01 * seen.count

    @pytest.mark.parametrize("again", [2, 30])
    def test_repeated_lines_are_dropped(self, again: int) -> None:
        times = regular((250, 25), 60)
        timeline, samples = Timeline(250), []
        for i in [*range(300), *range(300 - again, 600)]:
            rows = [[float(25 * i + k)] for k in range(25)]
            samples += [
                r[0] for item in timeline.place(times[i], rows) if isinstance(item, list) for r in item
            ]
        assert samples == list(range(len(samples))) and len(samples) > 25 * 598

    @pytest.mark.slow
    @given(save_at=st.integers(0, 600), seed=st.integers(0, 99))
    def test_saved_anywhere_it_goes_on(self, save_at: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        times = regular((250, 25), 60) + draw.uniform(-0.005, 0.005, 600)
        for _ in range(5):
            times[draw.integers(600) :] += draw.choice([0.3, 5, -0.5, -10, 3600])
            times[draw.integers(600)] += draw.uniform(-100, 100)
        whole, cut = Seen(250, times, 25), Seen(250, times, 25, save_at=save_at)
        assert (cut.samples, cut.missing, cut.events) == (whole.samples, whole.missing, whole.events)
