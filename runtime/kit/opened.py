"""An unpacked kit: its files checked, its bundle opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from multires_edge.base.errors import BundleError
from multires_edge.base.files import sha256_of
from multires_edge.format.arrays import read_npz
from multires_edge.format.golden import GOLDEN_FILE
from multires_edge.format.manifest import Manifest
from multires_edge.format.reading import read_manifest
from multires_edge.format.specs import FileSpec, GraphSpec
from multires_edge.runtime.bundle import Bundle, open_bundle
from multires_edge.runtime.kit.description import BUNDLE, KIT, KIT_FILE, STATES_FILE, FileEntry

Spec = TypeVar("Spec", GraphSpec, FileSpec)


class Kit:
    """An unpacked kit. ``changed`` has a message per changed graph or weights; the checks show the effect.

    Raises BundleError if any other file was changed, because it is the reference or the program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.description = KIT.read(folder / KIT_FILE)
        except FileNotFoundError as error:
            raise BundleError(
                f"{folder / KIT_FILE}: cannot be read ({error.strerror}); {KIT.remedy}"
            ) from error
        self.changed: dict[str, str] = {}
        found = {name: self._digest(name, entry) for name, entry in sorted(self.description.files.items())}
        path = folder / BUNDLE
        if self.changed:
            # Engines of a changed graph must not pass for engines of the graph as it should be.
            self.bundle = Bundle(path, _with_digests(read_manifest(path), found))
        else:
            self.bundle = open_bundle(path)
        self.golden = self.bundle.golden()
        try:
            self.states = read_npz(folder / STATES_FILE)
        except (OSError, ValueError) as error:
            raise BundleError(f"{folder / STATES_FILE}: cannot be read ({error}); {KIT.remedy}") from error
        rows, steps = len(self.golden.inputs), self.golden.inputs.shape[-1]
        for precision, cases in self.description.cases.items():
            recorded = {row for case in cases for parts in case.streams for _, row in parts}
            if self.description.longest(precision) > steps or max(recorded) >= rows:
                raise BundleError(
                    f"{folder / KIT_FILE}: its cases in {precision} need more than the {rows} streams of "
                    f"{steps} steps in {GOLDEN_FILE}; {KIT.remedy}"
                )

    def _digest(self, name: str, expected: FileEntry) -> str:
        """Check a file, and return its digest."""
        path = self.folder / name
        try:
            found, size = sha256_of(path), path.stat().st_size
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); {KIT.remedy}") from error
        if found != expected.sha256 or size != expected.bytes:
            what = f"{size:,} of {expected.bytes:,} bytes" if size != expected.bytes else "differs"
            message = f"changed since the kit was made ({what}); {KIT.remedy}"
            if path.suffix not in (".onnx", ".safetensors"):
                raise BundleError(f"{path}: {message}")
            self.changed[name] = message
        return found

    def precisions(self, asked: Sequence[str]) -> list[str]:
        """The requested precisions, or all. Raises BundleError for a precision that the kit does not have."""
        there = list(self.description.cases)
        for name in asked:
            if name not in there:
                raise BundleError(f"the kit has no graphs in {name!r}; it has: {', '.join(there)}")
        return list(dict.fromkeys(asked)) or there


def _with_digests(manifest: Manifest, found: dict[str, str]) -> Manifest:
    """The manifest with the digests of the graphs and native weights as they are."""

    def as_found(specs: Mapping[str, Spec]) -> dict[str, Spec]:
        return {name: replace(spec, sha256=found[f"{BUNDLE}/{spec.file}"]) for name, spec in specs.items()}

    graphs = {kind: as_found(specs) for kind, specs in manifest.graphs.items()}
    forms = {
        form: {kind: as_found(specs) for kind, specs in of_form.items()}
        for form, of_form in manifest.forms.items()
    }
    return replace(manifest, graphs=graphs, forms=forms, native=as_found(manifest.native))
