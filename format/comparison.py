"""Compare outputs with a reference: the measures of error, and the record of a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.parity import CheckResult, Measure, Worst


@dataclass(frozen=True)
class Limit:
    """The limit of an error.

    "max" is the error of the worst value, |y - reference| / max(1, |reference|). "mean" is the error of all
    values together, sum |y - reference| / sum |reference|.
    """

    value: float
    measure: Measure = "max"


# float16 has 11 bits: each of a few hundred roundings is up to 5e-4 of its value, and they add up at random.
# In int8 single values are far off where an activation saturates, so the limit is on the mean. It is several
# times the error of trained networks on noise, which they were not trained on.
LIMITS = {"fp32": Limit(1e-5), "fp16": Limit(5e-2), "int8": Limit(0.1, "mean")}


@dataclass
class Check:
    """One parity check: its error over all compared values, and its limit.

    NaN counts as infinite. ``worst`` is the value with the largest error, for either measure. ``curve`` is
    the largest |y - reference| / max(1, |reference|) at each step, for checks over time.
    """

    name: str
    graph: str
    description: str
    precision: str
    limit: Limit = field(init=False)  # that of the precision, unless another is set
    values: int = 0
    largest: float = 0.0
    total: float = 0.0
    reference_total: float = 0.0
    worst: Worst | None = None
    curve: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limit = LIMITS[self.precision]

    @property
    def error(self) -> float:
        """The error by the measure of the limit."""
        if self.limit.measure == "max":
            return self.largest
        return self.total / self.reference_total if self.reference_total else self.total

    @property
    def passed(self) -> bool:
        return self.values > 0 and self.error <= self.limit.value

    def compare(
        self,
        y: NDArray[Any],
        reference: NDArray[Any],
        *,
        start: int = 0,
        over_time: bool = False,
        terms: NDArray[np.float64] | None = None,
    ) -> None:
        """Add outputs to the check. Their last axis is time if ``over_time``, beginning at step ``start``.

        ``terms`` are the sums of magnitudes that add up to each value. Where terms cancel, rounding errors
        are in proportion to them, and not to the value.
        """
        if y.shape != reference.shape:
            raise AssertionError(f"output has shape {y.shape}, the reference {reference.shape}")
        size = np.abs(reference) if terms is None else terms
        error = np.abs(y - reference) / np.maximum(1.0, size)
        error = np.where(np.isnan(error), np.inf, error)
        self.values += error.size
        self.total += float(np.where(np.isfinite(y), np.abs(y - reference), np.inf).sum())
        self.reference_total += float(np.abs(reference).sum())
        worst = float(error.max())
        if worst > self.largest or self.worst is None:
            where = np.unravel_index(int(error.argmax()), error.shape)
            index = [int(i) for i in where]
            if over_time:
                index[-1] += start
            self.largest = max(worst, self.largest)
            self.worst = Worst(tuple(index), float(y[where]), float(reference[where]))
        if over_time:
            stop = start + error.shape[-1]
            self.curve += [0.0] * (stop - len(self.curve))
            for t, value in enumerate(error.reshape(-1, error.shape[-1]).max(0), start):
                self.curve[t] = max(self.curve[t], float(value))

    def line(self) -> str:
        """One line of text, such as ``-[✓] name: max error 1.2e-06 (limit 1e-05)``."""
        mark = "✓" if self.passed else "x"
        limit = self.limit
        text = f"-[{mark}] {self.name}: {limit.measure} error {self.error:.1e} (limit {limit.value:.0e})"
        if not self.passed and self.worst:
            where = self.worst
            text += f", {where.value:.8g} for {where.reference:.8g} at {list(where.index)}"
        return text

    def result(self) -> CheckResult:
        """For parity.json."""
        worst = self.worst
        if worst is not None and not np.isfinite(worst.value):
            worst = replace(worst, value=repr(worst.value))  # JSON has no infinity
        return CheckResult(
            name=self.name,
            graph=self.graph,
            description=self.description,
            error=self.error if np.isfinite(self.error) else None,
            measure=self.limit.measure,
            limit=self.limit.value,
            passed=self.passed,
            values=self.values,
            worst=worst,
        )


def failures(path: Path, checks: Sequence[Check]) -> str:
    """The message for a bundle whose parity failed, with a line for each check that did."""
    failed = [check.line() for check in checks if not check.passed]
    return f"{path}: parity failed\n" + "\n".join(failed)
