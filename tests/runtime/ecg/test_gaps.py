"""Gap policies: what a missing sample becomes, and where a silence ends a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import InputError
from multires_edge.runtime.ecg.gaps import GapPolicy, Gaps

MEAN = np.array([7.0, 8.0])
X = np.array([[np.nan, 1], [2, np.nan], [np.nan, 3]])


def gaps(policy: str, present: tuple[int, ...] = (0, 1)) -> Gaps:
    return Gaps(GapPolicy.parse(policy), 10.0, MEAN, present)


def silent(*samples: bool) -> NDArray[Any]:
    """Samples of two channels that have a value of the first one, or none."""
    return np.array([[np.nan if is_silent else 1.0, np.nan] for is_silent in samples])


def test_how_a_user_writes_them() -> None:
    assert GapPolicy.parse("hold") == GapPolicy("hold")
    assert GapPolicy.parse("restart") == GapPolicy("hold", 1.0)
    assert GapPolicy.parse("restart:200ms") == GapPolicy("hold", 0.2)
    for text in ("holds", "hold:1s", "restart:x", ""):
        with pytest.raises(InputError):
            GapPolicy.parse(text)


def test_hold_repeats_the_last_value_of_each_channel_and_begins_with_the_mean() -> None:
    filled = gaps("hold")
    assert filled.fill(X).tolist() == [[7, 1], [2, 1], [2, 3]]
    assert filled.fill(X[:1]).tolist() == [[2, 1]]
    filled.start_over()
    assert filled.fill(X[:1]).tolist() == [[7, 1]]


def test_zero_takes_the_mean() -> None:
    assert gaps("zero").fill(X).tolist() == [[7, 1], [2, 8], [7, 3]]


def test_a_silence_ends_the_stream_across_calls() -> None:
    listening = gaps("restart:0.3s")
    assert listening.silence(silent(False, True, True, False, True)) is None
    assert listening.silence(silent(True, True, False)) == 2
    assert gaps("hold").silence(silent(*[True] * 99)) is None


def test_only_leads_that_the_source_has_break_a_silence() -> None:
    x = np.array([[1.0, np.nan]] * 3)
    assert gaps("restart:0.3s").silence(x) is None
    assert gaps("restart:0.3s", present=(1,)).silence(x) == 3


def test_a_saved_state_goes_on() -> None:
    first, second = gaps("restart:0.3s"), gaps("restart:0.3s")
    first.fill(X)
    first.silence(silent(True, True))
    second.load(first.save())
    assert second.fill(X[:1]).tolist() == [[2, 1]]
    assert second.silence(silent(True)) == 1
