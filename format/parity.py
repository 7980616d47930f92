"""``parity.json``: the checks that an export made, with their figures and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from multires_edge.base.errors import BundleError
from multires_edge.format.fields import ABSENT, Line, Name, Natural, Text, parse_json, read_fields

PARITY_FILE = "parity.json"
Measure = Literal["max", "mean"]


@dataclass(frozen=True)
class Worst:
    """The value furthest off its reference; text where it is not finite."""

    index: tuple[Natural, ...]
    value: float | Line
    reference: float


@dataclass(frozen=True)
class CheckResult:
    """A check as parity.json has it; ``error`` is null where it is not finite."""

    name: Line
    graph: Line
    description: Line
    error: float | None
    measure: Measure
    limit: float
    passed: bool
    values: Natural
    worst: Worst | None

    def __post_init__(self) -> None:
        within = self.values > 0 and self.error is not None and self.error <= self.limit
        if self.passed != within:
            raise ValueError(f"passed is {self.passed}, but the error is {self.error} of {self.limit}")


@dataclass(frozen=True)
class Parity:
    """parity.json: the checks that the export made, and what it made them on.

    ``basis`` says what shows that the reference is the user's network.
    """

    passed: bool
    reference: Line
    basis: Line
    measures: dict[Name, Line]
    data: Text
    steps: Natural
    layer_receptive_field: Natural
    receptive_field: Natural
    covers_layer_receptive_field: bool
    covers_receptive_field: bool
    covers_window: bool | None
    checks: tuple[CheckResult, ...]
    quantization: dict[Name, Any] | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        if self.passed != all(check.passed for check in self.checks):
            raise ValueError(f"passed is {self.passed}, but its checks say otherwise")


def parse_parity(content: bytes, path: Path) -> Parity:
    """Read the content of parity.json. Raises BundleError with the path."""
    try:
        return read_fields(Parity, parse_json(content.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the checkpoint again") from error
