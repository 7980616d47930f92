"""Engine files and their sidecars: ``engines/GRAPH.PRECISION.TARGET.engine`` and ``.json``.

An engine file has no header of ours, so every TensorRT tool can read it. The sidecar says which graph the
engine was built from and where it runs. It is written last: an engine without a sidecar is ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.base.files import sha256_of
from multires_edge.format.fields import digest_of
from multires_edge.format.manifest import Manifest
from multires_edge.format.targets import Version, dotted
from multires_edge.runtime.backends.tensorrt.gpu import Gpu

FOLDER = "engines"
FORMAT = "multires-engine"
VERSION = 1


def engine_path(folder: Path, kind: str, precision: str, target: str) -> Path:
    """The path of an engine in a bundle folder."""
    return folder / FOLDER / f"{kind}.{precision}.{target}.engine"


@dataclass(frozen=True)
class EngineFile:
    """An engine that this machine may load. docs/tensorrt.md describes ``entry``, its sidecar."""

    path: Path
    entry: dict[str, Any]

    @property
    def in_place(self) -> dict[str, str]:
        """States that the engine updates in place, input to output. Both must have the same address."""
        updates: dict[str, str] = self.entry["in_place"]
        return updates

    def read(self) -> bytes:
        """The serialized engine, for ``deserialize_cuda_engine``."""
        return self.path.read_bytes()


def sidecar_path(engine: Path) -> Path:
    """The path of an engine's sidecar."""
    return engine.with_suffix(".json")


def sidecar_content(entry: dict[str, Any]) -> bytes:
    """The content of a sidecar file. Its last entry is its digest, as in a manifest."""
    entry = {"format": FORMAT, "version": VERSION} | entry
    return (json.dumps(entry | {"sha256": digest_of(entry)}, indent=2) + "\n").encode()


def engines_of(folder: Path) -> list[Path]:
    """The engines with sidecars in a bundle folder, sorted by name."""
    found = (folder / FOLDER).glob("*.engine")
    return sorted(path for path in found if sidecar_path(path).is_file())


def check_engine(
    path: Path,
    manifest: Manifest,
    kind: str,
    precision: str,
    *,
    package: str,
    version: Version,
    gpu: Gpu | None,
) -> EngineFile:
    """Check that an engine is of this graph and for this machine, before TensorRT sees it.

    ``package`` is the installed "tensorrt" or "tensorrt_rtx", ``gpu`` the device. Raises BundleError if the
    engine is damaged or of another bundle, BackendError if it is missing or does not fit this machine.
    """
    entry = read_sidecar(path)
    again = "build it again: multires-edge build … --force"
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    if found != entry["engine"]["sha256"]:
        size = path.stat().st_size
        raise BundleError(
            f"{path}: is truncated or changed ({size:,} of {entry['engine']['bytes']:,} bytes, another "
            f"SHA-256 than in its sidecar); {again}"
        )
    of = entry["graph"]
    graph = (
        manifest.in_form(of["form"]).graph(kind, precision) if of["form"] in manifest.form_names() else None
    )
    if graph is None or graph.sha256 != of["sha256"]:
        raise BundleError(f"{path}: was built from another bundle's {of['file']}; {again}")
    _check_machine(path, entry, package, version, gpu)
    return EngineFile(path, entry)


def _check_machine(
    path: Path, entry: dict[str, Any], package: str, version: Version, gpu: Gpu | None
) -> None:
    built = entry["tensorrt"]
    if built["package"] != package or built["version"] != dotted(version):
        raise BackendError(
            f"{path.name} was built by {built['package']} {built['version']}, but {package} "
            f"{dotted(version)} is installed: build it again on this machine"
        )
    if gpu is None:
        raise BackendError(f"{path.name} needs a GPU, but no CUDA driver or GPU was found")
    device = entry["device"]
    if device is not None and device["name"] != gpu.name:
        raise BackendError(
            f"{path.name} was built on {device['name']}, but this is {gpu.name}: "
            "build it again on this machine"
        )
    if gpu.compute_capability not in entry["compute_capabilities"]:
        raise BackendError(
            f"{path.name} needs compute capability {' or '.join(entry['compute_capabilities'])}, but "
            f"{gpu.name} has {gpu.compute_capability}: build it for {gpu.compute_capability}"
        )


def read_sidecar(engine: Path) -> dict[str, Any]:
    """Read an engine's sidecar. Raises BackendError if it is missing, BundleError if it is damaged."""
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
        raise BundleError(f"{path}: is not a sidecar, its format is not {FORMAT!r}; build the engine again")
    if entry.get("version") != VERSION:
        raise BundleError(
            f"{path}: has version {entry.get('version')!r}, this release reads {VERSION}; build it again"
        )
    if entry.get("sha256") != digest_of(entry):
        raise BundleError(f"{path}: changed since it was written; build the engine again with --force")
    return entry
