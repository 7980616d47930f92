"""The description of a signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SignalSpec:
    """The leads of a source in order, its rate in Hz, and one unit for all leads or one per lead."""

    leads: Sequence[str]
    rate: float = 500.0
    unit: str | Sequence[str] = "mV"
    name: str = "ecg"

    def identity(self) -> dict[str, Any]:
        """The values that must not differ if a saved state of the source is to fit."""
        return {"source": self.name, "leads": list(self.leads), "rate": self.rate}
