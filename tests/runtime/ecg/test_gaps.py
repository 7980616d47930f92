"""Gap policies: what a missing sample becomes, and which gaps end a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import InputError, StateError
from multires_edge.runtime.ecg.gaps import GapPolicy, Hold, HoldState, Silence

MEAN = np.array([7.0, 8.0])
X = np.array([[np.nan, 1], [2, np.nan], [np.nan, 3]])


def silence(policy: str, present: tuple[int, ...] = (0, 1)) -> Silence:
    return Silence(GapPolicy.parse(policy), 10.0, present)


def silent(*samples: bool) -> NDArray[Any]:
    """Samples of two channels that have a value of the first one, or none."""
    return np.array([[np.nan if is_silent else 1.0, np.nan] for is_silent in samples])


def test_how_a_user_writes_them() -> None:
    assert GapPolicy.parse("hold") == GapPolicy("hold", None, 5.0)
    assert GapPolicy.parse("zero") == GapPolicy("zero", None, 5.0)
    assert GapPolicy.parse("restart") == GapPolicy("hold", 1.0, 1.0)
    assert GapPolicy.parse("restart:200ms") == GapPolicy("hold", 0.2, 0.2)
    for text in ("holds", "hold:1s", "restart:x", "restart:2min", ""):
        with pytest.raises(InputError):
            GapPolicy.parse(text)


class TestHold:
    def test_repeats_the_last_value_of_each_channel_and_begins_with_the_mean(self) -> None:
        hold = Hold("hold", MEAN)
        assert hold.process(X).tolist() == [[7, 1], [2, 1], [2, 3]]
        assert hold.process(X[:1]).tolist() == [[2, 1]]
        hold.start_over()
        assert hold.process(X[:1]).tolist() == [[7, 1]]

    def test_zero_takes_the_mean(self) -> None:
        assert Hold("zero", MEAN).process(X).tolist() == [[7, 1], [2, 8], [7, 3]]

    def test_a_saved_state_goes_on(self) -> None:
        first, second = Hold("hold", MEAN), Hold("hold", MEAN)
        first.process(X)
        second.load(first.save())
        assert second.process(X[:1]).tolist() == [[2, 1]]
        with pytest.raises(StateError, match="the state has 3 channels, expected 2"):
            second.load(HoldState(np.zeros(3), np.zeros(3, np.int64)))


class TestSilence:
    def test_ends_the_stream_across_calls(self) -> None:
        listening = silence("restart:0.3s")
        assert listening.after(silent(False, True, True, False, True)) is None
        assert listening.after(silent(True, True, False)) == 2
        assert silence("hold").after(silent(*[True] * 99)) is None

    def test_only_leads_that_the_source_has_break_it(self) -> None:
        x = np.array([[1.0, np.nan]] * 3)
        assert silence("restart:0.3s").after(x) is None
        assert silence("restart:0.3s", present=(1,)).after(x) == 3

    def test_of_samples_that_never_arrive(self) -> None:
        assert silence("hold").after_lost() == silence("zero").after_lost() == 50
        assert Silence(GapPolicy(), 10.0, [0]).after_lost() is None
        listening = silence("restart:0.3s")
        assert listening.after_lost() == 3
        listening.after(silent(False, True))
        assert listening.after_lost() == 2
        listening.start_over()
        assert listening.after_lost() == 3
