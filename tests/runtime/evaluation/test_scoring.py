"""Metrics on any choice of records, and bootstrap intervals of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.diagnostic import auroc
from multires_edge.runtime.evaluation.scoring import (
    Accuracy,
    BitsPerDimension,
    MacroAuroc,
    bootstrap,
    interval,
    metric_for,
)
from tests.conftest import variant

RANDOM = np.random.default_rng(0)


def test_values_are_of_the_rows_asked_for() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]]
    metric = Accuracy(np.array([0, 1, 0, 1]))
    assert metric.value(logits) == 0.5
    assert metric.value(logits, np.array([0, 0, 1])) == 1
    assert metric.value(logits, np.array([2, 3, 3, 0])) == 0.25


def test_accuracy_counts_the_largest_logits() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 2.0], [0.0, -1.0], [-5.0, -4.0]])
    assert Accuracy(np.array([1, 0, 1, 1])).value(logits) == 0.75


def test_even_odds_of_256_levels_are_8_bits() -> None:
    pixels = 12
    log_likelihoods = np.full(5, pixels * math.log(1 / 256))
    assert math.isclose(BitsPerDimension(pixels).value(log_likelihoods), 8)


def test_macro_auroc_is_the_mean_of_the_classes() -> None:
    scores, labels = RANDOM.standard_normal((20, 2)), RANDOM.integers(0, 2, (20, 2))
    metric = MacroAuroc(labels, ["a", "b"])
    rows = np.arange(3, 20)
    expected = [auroc(scores[rows, i], labels[rows, i]) for i in range(2)]
    assert metric.value(scores, rows) == pytest.approx(np.mean(expected))
    assert list(metric.by_class(scores)) == ["a", "b"]
    opposite = MacroAuroc(np.array([[0, 0], [1, 1]]), ["a", "b"])
    assert opposite.by_class(np.array([[0.0, 1.0], [1.0, 0.0]])) == {"a": 1.0, "b": 0.0}


def test_one_output_has_no_number_of_the_true_class() -> None:
    """Zeros would be an accuracy of 1, and ones out of range."""
    model = variant(d_output=1)
    x = RANDOM.standard_normal((4, 2, 5))
    with pytest.raises(DataError, match=r"one output; expected labels \(n, 1\)"):
        metric_for(model, None, Dataset(Path("data.npz"), x, labels=np.zeros(4, int)))
    labels = np.array([[0], [1], [1], [0]])
    metric = metric_for(model, None, Dataset(Path("data.npz"), x, labels=labels))
    assert metric.value(np.array([[-1], [2], [1], [0]])) == 1


@pytest.mark.parametrize("kind", [list, tuple])
def test_the_names_of_the_classes_must_agree(kind: type) -> None:
    model = variant(d_output=2)
    x, labels = RANDOM.standard_normal((2, 2, 5)), np.eye(2, dtype=int)
    data = Dataset(Path("data.npz"), x, labels=labels, classes=["a", "b"])
    assert metric_for(model, kind(["a", "b"]), data).name == "auroc_macro"
    with pytest.raises(DataError, match="classes are a, b, the bundle has b, a"):
        metric_for(model, kind(["b", "a"]), data)


def test_a_drop_is_for_the_worse() -> None:
    assert Accuracy(np.zeros(1)).drop(0.7, 0.9) == pytest.approx(0.2)
    assert BitsPerDimension(8).drop(4.5, 4.4) == pytest.approx(0.1)


class TestBootstrap:
    def test_of_an_accuracy_is_binomial(self) -> None:
        """n draws with replacement of a p: variance p (1 - p) / n."""
        right = np.arange(200) < 140
        logits = np.stack([right, ~right], axis=1).astype(float)
        values = bootstrap(Accuracy(np.zeros(200, int)), [logits], 2000)[:, 0, 0]
        assert values.mean() == pytest.approx(0.7, abs=0.005)
        assert values.std() == pytest.approx(np.sqrt(0.7 * 0.3 / 200), rel=0.1)
        low, high = interval(values)
        assert ((values >= low) & (values <= high)).mean() == pytest.approx(0.95, abs=0.01)

    def test_is_paired_and_seeded(self) -> None:
        logits, labels = RANDOM.standard_normal((50, 3)), RANDOM.integers(0, 3, 50)
        values = bootstrap(Accuracy(labels), [logits, logits], 50)
        assert (values[:, 0] == values[:, 1]).all() and values.std() > 0
        assert (bootstrap(Accuracy(labels), [logits], 50)[:, 0] == values[:, 0]).all()
        assert (bootstrap(Accuracy(labels), [logits], 50, seed=1)[:, 0] != values[:, 0]).any()

    def test_draws_again_without_a_class_but_not_for_ever(self) -> None:
        scores = RANDOM.standard_normal((6, 1))
        some = MacroAuroc(np.array([[1], [1], [0], [0], [0], [0]]), ["a"])
        assert np.isfinite(bootstrap(some, [scores], 300)).all()
        none = MacroAuroc(np.zeros((6, 1), int), ["a"])
        with pytest.raises(DataError, match="so rare among 6 records"):
            bootstrap(none, [scores], 10)
