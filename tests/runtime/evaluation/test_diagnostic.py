"""Rates, their intervals, thresholds, and AUROC, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from multires_edge.base.errors import DataError
from multires_edge.runtime.evaluation.diagnostic import (
    Rate,
    auroc,
    auroc_interval,
    diagnostic_rates,
    youden_threshold,
)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_are_wilsons(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(method="wilson")
    assert Rate.of(*counts).interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_rate_of_nothing_says_nothing() -> None:
    assert Rate.of(0, 0) == Rate(None, 0, 0, (0.0, 1.0))


def test_accuracy_counts_the_four_cells() -> None:
    truth = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    decided = np.array([1, 1, 0, 1, 0, 0, 0, 0], bool)
    assert diagnostic_rates(decided, truth) == (Rate.of(2, 3), Rate.of(4, 5), Rate.of(2, 3), Rate.of(4, 5))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auroc_is_the_chance_of_the_right_order(records: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in records], np.float32)
    positive = np.array([kind for _, kind in records])
    if positive.all() or not positive.any():
        with pytest.raises(DataError, match=rf"same label, {int(positive[0])}; AUROC needs both"):
            auroc(scores, positive)
        return
    pairs = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    assert math.isclose(auroc(scores, positive.astype(np.uint8)), float(np.mean(pairs)))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=4, max_size=40))
def test_intervals_of_auroc_are_delongs(records: list[tuple[int, bool]]) -> None:
    """By the definition: the components of every record, from all pairs."""
    scores = np.array([score for score, _ in records], float)
    positive = np.array([kind for _, kind in records])
    if positive.all() or not positive.any():
        return
    pairs = np.sign(scores[positive][:, None] - scores[~positive]) / 2 + 0.5
    area, found = pairs.mean(), auroc_interval(scores, positive)
    if min(pairs.shape) < 2 or area in (0, 1):
        assert found is None
        return
    variance = pairs.mean(1).var(ddof=1) / len(pairs) + pairs.mean(0).var(ddof=1) / pairs.shape[1]
    half = 1.959963984540054 * math.sqrt(variance) / (area * (1 - area))
    logits = math.log(area / (1 - area)) + np.array([-half, half])
    assert found == pytest.approx(tuple(1 / (1 + np.exp(-logits))), abs=1e-9)


class TestYouden:
    @given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=40))
    def test_no_threshold_is_better(self, cases: list[tuple[int, bool]]) -> None:
        scores, truth = np.array([s for s, _ in cases]) / 20, np.array([t for _, t in cases])
        if truth.all() or not truth.any():
            with pytest.raises(DataError, match="same label"):
                youden_threshold(scores, truth)
            return

        def index(threshold: float) -> float:
            decided = scores >= threshold
            return float(decided[truth].mean() - decided[~truth].mean())

        chosen = index(youden_threshold(scores, truth))
        assert chosen == pytest.approx(max(map(index, [*scores, 2])), abs=1e-12)

    def test_lies_half_way_between_the_scores_that_it_parts(self) -> None:
        assert youden_threshold(np.array([0.1, 0.3, 0.7, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(0.5)
