"""``device_report.json``: what the script found on a device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from multires_edge.base.errors import BundleError
from multires_edge.format.fields import (
    ABSENT,
    Between,
    Count,
    Document,
    Line,
    Name,
    Natural,
    Sha256,
    Text,
)
from multires_edge.format.specs import Kind, Precision
from multires_edge.runtime.backends.tensorrt.sidecar import Sidecar
from multires_edge.runtime.kit.description import BundleId

Time = Annotated[float, Between(0, 1e12)]


@dataclass(frozen=True)
class Place:
    """Where a value is off, that value (text if it is not finite) and its reference."""

    row: Natural
    index: tuple[Natural, ...]
    value: float | Line
    reference: float
    step: Natural | None = field(default=None, metadata=ABSENT)


@dataclass(frozen=True)
class Check:
    """One check. ``error`` is None if it is not finite; a check of files has a ``message`` instead."""

    name: Line
    tensor: Line
    passed: bool
    error: float | None = None
    measure: Literal["max", "mean"] | None = None
    limit: float | None = None
    values: Natural = 0
    at: Place | None = None
    message: Line | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        if (self.message is None) != (self.measure is not None and self.limit is not None):
            raise ValueError("a check needs a measure and a limit, or a message")

    def line(self) -> str:
        """One line of text. A failed check names the tensor, step and row."""
        head = f"-[{'✓' if self.passed else 'x'}] {self.name}: {self.tensor}"
        if self.message is not None:
            return f"{head} {self.message}"
        error = "not finite" if self.error is None else f"{self.measure} error {self.error:.1e}"
        tail = f"{error} (limit {self.limit:.0e})"
        if self.passed:
            return f"{head}, {tail}"
        at = self.at
        if at is None:
            return f"{head} is off, {tail}"
        place = f"step {at.step}, row {at.row}, {list(at.index)}"
        return f"{head} is off at {place}: {at.value}, expected {at.reference:.8g}, {tail}"


@dataclass(frozen=True)
class Timing:
    """Latencies of calls, in microseconds."""

    graph: Kind
    precision: Precision
    streams: Count
    how: Line
    calls: Count
    p50_us: Time
    p99_us: Time
    max_us: Time
    mean_us: Time
    time_steps: Count | None = field(default=None, metadata=ABSENT)

    def line(self) -> str:
        """One line of text."""
        return (
            f"    {self.precision} {self.graph} x {self.streams}, {self.how}: p50 {self.p50_us:,.1f} us, "
            f"p99 {self.p99_us:,.1f} us, max {self.max_us:,.1f} us"
        )


@dataclass(frozen=True)
class Clock:
    """A clock in the units of the device's files. ``locked``: the minimum equals the maximum."""

    min: Line
    current: Line
    max: Line
    locked: bool


@dataclass(frozen=True)
class Machine:
    """Facts that affect the measured times. ``absent`` names those that were not found."""

    machine: Line
    system: Line
    python: Line
    numpy: Line
    cores: Count | None
    model: Text | None = field(default=None, metadata=ABSENT)
    l4t_release: Text | None = field(default=None, metadata=ABSENT)
    power_mode: Text | None = field(default=None, metadata=ABSENT)
    gpu_clocks: dict[Line, Clock] | None = field(default=None, metadata=ABSENT)
    cpu_clocks: dict[Line, Clock] | None = field(default=None, metadata=ABSENT)
    temperatures: dict[Line, float] | None = field(default=None, metadata=ABSENT)
    absent: tuple[Name, ...] = ()


@dataclass(frozen=True)
class EngineRun:
    """An engine that was run: what it is, and its sidecar."""

    what: Line
    sidecar: Sidecar


@dataclass(frozen=True)
class Report:
    """``backend`` has its name and versions, and facts about its device. ``engines`` are TensorRT's."""

    name: Line
    passed: bool
    started: Line
    target: Name
    bundle: BundleId
    kit_sha256: Sha256
    backend: dict[Name, Line]
    engines: tuple[EngineRun, ...]
    device: Machine
    precisions: tuple[Precision, ...]
    checks: tuple[Check, ...]
    notes: tuple[Line, ...]
    timing: tuple[Timing, ...]

    def __post_init__(self) -> None:
        if self.passed != (bool(self.checks) and all(check.passed for check in self.checks)):
            raise ValueError(f"passed is {self.passed}, which contradicts its checks")
        if "name" not in self.backend:
            raise ValueError("backend: has no name")

    @property
    def title(self) -> str:
        """The names of the device and of the backend that ran the graphs."""
        return f"{self.name}, {self.backend['name']}"

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    @property
    def verdict(self) -> str:
        """One line of text."""
        failed, count = self.failed, len(self.checks)
        if failed:
            return f"{len(failed)} of {count} checks FAILED; first {failed[0].line()[5:]}"
        return f"all {count} checks passed"

    def facts(self) -> list[str]:
        """Versions, engines, and what affects the times."""
        engines = [f"{each.sidecar.graph.precision} {each.what}" for each in self.engines]
        return [
            *(f"{key} {value}" for key, value in self.backend.items() if key != "name"),
            *engines,
            f"power mode {self.device.power_mode or 'not found'}",
            *(
                f"{name} {clock.current} of {clock.max}{' (locked)' if clock.locked else ''}"
                for name, clock in (self.device.gpu_clocks or {}).items()
            ),
        ]

    def lines(self) -> list[str]:
        """Lines of text: facts, failed checks, notes and latencies."""
        return [
            f"device: {self.name} ({', '.join(self.facts())}), {self.started}",
            *(check.line() for check in self.failed),
            f"-[{'✓' if self.passed else 'x'}] on the device: {self.verdict}",
            *(f"-[ ] {note}" for note in self.notes),
            *(timing.line() for timing in self.timing),
        ]


REPORT = Document(
    "device report", "multires-device-report", 1, Report, BundleError,
    "copy it again, or check the device again",
)  # fmt: skip
