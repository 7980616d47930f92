"""Metrics of a data set, computed from one row per record. This allows a bootstrap over records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Fraction of records whose largest logit (n, classes) is that of the true class, labels (n,)."""
    return float(np.mean(logits.argmax(-1) == labels))


def auroc(scores: NDArray[np.floating], positive: NDArray[Any]) -> float:
    """Area under the ROC curve: the probability that a positive record scores above a negative record.

    scores (n,), positive (n,) of 0 and 1; a tie counts half (Mann and Whitney 1947). Raises DataError
    if all records have the same label.
    """
    positive = positive.astype(bool)
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        raise DataError(
            f"all {len(positive)} records have the same label, {int(bool(n_positive))}; "
            "AUROC needs both: give more records"
        )
    _, value, ties = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(ties) - (ties - 1) / 2
    wins = mean_rank[value][positive].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * n_negative))


def auroc_by_class(scores: NDArray[np.floating], labels: NDArray[Any]) -> list[float]:
    """AUROC of each class, from scores and labels (n, classes). Their mean is the macro AUROC."""
    areas = []
    for i in range(labels.shape[1]):
        try:
            areas.append(auroc(scores[:, i], labels[:, i]))
        except DataError as error:
            raise DataError(f"class {i}: {error}") from error
    return areas


def bits_per_dimension(log_likelihoods: NDArray[np.floating], dimensions: int) -> float:
    """Mean over records of -log2 p(record) / dimensions; log_likelihoods (n,) in nats."""
    return float(-np.mean(log_likelihoods) / (dimensions * math.log(2)))
