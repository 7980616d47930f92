"""``kit.tar.gz``: a bundle, and what of this package checks and times it on a device."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BundleError, ConfigError
from multires_edge.format.arrays import npz_bytes
from multires_edge.format.comparison import LIMITS
from multires_edge.format.golden import GOLDEN_FILE
from multires_edge.format.manifest import CALIBRATION_FILE, FILE_NAME, MANIFEST, Manifest
from multires_edge.format.parity import PARITY_FILE
from multires_edge.format.specs import Graphs
from multires_edge.format.targets import target_by_name
from multires_edge.runtime.backends._native_interface import INTERFACE
from multires_edge.runtime.backends.cuda.plans import PLANS, plans_path, read_plans
from multires_edge.runtime.backends.tensorrt.rings import PTX
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.bundle_files import read_file
from multires_edge.runtime.kit.cases import reference_states, sequence_cases, stream_cases
from multires_edge.runtime.kit.description import (
    BUNDLE,
    KIT,
    KIT_FILE,
    STATES_FILE,
    BundleId,
    Case,
    Description,
    FileEntry,
    SequenceCase,
)
from multires_edge.runtime.kit.wheel import ENGINE, read_members

_HERE = Path(__file__).parent
SCRIPT = "check_device.py"
# The packages that need numpy alone, with TensorRT or ONNX Runtime.
PACKAGES = (
    "multires_edge", "multires_edge.base", "multires_edge.format", "multires_edge.runtime",
    "multires_edge.runtime.backends", "multires_edge.runtime.backends.device",
    "multires_edge.runtime.backends.cuda", "multires_edge.runtime.backends.tensorrt",
    "multires_edge.runtime.engine_builder", "multires_edge.runtime.kit",
)  # fmt: skip


def make_kit(
    bundle: Bundle,
    *,
    target: str | None = None,
    precisions: Sequence[str] = (),
    wheel: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Make the archive: the same bytes for the same bundle on the same kind of CPU.

    ``target`` defaults to the bundle's target, ``precisions`` to all. ``wheel`` is this package's for the
    device, of which the kit takes the native engine. Raises BundleError if the bundle lacks the requested
    graphs, or fails its own reference on this machine, ConfigError if the wheel has no engine.
    """
    target = target or bundle.manifest.target
    manifest = manifest_for(bundle.manifest, target, precisions)
    golden = bundle.golden()
    files = {"README.md": (_HERE / "README.md").read_bytes(), **_program()}
    if wheel is not None:
        files |= _engine(wheel)
    files[f"{BUNDLE}/{FILE_NAME}"] = MANIFEST.to_bytes(manifest)
    for name in manifest.digests():
        files[f"{BUNDLE}/{name}"] = bundle.read(name)
    files |= _kernels(bundle, manifest)
    states: dict[str, Any] = {}
    cases: dict[str, tuple[Case, ...]] = {}
    sequences: dict[str, tuple[SequenceCase, ...]] = {}
    for precision in manifest.graphs["step"]:
        rows, recorded = len(golden.inputs), golden.inputs.shape[-1]
        steps = min(recorded, manifest.calibrated_steps(precision) or recorded)
        pooling, per_step = manifest.pooling, manifest.network.per_step
        sequences[precision] = sequence_cases(golden, steps, pooling, per_step=per_step)
        cases[precision] = stream_cases(rows, steps, pooling, _sums(manifest, precision), LIMITS[precision])
        for i, case in enumerate(cases[precision]):
            progress(f"states of {precision}, {case.name}")
            for name, array in reference_states(bundle, golden, precision, case).items():
                states[f"{precision}/{i}/{name}"] = array
    progress("packing")
    files[STATES_FILE] = npz_bytes(**states)
    description = Description(
        target=target,
        bundle=BundleId(bundle.manifest.to_json()["sha256"], manifest.source),
        cases=cases,
        full=sequences,
        files={
            name: FileEntry(hashlib.sha256(files[name]).hexdigest(), len(files[name]))
            for name in sorted(files)
        },
    )
    files[KIT_FILE] = KIT.to_bytes(description)
    return _pack(f"multires-kit-{description.bundle.manifest_sha256[:8]}", files)


def _sums(manifest: Manifest, precision: str) -> list[str]:
    """The states that sum over steps."""
    if manifest.pooling is not None:
        return manifest.pooling.sums(manifest.model.d_model)
    # Those of a module of the user's own: its rings, clock and recurrent layers sum nothing.
    states = manifest.graph("step", precision).states
    return [state.input for state in states if state.input.startswith("sum_")]


def manifest_for(manifest: Manifest, target: str, precisions: Sequence[str]) -> Manifest:
    """A bundle's manifest with the graphs of a target, and its native weights.

    Raises BundleError or ConfigError.
    """
    there = list(manifest.graphs["step"])
    for name in precisions:
        if name not in there:
            raise BundleError(f"the bundle has no graphs in {name!r}; it has: {', '.join(there)}")
    chosen = [name for name in there if not precisions or name in precisions]
    forms = [form.form_name for form in target_by_name(target).forms]
    taken = [form for form in forms if form in manifest.by_form]
    if not taken:
        raise BundleError(
            f"{target} needs graphs in the form {' or '.join(forms)}; the bundle has "
            f"{', '.join(manifest.by_form)}: export it again with --target {target}"
        )

    def graphs_in(form: str) -> Graphs:
        graphs = manifest.by_form[form].items()
        return {kind: {name: specs[name] for name in chosen if name in specs} for kind, specs in graphs}

    return replace(
        manifest,
        target=target,
        targets={target: tuple(taken)},
        form=taken[0],
        graphs=graphs_in(taken[0]),
        forms={form: graphs_in(form) for form in taken[1:]},
        native={name: spec for name, spec in manifest.native.items() if name in chosen},
        quantization={name: spec for name, spec in manifest.quantization.items() if name in chosen},
        files={
            name: digest
            for name, digest in manifest.files.items()
            if name in (GOLDEN_FILE, PARITY_FILE, CALIBRATION_FILE)
        },
    )


def _kernels(bundle: Bundle, manifest: Manifest) -> dict[str, bytes]:
    """The kernels of the cuda backend with their plans, as far as the bundle has them."""
    files: dict[str, bytes] = {}
    for precision in manifest.native:
        path = plans_path(bundle.path, precision)
        if path.exists():
            plans = read_plans(bundle.path, manifest, precision)
            files[f"{BUNDLE}/{path.relative_to(bundle.path).as_posix()}"] = PLANS.to_bytes(plans)
            for spec in plans.files():
                files[f"{BUNDLE}/{spec.file}"] = read_file(bundle.path, spec.file, spec.sha256)
    return files


def _engine(wheel: Path) -> dict[str, bytes]:
    """The native engine of a wheel. The device loads it if the wheel is for its system and processor."""
    found = read_members(wheel, ENGINE)
    if not all(INTERFACE.encode() in content for content in found.values()):
        raise ConfigError(f"{wheel}: its native engine is of another release; give a wheel of this one")
    return found


def _program() -> dict[str, bytes]:
    """The script, and the modules of this package that it runs, as they are."""
    files = {SCRIPT: _HERE / SCRIPT}
    for package in PACKAGES:
        file = import_module(package).__file__
        assert file is not None
        folder = package.replace(".", "/")
        files |= {f"{folder}/{path.name}": path for path in Path(file).parent.glob("*.py")}
    del files["multires_edge/__main__.py"]  # of the command line
    files["multires_edge/runtime/cpp/cuda/rings.ptx"] = PTX
    content = {name: path.read_bytes() for name, path in files.items()}
    # What `importlib.metadata` reads the version from.
    release = version("multires-edge")
    metadata = f"Metadata-Version: 2.1\nName: multires-edge\nVersion: {release}\n"
    return {**content, f"multires_edge-{release}.dist-info/METADATA": metadata.encode()}


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
