"""Metrics against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.base.errors import DataError
from multires_edge.runtime.evaluation.metrics import accuracy, auroc, auroc_by_class, bits_per_dimension


def test_accuracy_counts_the_largest_logits() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 2.0], [0.0, -1.0], [-5.0, -4.0]])
    assert accuracy(logits, np.array([1, 0, 1, 1])) == 0.75


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auroc_is_the_chance_of_the_right_order(records: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in records], np.float32)
    positive = np.array([kind for _, kind in records])
    if positive.all() or not positive.any():
        with pytest.raises(DataError, match="needs both"):
            auroc(scores, positive)
        return
    pairs = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    assert math.isclose(auroc(scores, positive.astype(np.uint8)), float(np.mean(pairs)))


def test_auroc_by_class_names_the_class_that_has_one_kind() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert auroc_by_class(scores, np.array([[0, 0], [1, 1]])) == [1.0, 0.0]
    with pytest.raises(DataError, match="class 1: all 2 records have the same label, 0"):
        auroc_by_class(scores, np.array([[0, 0], [1, 0]]))


def test_even_odds_of_256_levels_are_8_bits() -> None:
    pixels = 12
    log_likelihoods = np.full(5, pixels * math.log(1 / 256))
    assert math.isclose(bits_per_dimension(log_likelihoods, pixels), 8)
