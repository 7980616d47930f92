"""``manifest.json``: what a bundle holds, in a form that a program can read without this package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from multires_edge.base.errors import BundleError
from multires_edge.format.card import About, Card, Preprocessing
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import Count, Document, FileName, Line, Name, OneOf, Sha256
from multires_edge.format.module import ModuleConfig
from multires_edge.format.pooling import Pooling, parse_pooling
from multires_edge.format.specs import FileSpec, Graphs, GraphSpec, Precision, Source

FILE_NAME = "manifest.json"
CALIBRATION_FILE = "calibration.json"  # the ranges of int8


@dataclass(frozen=True)
class QuantizationSpec:
    """``tensors`` has the type of each weight that could have been quantized; ``calibrated_steps`` the length
    of the records that its ranges are of, null where any length will do."""  # fmt: skip

    calibrated_steps: Count | None
    tensors: dict[Name, Annotated[str, OneOf(("int8", "float32"))]]


@dataclass(frozen=True)
class Manifest:
    """A bundle's table of contents.

    ``graphs[kind][precision]`` are those of the first target, in the form named ``form``. ``targets`` has,
    for each target, the forms that it takes, the best first; ``forms[form]`` are graphs in a further form.
    ``native[precision]`` is the native engine's weights file; ``files`` are the digests of the other files by
    name; ``pool`` is a pooling such as "cumulative" or "window:N", null for an output at every step.
    """

    source: Source
    network: ModelConfig | ModuleConfig = field(metadata={"key": "model"})
    target: Name
    pool: Line | None
    graphs: Graphs
    form: Name
    targets: dict[Name, tuple[Name, ...]] = field(default_factory=dict)
    forms: dict[Name, Graphs] = field(default_factory=dict)
    native: dict[Precision, FileSpec] = field(default_factory=dict)
    quantization: dict[Precision, QuantizationSpec] = field(default_factory=dict)
    files: dict[FileName, Sha256] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    labels: tuple[Line, ...] | None = None
    about: About | None = field(default=None, metadata={"key": "card"})
    tools: dict[Line, Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pool is not None:
            parse_pooling(self.pool)

    @property
    def model(self) -> ModelConfig:
        """The configuration of a MultiresNet. Raises BundleError for a module of the user's own."""
        if isinstance(self.network, ModuleConfig):
            raise BundleError(
                f"the network is your own module {self.network.module}, which runs in ONNX Runtime; this is "
                "for a MultiresNet that was exported from its checkpoint"
            )
        return self.network

    @property
    def pooling(self) -> Pooling | None:
        """How ``pool`` pools."""
        return None if self.pool is None else parse_pooling(self.pool)

    @property
    def card(self) -> Card | None:
        """The card that the bundle was exported with."""
        if self.about is None:
            return None
        return Card(**vars(self.about), preprocessing=self.preprocessing, labels=self.labels)

    @property
    def by_form(self) -> dict[str, Graphs]:
        """The graphs by the name of their form, ``graphs`` first."""
        return {self.form: self.graphs, **self.forms}

    def every_graph(self) -> Iterator[tuple[str, str, str, GraphSpec]]:
        """Each graph with its form, kind and precision."""
        for form, graphs in self.by_form.items():
            for kind, precisions in graphs.items():
                for precision, spec in precisions.items():
                    yield form, kind, precision, spec

    def in_form(self, form: str) -> Manifest:
        """The manifest as it would be with the graphs of one form. Raises BundleError with what there is."""
        others = self.by_form
        if form not in others:
            raise BundleError(f"the bundle has no graphs of the form {form!r}; it has: {', '.join(others)}")
        return replace(self, graphs=others.pop(form), form=form, forms=others)

    def graph(self, kind: str, precision: str) -> GraphSpec:
        """Look a graph up. Raises BundleError with what there is."""
        precisions = self.graphs.get(kind, {})
        if precision not in precisions:
            has = ", ".join(precisions) or "none"
            raise BundleError(f"the bundle has no {kind} graph in {precision!r}; it has: {has}")
        return precisions[precision]

    def calibrated_steps(self, precision: str) -> int | None:
        """Steps of the records that a precision's ranges were measured on; None where any length will do."""
        quantization = self.quantization.get(precision)
        return None if quantization is None else quantization.calibrated_steps

    def graph_files(self) -> dict[str, GraphSpec]:
        """The graphs of every form, by file name."""
        return {spec.file: spec for *_, spec in self.every_graph()}

    def digests(self) -> dict[str, str]:
        """Digest of every file that the manifest vouches for, by file name."""
        graphs = {name: spec.sha256 for name, spec in self.graph_files().items()}
        further = [*self.native.values(), *self.factor_files()]
        return graphs | {file.file: file.sha256 for file in further} | self.files

    def factor_files(self) -> list[FileSpec]:
        """The files that sums graphs need, each once."""
        found = {spec.factors: None for *_, spec in self.every_graph() if spec.factors is not None}
        return list(found)

    def to_json(self) -> dict[str, Any]:
        """The content of manifest.json, with a digest of itself as its last entry."""
        return MANIFEST.to_json(self)


MANIFEST = Document("manifest", "multires-bundle", 1, Manifest, BundleError, "export the checkpoint again")
