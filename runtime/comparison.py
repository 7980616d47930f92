"""Comparing outputs with a reference: one measure of error, and one record of each check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# |y - reference| <= limit * max(1, |reference|), for each value. float16 has 11 bits: each of a few hundred
# roundings is up to 5e-4 of its value, and they add up at random.
LIMITS = {"fp32": 1e-5, "fp16": 5e-2}


@dataclass
class Check:
    """One parity check: its worst error over all values compared, and what that is held against.

    ``error`` is max |y - reference| / max(1, |reference|); NaN counts as infinite. ``curve`` is the
    same at each step, for checks over time.
    """

    name: str
    graph: str
    description: str
    limit: float
    error: float = 0.0
    values: int = 0
    worst: dict[str, Any] | None = None
    curve: list[float] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.values > 0 and self.error <= self.limit

    def compare(
        self, y: NDArray[Any], reference: NDArray[Any], *, start: int = 0, over_time: bool = False
    ) -> None:
        """Take in some outputs; their last axis is time if ``over_time``, from step ``start`` on."""
        if y.shape != reference.shape:
            raise AssertionError(f"output has shape {y.shape}, the reference {reference.shape}")
        error = np.abs(y - reference) / np.maximum(1.0, np.abs(reference))
        error = np.where(np.isnan(error), np.inf, error)
        self.values += error.size
        worst = float(error.max())
        if worst > self.error or self.worst is None:
            where = np.unravel_index(int(error.argmax()), error.shape)
            index = [int(i) for i in where]
            if over_time:
                index[-1] += start
            self.error = max(worst, self.error)
            self.worst = {
                "index": index,
                "value": float(y[where]),
                "reference": float(reference[where]),
            }
        if over_time:
            stop = start + error.shape[-1]
            self.curve += [0.0] * (stop - len(self.curve))
            for t, value in enumerate(error.reshape(-1, error.shape[-1]).max(0), start):
                self.curve[t] = max(self.curve[t], float(value))

    def line(self) -> str:
        """One line for a person, in the manner of ``-[✓] name: max error 1.2e-06 (limit 1e-05)``."""
        mark = "✓" if self.passed else "x"
        text = f"-[{mark}] {self.name}: max error {self.error:.1e} (limit {self.limit:.0e})"
        if not self.passed and self.worst:
            where = self.worst
            text += f", {where['value']:.8g} for {where['reference']:.8g} at {where['index']}"
        return text

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "graph": self.graph,
            "description": self.description,
            # JSON has no infinity.
            "error": self.error if np.isfinite(self.error) else None,
            "limit": self.limit,
            "passed": self.passed,
            "values": self.values,
            "worst": self.worst
            if self.worst is None or np.isfinite(self.worst["value"])
            else self.worst | {"value": repr(self.worst["value"])},
        }
