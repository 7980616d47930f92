"""Engine files and their sidecars: ``engines/GRAPH.PRECISION.TARGET.engine``, and ``.json`` beside each.

Nothing is put before an engine, so that every tool of TensorRT's reads it. What it is of and what it runs on
stands in the sidecar, which is written last: an engine without one is not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BackendError, BundleError, InputError
from multires_edge.base.files import sha256_of
from multires_edge.format.manifest import Manifest, digest_of
from multires_edge.format.targets import Version, dotted
from multires_edge.runtime.backends.tensorrt.gpu import Gpu

FOLDER = "engines"
FORMAT = "multires-engine"
VERSION = 1


def engine_path(folder: Path, kind: str, precision: str, target: str) -> Path:
    """Where the engine of a bundle folder is."""
    return folder / FOLDER / f"{kind}.{precision}.{target}.engine"


@dataclass(frozen=True)
class Engine:
    """An engine that may be loaded here; ``entry`` is its sidecar, as docs/tensorrt.md describes it."""

    path: Path
    entry: dict[str, Any]

    @property
    def in_place(self) -> dict[str, str]:
        """States that the engine updates in place, input to output: both are bound to one address."""
        updates: dict[str, str] = self.entry["in_place"]
        return updates

    def read(self) -> bytes:
        """The serialised engine, for ``deserialize_cuda_engine``."""
        return self.path.read_bytes()

    def check_shape(self, batch: int, time: int | None = None) -> None:
        """Raise InputError for a batch or a number of steps outside the engine's profile."""
        for name, size in (("batch", batch), ("time", time)):
            limits = self.entry["profile"].get(name)
            if size is not None and limits is not None and not limits[0] <= size <= limits[2]:
                raise InputError(
                    f"{name} is {size}, and {self.path.name} was built for {limits[0]} to {limits[2]}: "
                    f"build it again with a wider --{name}"
                )


def sidecar_path(engine: Path) -> Path:
    """Where an engine's sidecar is."""
    return engine.with_suffix(".json")


def sidecar_content(entry: dict[str, Any]) -> bytes:
    """A sidecar as it is written, with a digest of itself as its last entry, as a manifest has."""
    entry = {"format": FORMAT, "version": VERSION} | entry
    return (json.dumps(entry | {"sha256": digest_of(entry)}, indent=2) + "\n").encode()


def engines_of(folder: Path) -> list[Path]:
    """The engines of a bundle folder that are there, with sidecars, by name."""
    found = (folder / FOLDER).glob("*.engine")
    return sorted(path for path in found if sidecar_path(path).is_file())


def read_engine(
    folder: Path,
    manifest: Manifest,
    kind: str,
    precision: str,
    *,
    package: str,
    version: Version,
    gpu: Gpu | None,
    target: str | None = None,
) -> Engine:
    """Find the engine of a graph for this machine, and check it before TensorRT sees it.

    ``package`` ("tensorrt" or "tensorrt_rtx") and ``version`` are those installed, ``gpu`` is the device.
    Without a ``target`` the first engine that runs here is taken. Raises BundleError for an engine that is
    damaged or of another bundle, BackendError for one that is not there or not for this machine.
    """
    if target is not None:
        path = engine_path(folder, kind, precision, target)
        return check_engine(path, manifest, kind, precision, package=package, version=version, gpu=gpu)
    paths = [p for p in engines_of(folder) if p.name.split(".")[:-2] == [kind, precision]]
    if not paths:
        raise BackendError(
            f"{folder} has no {kind} engine in {precision}: multires-edge build {folder} --target NAME"
        )
    refusal: BackendError | None = None
    for path in paths:
        try:
            return check_engine(path, manifest, kind, precision, package=package, version=version, gpu=gpu)
        except BackendError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def check_engine(
    path: Path,
    manifest: Manifest,
    kind: str,
    precision: str,
    *,
    package: str,
    version: Version,
    gpu: Gpu | None,
) -> Engine:
    """Check one engine file as :func:`read_engine` does."""
    entry = read_sidecar(path)
    again = "build it again: multires-edge build … --force"
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    if found != entry["engine"]["sha256"]:
        size = path.stat().st_size
        raise BundleError(
            f"{path}: has {size:,} bytes with another SHA-256 than the {entry['engine']['bytes']:,} in its "
            f"sidecar, so it is truncated or changed; {again}"
        )
    of = entry["graph"]
    graph = (
        manifest.in_form(of["form"]).graph(kind, precision) if of["form"] in manifest.form_names() else None
    )
    if graph is None or graph.sha256 != of["sha256"]:
        raise BundleError(
            f"{path}: was built from another bundle's {of['file']}, not from the one beside it; {again}"
        )
    _check_machine(path, entry, package, version, gpu)
    return Engine(path, entry)


def _check_machine(
    path: Path, entry: dict[str, Any], package: str, version: Version, gpu: Gpu | None
) -> None:
    built = entry["tensorrt"]
    if built["package"] != package or built["version"] != dotted(version):
        raise BackendError(
            f"{path.name} was built by {built['package']} {built['version']}, and {package} "
            f"{dotted(version)} is installed here, which cannot load it: build it again here"
        )
    if gpu is None:
        raise BackendError(f"{path.name} needs a CUDA device, and there is none here that a driver serves")
    device = entry["device"]
    if device is not None and device["name"] != gpu.name:
        raise BackendError(
            f"{path.name} was built on {device['name']}, and this is {gpu.name}: build it again here"
        )
    if gpu.compute_capability not in entry["compute_capabilities"]:
        raise BackendError(
            f"{path.name} is for compute capability {', '.join(entry['compute_capabilities'])}, and "
            f"{gpu.name} has {gpu.compute_capability}: build it for that"
        )


def read_sidecar(engine: Path) -> dict[str, Any]:
    """The sidecar of an engine file. Raises BackendError without one, BundleError for a damaged one."""
    path = sidecar_path(engine)
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "its sidecar is missing" if engine.exists() else "it has not been built"
        raise BackendError(
            f"{engine}: {what}; multires-edge build {engine.parent.parent} --target NAME"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); build the engine again with --force") from error
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise BundleError(f"{path}: not a sidecar, its format is not {FORMAT!r}; build the engine again")
    if entry.get("version") != VERSION:
        raise BundleError(
            f"{path}: has version {entry.get('version')!r}, this release reads {VERSION}; build it again"
        )
    if entry.get("sha256") != digest_of(entry):
        raise BundleError(f"{path}: changed since it was written; build the engine again with --force")
    return entry
