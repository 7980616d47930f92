"""Poolings as they are written, and what a stream remembers for them."""

from __future__ import annotations

import pytest

from multires_edge.base.errors import ConfigError
from multires_edge.format.pooling import (
    CUMULATIVE,
    MAX_WINDOW,
    Concatenation,
    Last,
    Max,
    Window,
    parse_pooling,
    pooled_as,
)

EXPECTED = "expected cumulative for all steps or window:N for the last N, 1 to 1,048,576"


@pytest.mark.parametrize(
    ("text", "pooling"),
    [
        ("cumulative", CUMULATIVE),
        ("window:250", Window(250)),
        (f"window:{MAX_WINDOW}", Window(MAX_WINDOW)),
        ("max", Max()),
        ("max:9", Max(9)),
        ("window:9+max:9", Concatenation((Window(9), Max(9)))),
        ("window:9+last", Concatenation((Window(9), Last()))),
    ],
)
def test_good(text: str, pooling: object) -> None:
    assert parse_pooling(text) == pooling and str(pooling) == text


@pytest.mark.parametrize(
    "text",
    ["window:0", "window:-1", "window:", "window", "window:1.5", "window:99999999999", "window:1048577"],
)
def test_a_window_out_of_range(text: str) -> None:
    with pytest.raises(ConfigError, match=EXPECTED):
        parse_pooling(text)


@pytest.mark.parametrize(
    "text",
    ["average", "max:0", "max+max:3", "last:3", "cumulative+window:3", "max+", "none", "", ":"],
)
def test_bad(text: str) -> None:
    with pytest.raises(ConfigError, match=EXPECTED):
        parse_pooling(text)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 100, 1000, MAX_WINDOW])
def test_the_maximum_of_a_window_is_of_few_windows(steps: int) -> None:
    """Each is at most as long as those before it in all, so none leaves out a step."""
    reach = 1
    for delay in Max(steps).delays:
        assert 1 <= delay <= reach
        reach += delay
    assert reach == steps and len(Max(steps).delays) == (steps - 1).bit_length()
    rows = sum(state.slots - 1 for state in Max(steps).states(4))
    assert rows == steps - 1


@pytest.mark.parametrize(
    ("own", "window"),
    [("cumulative", "window:9"), ("max", "max:9"), ("max+mean+last", "max:9+window:9+last")],
)
def test_a_window_is_of_the_networks_kind(own: str, window: str) -> None:
    assert pooled_as(parse_pooling(own), Window(9)) == parse_pooling(window)
    assert parse_pooling(window).over(None) == parse_pooling(own)
    assert parse_pooling(window).native_window == 9


def test_a_window_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match="window:9, but this network was trained with pooling by last"):
        pooled_as(Last(), Window(9))


def test_the_engine_has_one_window() -> None:
    assert parse_pooling("window:9+max").native_window is None
    assert parse_pooling("max+last").native_window == parse_pooling("last").native_window == 0


def test_which_steps_the_logits_are_of() -> None:
    assert [CUMULATIVE.seen(steps) for steps in (1, 9)] == [1, 9]
    assert [Window(5).seen(steps) for steps in (1, 5, 9)] == [1, 5, 5]
    assert [Window(5).equals_full(steps) for steps in (1, 5, 6)] == [True, True, False]
    assert CUMULATIVE.equals_full(10**9)
