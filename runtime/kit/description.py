"""``kit.json``: the cases that a kit checks, and the digests of its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from multires_edge.base.errors import BundleError
from multires_edge.format.fields import Count, Document, FileName, Line, Name, Natural, Sha256
from multires_edge.format.specs import Precision, Source

KIT_FILE, STATES_FILE = "kit.json", "states.npz"
BUNDLE = "bundle"  # the folder with the bundle, in the forms of the target
Streams = tuple[tuple[tuple[Natural, Natural], ...], ...]


@dataclass(frozen=True)
class Case:
    """Streams to run: each row of the batch has a pair (step, recorded row) per start.

    From each start on, a stream repeats a recorded row from its beginning. ``sums`` has the states that add
    up steps, with the largest number of steps. ``outputs`` tells whether to compare outputs too.
    """

    name: Line
    steps: Count
    streams: Streams
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
    """The content of kit.json. ``bundle`` is the one that the kit was made from.

    ``cases`` are for streams, ``full`` for the full graph.
    """

    target: Name
    bundle: BundleId
    cases: dict[Precision, tuple[Case, ...]]
    full: dict[Precision, tuple[SequenceCase, ...]]
    files: dict[FileName, FileEntry]

    def __post_init__(self) -> None:
        if not self.cases or set(self.cases) != set(self.full) or not all(self.cases.values()):
            raise ValueError("cases and full need the same precisions, and each a case")

    @property
    def most_streams(self) -> int:
        """The largest batch of the cases."""
        return max(len(case.streams) for cases in self.cases.values() for case in cases)

    def longest(self, precision: str) -> int:
        """The most steps of a precision's cases."""
        whole = (case.steps for case in self.full[precision])
        return max(*(case.steps for case in self.cases[precision]), *whole)


KIT = Document("kit", "multires-kit", 1, Description, BundleError, "unpack the kit again")
