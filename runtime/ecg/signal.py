"""What a device says of its signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SignalSpec:
    """What a device gives: its leads in order, samples a second, and one unit, or one a lead."""

    leads: Sequence[str]
    rate: float = 500.0
    unit: str | Sequence[str] = "mV"
    name: str = "ecg"

    def identity(self) -> dict[str, Any]:
        """What must be the same for a saved state of the source to fit, whatever kind of source it is."""
        return {"source": self.name, "leads": list(self.leads), "rate": self.rate}
