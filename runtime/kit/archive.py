"""``kit.tar.gz``: the files that check and time a bundle on a device without this package."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BundleError
from multires_edge.format import fields
from multires_edge.format.arrays import npz_bytes
from multires_edge.format.comparison import LIMITS
from multires_edge.format.fields import plain
from multires_edge.format.golden import GOLDEN_FILE, Golden
from multires_edge.format.manifest import CALIBRATION_FILE, Manifest
from multires_edge.format.specs import Graphs
from multires_edge.format.targets import target_by_name
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.kit.cases import reference_states, sequence_cases, stream_cases
from multires_edge.runtime.kit.device.description import (
    KIT,
    KIT_FILE,
    BundleId,
    Case,
    Description,
    FileEntry,
    Limit,
    SequenceCase,
)

_HERE = Path(__file__).parent
SCRIPT = "check_device.py"
_OF_THE_FORMAT = ("fields.py", "specs.py")


def make_kit(
    bundle: Bundle,
    *,
    target: str | None = None,
    precisions: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Make the archive: the same bytes for the same bundle on the same kind of CPU.

    ``target`` defaults to the bundle's target, ``precisions`` to all. Raises BundleError if the bundle
    lacks the requested graphs, or fails its own reference on this machine.
    """
    manifest = bundle.manifest
    target = target or manifest.target
    graphs = graphs_for(manifest, target)
    chosen = _precisions(graphs, precisions)
    golden = Golden.load(bundle.path / GOLDEN_FILE, manifest.model)
    files = {
        "README.md": (_HERE / "README.md").read_bytes(),
        SCRIPT: (_HERE / SCRIPT).read_bytes(),
        **_modules(),
        GOLDEN_FILE: _read(bundle, GOLDEN_FILE),
    }
    if CALIBRATION_FILE in manifest.files:
        files[CALIBRATION_FILE] = _read(bundle, CALIBRATION_FILE)
    states: dict[str, Any] = {}
    specs: Graphs = {"full": {}, "step": {}}
    cases: dict[str, tuple[Case, ...]] = {}
    sequences: dict[str, tuple[SequenceCase, ...]] = {}
    for precision in chosen:
        for kind in ("full", "step"):
            spec = graphs[kind][precision]
            files[f"graphs/{spec.file}"] = _read(bundle, spec.file)
            specs[kind][precision] = replace(spec, file=f"graphs/{spec.file}")
        rows, recorded = len(golden.inputs), golden.inputs.shape[-1]
        steps = min(recorded, manifest.calibrated_steps(precision) or recorded)
        sequences[precision] = sequence_cases(golden, steps, manifest.pooling)
        limit, d_model = LIMITS[precision], manifest.model.d_model
        cases[precision] = stream_cases(rows, steps, manifest.pooling, d_model, limit)
        for i, case in enumerate(cases[precision]):
            progress(f"states of {precision}, {case.name}")
            for name, array in reference_states(bundle, golden, precision, case).items():
                states[f"{precision}/{i}/{name}"] = array
    progress("packing")
    files["states.npz"] = npz_bytes(**states)
    description = Description(
        target=target,
        bundle=BundleId(manifest.to_json()["sha256"], manifest.source),
        model=plain(manifest.model),
        pool=manifest.pool,
        limits={name: Limit(LIMITS[name].value, LIMITS[name].measure) for name in chosen},
        graphs=specs,
        cases=cases,
        full=sequences,
        files={
            name: FileEntry(hashlib.sha256(files[name]).hexdigest(), len(files[name]))
            for name in sorted(files)
        },
    )
    files[KIT_FILE] = (json.dumps(KIT.to_json(description), indent=2) + "\n").encode()
    return _pack(f"multires-kit-{description.bundle.manifest_sha256[:8]}", files)


def _modules() -> dict[str, bytes]:
    """The script's modules, and those of the package that they import, as one package of their own."""
    format_folder = Path(fields.__file__).parent
    paths = [*(_HERE / "device").glob("*.py"), *(format_folder / name for name in _OF_THE_FORMAT)]
    return {
        f"device/{path.name}": path.read_bytes().replace(b"from multires_edge.format.", b"from .")
        for path in paths
    }


def graphs_for(manifest: Manifest, target: str) -> Graphs:
    """The graphs of a bundle for a target, by kind and precision. Raises BundleError or ConfigError.

    If the bundle has several forms, the graphs are of the form that every release of the target reads.
    """
    taken = [form.form_name for form in reversed(target_by_name(target).forms)]
    for form in taken:
        if form in manifest.by_form:
            return manifest.in_form(form).graphs
    raise BundleError(
        f"{target} needs graphs in the form {' or '.join(taken)}; the bundle has "
        f"{', '.join(manifest.by_form)}: export it again with --target {target}"
    )


def _precisions(graphs: Graphs, asked: Sequence[str]) -> list[str]:
    there = list(graphs["step"])
    for name in asked:
        if name not in there:
            raise BundleError(f"the bundle has no graphs in {name!r}; it has: {', '.join(there)}")
    return [name for name in there if not asked or name in asked]


def _read(bundle: Bundle, name: str) -> bytes:
    try:
        return (bundle.path / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{bundle.path / name}: cannot be read ({error.strerror})") from error


def _pack(top: str, files: dict[str, bytes]) -> bytes:
    """A .tar.gz without times, users or other facts about this machine."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(files):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(files[name])
            member.mode = 0o755 if name == SCRIPT else 0o644
            tar.addfile(member, io.BytesIO(files[name]))
    return packed.getvalue()
