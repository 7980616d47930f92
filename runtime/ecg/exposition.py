"""Prometheus' text format, version 0.0.4, and OpenMetrics 1.0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Exposed(Protocol):
    """What a server of metrics answers with. Any thread may call it."""

    def render(self, *, openmetrics: bool = False) -> bytes:
        """All metrics in Prometheus' text format, or as OpenMetrics."""

    def health(self) -> tuple[int, bytes]:
        """The HTTP status and a JSON document: 200, or 503 with what is wrong."""


@dataclass(frozen=True)
class Sample:
    """A value with its labels; ``suffix`` is what its name has after the family's."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """Samples of one name. ``kind`` is counter, gauge, histogram or info; a counter's name has no _total."""

    name: str
    kind: str
    text: str
    samples: list[Sample]

    def add_histogram(
        self, bounds: Sequence[float], counts: Sequence[int], total: float, labels: Mapping[str, str]
    ) -> None:
        """Add the samples of a histogram: counts up to each of the bounds, and one more above the last."""
        count = 0
        for bound, more in zip([*map(repr, bounds), "+Inf"], counts, strict=True):
            count += more
            self.samples.append(Sample(count, {**labels, "le": bound}, "_bucket"))
        self.samples.extend([Sample(count, labels, "_count"), Sample(total, labels, "_sum")])


# What names have at their end, by kind.
_SUFFIXES = {"counter": "_total", "info": "_info"}


def exposition(families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """Families as text. A family without samples is left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        suffix, kind = _SUFFIXES.get(family.kind, ""), family.kind
        name = family.name
        if not openmetrics:  # there, the name of a family is that of its samples, and no kind is info
            name, kind = name + suffix, "gauge" if kind == "info" else kind
        lines += [f"# HELP {name} {_escaped(family.text)}", f"# TYPE {name} {kind}"]
        for sample in family.samples:
            labels = ",".join(
                f'{key}="{_escaped(value, quoted=True)}"' for key, value in sample.labels.items()
            )
            shown = f"{family.name}{suffix or sample.suffix}" + (f"{{{labels}}}" if labels else "")
            lines.append(f"{shown} {float(sample.value)!r}")
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def accepts_openmetrics(accept: str) -> bool:
    """Whether a client's Accept header asks for OpenMetrics."""
    return "application/openmetrics-text" in accept


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quoted else text
