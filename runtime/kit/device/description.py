"""``kit.json``: a kit's graphs, the cases to check with their limits, and the digests of its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from multires_edge.format.fields import Between, Count, Document, FileName, Line, Name, Natural, Sha256
from multires_edge.format.specs import Graphs, Precision, Source

from .files import KitError

KIT_FILE = "kit.json"


@dataclass(frozen=True)
class Limit:
    """The largest error that passes."""

    value: Annotated[float, Between(0, 1e30)]
    measure: Literal["max", "mean"]


@dataclass(frozen=True)
class Case:
    """Streams to run: each row of the batch has a pair (step, recorded row) per start.

    ``sums`` has the states that add up steps, with the largest number of steps. ``outputs`` tells whether to
    compare outputs too.
    """

    name: Line
    steps: Count
    streams: tuple[tuple[tuple[Natural, Natural], ...], ...]
    sums: dict[Name, Count]
    outputs: bool

    def __post_init__(self) -> None:
        for parts in self.streams:
            starts = [start for start, _ in parts]
            if starts[:1] != [0] or sorted(set(starts)) != starts or starts[-1] >= self.steps:
                raise ValueError(
                    f"streams start at {starts}, expected 0 first, then later steps of {self.steps}"
                )
        if not self.streams:
            raise ValueError("streams is empty")


@dataclass(frozen=True)
class SequenceCase:
    """A length to compare the full graph at, and the recorded outputs to compare it with."""

    steps: Count
    reference: Literal["full", "stepwise"]


@dataclass(frozen=True)
class FileEntry:
    """The digest and the size of a file."""

    sha256: Sha256
    bytes: Natural


@dataclass(frozen=True)
class BundleId:
    """Identifies the bundle of a kit and of its reports."""

    manifest_sha256: Sha256
    source: Source


@dataclass(frozen=True)
class Description:
    """The content of kit.json. ``cases`` are for the step graph, ``full`` for the full graph."""

    target: Name
    bundle: BundleId
    model: dict[Name, int | Line | None]
    pool: Line | None
    limits: dict[Precision, Limit]
    graphs: Graphs
    cases: dict[Precision, tuple[Case, ...]]
    full: dict[Precision, tuple[SequenceCase, ...]]
    files: dict[FileName, FileEntry]

    def __post_init__(self) -> None:
        precisions = set(self.cases)
        by_precision = [set(self.graphs.get(kind, {})) for kind in ("full", "step")]
        if not precisions or any(
            names != precisions for names in (set(self.limits), set(self.full), *by_precision)
        ):
            raise ValueError("limits, full and the graphs full and step need the precisions of cases")
        if not all(self.cases.values()):
            raise ValueError("cases: a precision has no case")
        for spec in (spec for of_kind in self.graphs.values() for spec in of_kind.values()):
            if spec.file not in self.files or self.files[spec.file].sha256 != spec.sha256:
                raise ValueError(f"files: has no {spec.file} with the SHA-256 of the graph")
            if not spec.inputs or len(spec.outputs) != 1:
                raise ValueError(f"{spec.file}: has no input, or not exactly one output")


KIT = Document("kit", "multires-kit", 1, Description, KitError, "unpack the kit again")
