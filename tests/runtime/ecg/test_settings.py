"""Durations, pooling and other options as a user writes them."""

from __future__ import annotations

import pytest

from multires_edge.base.errors import InputError
from multires_edge.format.pooling import CUMULATIVE, Window
from multires_edge.runtime.ecg.settings import Pool, StreamOptions, parse_duration, whole_steps
from multires_edge.runtime.ecg.thresholds import Threshold


@pytest.mark.parametrize(
    ("text", "seconds"), [("0.5s", 0.5), ("500ms", 0.5), (".5", 0.5), (2, 2), ("2min", 120), ("1h", 3600)]
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text, "every") == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "0", "nan", "1d", "1e9h", float("inf")])
def test_durations_that_are_none(text: str | float) -> None:
    with pytest.raises(InputError, match="every is"):
        parse_duration(text, "every")


def test_whole_steps() -> None:
    assert whole_steps(0.7, 100, "every") == 70
    with pytest.raises(InputError, match="whole number of samples at 100 Hz"):
        whole_steps(0.005, 100, "every")


def test_pools() -> None:
    assert Pool.parse("bundle", 100) == Pool()
    assert Pool.parse("window:10s", 100) == Pool(Window(1000))
    assert Pool.parse("reset:10s", 100) == Pool(CUMULATIVE, 1000)
    for text in ("windows:1s", "window", "reset:", "window:0s", "average", "window:1000"):
        with pytest.raises(InputError):
            Pool.parse(text, 100)
    with pytest.raises(InputError, match=r"window is 3h, expected 10485\.8 s or less at 100 Hz"):
        Pool.parse("window:3h", 100)


def test_without_a_pool_a_stream_forgets() -> None:
    """Cumulative decisions of a stream that never ends would never change again."""
    assert Pool.parse(None, 100, CUMULATIVE) == Pool.parse(None, 100) == Pool(Window(1000))
    assert Pool.parse(None, 100, Window(500)).suits(Window(500)) == Pool()


def test_a_pool_that_the_bundle_has_is_not_asked_for() -> None:
    assert Pool(Window(1000)).suits(Window(1000)) == Pool()
    # The mean since a reset is that of a window which is no shorter.
    assert Pool(CUMULATIVE, 1000).suits(Window(1000)) == Pool(None, 1000)
    assert Pool(CUMULATIVE, 1000).suits(Window(999)) == Pool(CUMULATIVE, 1000)


def test_thresholds_are_read_once() -> None:
    read = Threshold("A", 0.8, 0.6)
    assert StreamOptions(thresholds=["A=0.8:0.6", read]).parsed_thresholds() == [read, read]
    with pytest.raises(InputError, match="expected LABEL=ON"):
        StreamOptions(thresholds=["A"]).parsed_thresholds()
