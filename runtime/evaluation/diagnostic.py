"""Diagnostic accuracy of scores and of yes-or-no decisions: rates with intervals, thresholds, AUROC."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError

_Z = 1.959963984540054  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Rate:
    """``count`` of ``total``, with the 95 % interval of the probability; ``value`` is None without cases."""

    value: float | None
    count: int
    total: int
    interval: tuple[float, float]

    @classmethod
    def of(cls, count: int, total: int) -> Rate:
        """The rate with Wilson's score interval (J. Am. Stat. Assoc. 22, 1927).

        It keeps its coverage near 0 and 1 and for few cases.
        """
        if not total:
            return cls(None, count, total, (0.0, 1.0))
        p, n = count / total, total
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return cls(p, count, total, (max(0.0, middle - half), min(1.0, middle + half)))


def diagnostic_rates(
    decided: NDArray[np.bool_], positive: NDArray[np.bool_]
) -> tuple[Rate, Rate, Rate, Rate]:
    """Sensitivity, specificity, positive and negative predictive value of decisions (n,) about one class.

    ``positive`` (n,) are the true labels. Predictive values depend on the prevalence in these data.
    """
    hits = int((decided & positive).sum())
    clear = int((~decided & ~positive).sum())
    yes, positives, n = int(decided.sum()), int(positive.sum()), len(positive)
    return (
        Rate.of(hits, positives),
        Rate.of(clear, n - positives),
        Rate.of(hits, yes),
        Rate.of(clear, n - yes),
    )


def auroc(scores: NDArray[np.floating], positive: NDArray[Any]) -> float:
    """Area under the ROC curve: the probability that a positive record scores above a negative record.

    scores (n,), positive (n,) of 0 and 1; a tie counts half (Mann and Whitney 1947). Raises DataError
    if all records have the same label.
    """
    positive = _both_labels(positive, "AUROC needs both: give more records")
    n_positive = int(positive.sum())
    wins = _mean_ranks(scores)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * (len(positive) - n_positive)))


def auroc_interval(scores: NDArray[np.floating], positive: NDArray[Any]) -> tuple[float, float] | None:
    """The 95 % interval of :func:`auroc`, from the variance of DeLong et al. (Biometrics 44, 1988).

    It is symmetric on the logit scale, so it stays between 0 and 1. None where the method gives no interval:
    for an area of 0 or 1, or fewer than two records of a kind.
    """
    positive = _both_labels(positive, "AUROC needs both: give more records")
    n, m = int(positive.sum()), int((~positive).sum())
    area = auroc(scores, positive)
    if min(n, m) < 2 or not 0 < area < 1:
        return None
    ranks, ours = _mean_ranks(scores), np.empty(len(scores))
    for part in (positive, ~positive):
        ours[part] = _mean_ranks(scores[part])
    # The share of negatives below each positive, and of positives above each negative.
    below = (ranks - ours)[positive] / m
    above = 1 - (ranks - ours)[~positive] / n
    error = math.sqrt(below.var(ddof=1) / n + above.var(ddof=1) / m)
    middle, half = math.log(area / (1 - area)), _Z * error / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-(middle + sign * half))) for sign in (-1, 1))
    return low, high


def _mean_ranks(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1 on; equal scores share the mean of theirs."""
    _, value, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(ties) - (ties - 1) / 2)[value]
    return ranks


def youden_threshold(scores: NDArray[np.floating], positive: NDArray[Any]) -> float:
    """The threshold with the greatest sensitivity + specificity (Youden, Cancer 3, 1950).

    scores (n,), positive (n,) of 0 and 1; a score equal to the threshold is a yes. The threshold is half-way
    between two scores; among equally good thresholds it is the highest. Raises DataError if all records have
    the same label.
    """
    positive = _both_labels(positive, "a threshold needs both")
    values, which = np.unique(-scores, return_inverse=True)  # from the highest score down
    hits = np.cumsum(np.bincount(which, positive, len(values))) / positive.sum()
    alarms = np.cumsum(np.bincount(which, ~positive, len(values))) / (~positive).sum()
    best = int(np.argmax(hits - alarms))
    return float(-(values[best] + values[min(best + 1, len(values) - 1)]) / 2)


def _both_labels(positive: NDArray[Any], needs: str) -> NDArray[np.bool_]:
    positive = positive.astype(bool)
    if positive.all() or not positive.any():
        same = int(positive.any())
        raise DataError(f"all {len(positive)} records have the same label, {same}; {needs}")
    return positive
