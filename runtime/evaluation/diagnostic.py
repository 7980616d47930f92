"""Diagnostic accuracy of yes-or-no decisions: rates with intervals, and the choice of a threshold."""

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
    """``count`` of ``total``, with the 95 % interval of the probability.

    Wilson's score interval (J. Am. Stat. Assoc. 22, 1927) keeps its coverage near 0 and 1 and for few cases.
    ``value`` is None if there are no cases.
    """

    count: int
    total: int

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        if not self.total:
            return 0.0, 1.0
        p, n = self.count / self.total, self.total
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "count": self.count,
            "total": self.total,
            "interval": list(self.interval),
        }


@dataclass(frozen=True)
class DiagnosticAccuracy:
    """Accuracy of the decisions about one class. Predictive values depend on the prevalence in these data."""

    sensitivity: Rate
    specificity: Rate
    positive_predictive_value: Rate
    negative_predictive_value: Rate

    @classmethod
    def of(cls, decided: NDArray[np.bool_], positive: NDArray[np.bool_]) -> DiagnosticAccuracy:
        """Count decisions (n,) against the true labels (n,)."""
        hits = int((decided & positive).sum())
        clear = int((~decided & ~positive).sum())
        yes, positives, n = int(decided.sum()), int(positive.sum()), len(positive)
        return cls(Rate(hits, positives), Rate(clear, n - positives), Rate(hits, yes), Rate(clear, n - yes))


def youden_threshold(scores: NDArray[np.floating], positive: NDArray[Any]) -> float:
    """The threshold with the greatest sensitivity + specificity (Youden, Cancer 3, 1950).

    scores (n,), positive (n,) of 0 and 1; a score equal to the threshold is a yes. The threshold is half-way
    between two scores; among equally good thresholds it is the highest. Raises DataError if all records have
    the same label.
    """
    positive = positive.astype(bool)
    if positive.all() or not positive.any():
        raise DataError(
            f"all {len(positive)} records have the same label, {int(positive[0])}; a threshold needs both"
        )
    values, which = np.unique(-scores, return_inverse=True)  # from the highest score down
    hits = np.cumsum(np.bincount(which, positive, len(values))) / positive.sum()
    alarms = np.cumsum(np.bincount(which, ~positive, len(values))) / (~positive).sum()
    best = int(np.argmax(hits - alarms))
    return float(-(values[best] + values[min(best + 1, len(values) - 1)]) / 2)
