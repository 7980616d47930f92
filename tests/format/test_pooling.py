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
)

EXPECTED = "expected cumulative for all steps or window:N for the last N, 1 to 1,048,576"


@pytest.mark.parametrize(
    ("text", "pooling"),
    [
        ("cumulative", CUMULATIVE),
        ("window:250", Window(250)),
        (f"window:{MAX_WINDOW}", Window(MAX_WINDOW)),
        ("max", Max()),
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
    ["average", "max:3", "max+max", "cumulative+window:3", "max+", "none", "", ":"],
)
def test_bad(text: str) -> None:
    with pytest.raises(ConfigError, match=EXPECTED):
        parse_pooling(text)


def test_which_steps_the_logits_are_of() -> None:
    assert [CUMULATIVE.seen(steps) for steps in (1, 9)] == [1, 9]
    assert [Window(5).seen(steps) for steps in (1, 5, 9)] == [1, 5, 5]
    assert [Window(5).equals_full(steps) for steps in (1, 5, 6)] == [True, True, False]
    assert CUMULATIVE.equals_full(10**9)
