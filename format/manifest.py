"""``manifest.json``: what a bundle holds, in a form that a program can read without this package."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BundleError
from multires_edge.format.pooling import Pooling, parse_pooling
from multires_edge.format.specs import FileSpec, GraphSpec

FORMAT = "multires-bundle"
VERSION = 1
FILE_NAME = "manifest.json"
CALIBRATION_FILE = "calibration.json"  # the ranges of int8

Graphs = dict[str, dict[str, GraphSpec]]


@dataclass(frozen=True)
class Manifest:
    """A bundle's table of contents.

    ``graphs[kind][precision]`` with kind "full", "step" or, for some targets, "taps";
    ``native[precision]`` is the native engine's weights file; ``quantization[precision]`` has ``tensors``,
    the type of each weight that could have been quantised, and ``calibrated_steps``, the length of the
    records that its ranges are of; ``files`` are the digests of the other files by name; ``pooling`` is
    None for a model that does not pool.

    ``graphs`` are those of the first target, in the form named ``form``. ``targets`` has, for each target,
    the forms that it takes, the best first; ``forms[form]`` are the graphs of a further form, as in
    ``graphs``.
    """

    source: dict[str, Any]
    model: dict[str, Any]
    graphs: dict[str, dict[str, GraphSpec]]
    tools: dict[str, str]
    target: str
    pooling: Pooling | None = None
    files: dict[str, str] = field(default_factory=dict)
    preprocessing: dict[str, Any] | None = None
    labels: list[str] | None = None
    card: dict[str, Any] | None = None
    native: dict[str, FileSpec] = field(default_factory=dict)
    quantization: dict[str, dict[str, Any]] = field(default_factory=dict)
    form: str = ""
    targets: dict[str, list[str]] = field(default_factory=dict)
    forms: dict[str, Graphs] = field(default_factory=dict)

    def form_names(self) -> list[str]:
        """The forms that the graphs are in, that of ``graphs`` first."""
        return [self.form, *self.forms]

    def in_form(self, form: str) -> Manifest:
        """The manifest as it would be with the graphs of one form. Raises BundleError with what there is."""
        if form == self.form:
            return self
        if form not in self.forms:
            raise BundleError(
                f"the bundle has no graphs of the form {form!r}; it has: {', '.join(self.form_names())}"
            )
        others = {name: graphs for name, graphs in self.forms.items() if name != form}
        return replace(self, graphs=self.forms[form], form=form, forms={self.form: self.graphs, **others})

    def graph(self, kind: str, precision: str) -> GraphSpec:
        """Look a graph up. Raises BundleError with what there is."""
        precisions = self.graphs.get(kind, {})
        if precision not in precisions:
            has = ", ".join(precisions) or "none"
            raise BundleError(f"the bundle has no {kind} graph in {precision!r}; it has: {has}")
        return precisions[precision]

    def calibrated_steps(self, precision: str) -> int | None:
        """Steps of the records that a precision's ranges were measured on; None where any length will do."""
        steps: int | None = self.quantization.get(precision, {}).get("calibrated_steps")
        return steps

    def graph_files(self) -> dict[str, GraphSpec]:
        """The graphs of every form, by file name."""
        kinds = [kind for graphs in (self.graphs, *self.forms.values()) for kind in graphs.values()]
        return {spec.file: spec for precisions in kinds for spec in precisions.values()}

    def digests(self) -> dict[str, str]:
        """Digest of every file that the manifest vouches for, by file name."""
        graphs = {name: spec.sha256 for name, spec in self.graph_files().items()}
        native = {file.file: file.sha256 for file in self.native.values()}
        return graphs | native | self.files

    def to_json(self) -> dict[str, Any]:
        """The content of manifest.json, with a digest of itself as its last entry."""
        entry = {
            "format": FORMAT,
            "version": VERSION,
            "source": self.source,
            "model": self.model,
            "target": self.target,
            "pool": None if self.pooling is None else str(self.pooling),
            "graphs": _graphs_to_json(self.graphs),
            "form": self.form,
            "targets": self.targets,
            "forms": {form: _graphs_to_json(graphs) for form, graphs in self.forms.items()},
            "native": {precision: spec.to_json() for precision, spec in self.native.items()},
            "quantization": self.quantization,
            "files": self.files,
            "preprocessing": self.preprocessing,
            "labels": self.labels,
            "card": self.card,
            "tools": self.tools,
        }
        return entry | {"sha256": digest_of(entry)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Manifest:
        """Read a manifest. Raises BundleError for another format, a later version or any change."""
        if not isinstance(entry, dict) or entry.get("format") != FORMAT:
            raise BundleError(f"not a manifest: its format is not {FORMAT!r}")
        if entry.get("version") != VERSION:
            raise BundleError(
                f"the bundle has version {entry.get('version')!r}, this release reads {VERSION}: "
                "export it again, or install the release that wrote it"
            )
        if entry.get("sha256") != digest_of(entry):
            raise BundleError("changed since the bundle was written (its SHA-256 differs); export it again")
        try:
            for key in ("source", "model", "graphs", "tools", "files"):
                if not isinstance(entry[key], dict):
                    raise TypeError(f"{key} is no object")
            entry["source"]["sha256"], entry["model"]["n_tokens"], entry["model"]["task"]
            graphs = _graphs_from_json(entry["graphs"])
            # Bundles of the first releases are for one target and say no form.
            form = entry.get("form") or f"opset{graphs['full']['fp32'].opset}"
            return cls(
                source=entry["source"],
                model=entry["model"],
                graphs=graphs,
                tools=entry["tools"],
                target=entry["target"],
                pooling=None if entry["pool"] is None else parse_pooling(entry["pool"]),
                files=entry["files"],
                preprocessing=entry["preprocessing"],
                labels=entry["labels"],
                card=entry["card"],
                native={
                    precision: FileSpec(spec["file"], spec["sha256"])
                    for precision, spec in entry.get("native", {}).items()
                },
                quantization=entry.get("quantization", {}),
                form=form,
                targets=entry.get("targets") or {entry["target"]: [form]},
                forms={name: _graphs_from_json(some) for name, some in entry.get("forms", {}).items()},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(f"the manifest is incomplete or misshapen ({error!r})") from error


def _graphs_to_json(graphs: Graphs) -> dict[str, Any]:
    return {kind: {name: spec.to_json() for name, spec in some.items()} for kind, some in graphs.items()}


def _graphs_from_json(entry: dict[str, Any]) -> Graphs:
    return {
        kind: {name: GraphSpec.from_json(spec) for name, spec in some.items()} for kind, some in entry.items()
    }


def digest_of(entry: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its own digest, as JSON with sorted keys and no spaces."""
    content = {key: value for key, value in entry.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle folder. Raises BundleError."""
    path = folder / FILE_NAME
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "no manifest.json in it" if folder.is_dir() else "no such folder"
        raise BundleError(f"{folder}: not a bundle, {what}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error
    try:
        return Manifest.from_json(entry)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
