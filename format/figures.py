"""``evaluation.json``: figures of a bundle on labelled data, as ``multires-edge evaluate`` measures them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from multires_edge.base.errors import CardError
from multires_edge.format.card import Preprocessing
from multires_edge.format.fields import Count, Document, Line, Name, Natural, OneOf, Sha256
from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import DataUsed, FileSpec, Precision

EVALUATION_FILE = "evaluation.json"
CARD_FILE = "card.md"  # the model card, which shows the figures
Interval = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A value, and its 95 % interval, null if the records were not resampled."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class PrecisionFigures:
    """The metric of one precision, of all classes and of each; ``graph`` is the file that was measured.

    ``difference`` is the value less that of the first precision, and ``relative_error`` sum |y - y_first| /
    sum |y_first| over all outputs; both are null for the first.
    """

    graph: FileSpec
    value: Figure
    by_class: dict[Line, Figure] | None
    difference: Figure | None
    relative_error: float | None


@dataclass(frozen=True)
class ConditionFigures:
    """The metric of the first precision under a field condition; ``difference`` is to clean records."""

    description: Line
    value: Figure
    difference: Figure


@dataclass(frozen=True)
class Figures:
    """Figures and what they were measured on, and with.

    ``checkpoint``, ``pool`` and ``preprocessing`` are those of the bundle. ``positives`` has the number of
    records with each class, null where a record is of one class. ``resamples`` is the number of bootstrap
    resamples of the records. The first of ``precisions`` is that of ``conditions``.
    """

    checkpoint: Sha256
    pool: Line | None
    preprocessing: Preprocessing | None
    data: DataUsed
    positives: dict[Line, Natural] | None
    graph: Annotated[str, OneOf(("full", "step"))]
    backend: Name
    state: Annotated[str, OneOf(("reset", "carried"))] | None
    resamples: Count | None
    metric: Annotated[str, OneOf(("accuracy", "auroc_macro", "bits_per_dimension"))]
    precisions: dict[Precision, PrecisionFigures]
    conditions: dict[Line, ConditionFigures] = field(default_factory=dict)
    tools: dict[Line, Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.precisions:
            raise CardError("precisions are empty, expected one or more")

    def check(self, manifest: Manifest) -> None:
        """Raise CardError unless the figures are of a bundle of the same network, pooling and card."""
        for what, given, wanted in (
            ("checkpoint", self.checkpoint[:16], manifest.source.sha256[:16]),
            ("pooling", self.pool, manifest.pool),
            ("preprocessing", self.preprocessing, manifest.preprocessing),
        ):
            if given != wanted:
                shown = "" if what == "preprocessing" else f" {given or 'none'}, expected {wanted or 'none'}"
                raise CardError(f"is of another {what}{shown}; measure this bundle again")
        for figures in self.precisions.values():
            names = tuple(figures.by_class or manifest.labels or ())
            if manifest.labels and names != manifest.labels:
                raise CardError(
                    f"has the classes {', '.join(names)}, expected {', '.join(manifest.labels)}; measure "
                    "this bundle again"
                )


EVALUATION = Document(
    "document of figures",
    "multires-evaluation",
    1,
    Figures,
    CardError,
    "write it with multires-edge evaluate --json",
)


def read_figures(path: str | Path, manifest: Manifest | None = None) -> Figures:
    """Read figures, and check that they are of the network of ``manifest`` if given. Raises CardError."""
    path = Path(path)
    try:
        figures = EVALUATION.read(path)
    except FileNotFoundError:
        raise CardError(f"{path}: no such file; {EVALUATION.remedy}") from None
    if manifest is not None:
        try:
            figures.check(manifest)
        except CardError as error:
            raise CardError(f"{path}: {error}") from error
    return figures
