"""What is measured on a data set, from one row a record, so that records can be drawn again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Fraction of records (n, classes) whose largest logit is the one that labels (n,) name."""
    return float(np.mean(logits.argmax(-1) == labels))


def auroc(scores: NDArray[np.floating], positive: NDArray[Any]) -> float:
    """Area under the ROC curve: the chance that a positive record scores above a negative one.

    scores (n,), positive (n,) of 0 and 1; a tie counts half (Mann and Whitney 1947). Raises DataError
    when one of the two kinds is missing.
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
    """AUROC of each class, from scores and labels (n, classes); their mean is the macro AUROC."""
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
