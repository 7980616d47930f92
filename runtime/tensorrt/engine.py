"""Engine files and their sidecars: ``engines/GRAPH.PRECISION.TARGET.engine``, and ``.json`` beside each.

Nothing is put before an engine, so that every tool of TensorRT's reads it. What it is of and what it runs on
stands in the sidecar.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multires_edge.runtime.digest import sha256_of
from multires_edge.runtime.errors import BackendError, BundleError
from multires_edge.runtime.gpu import Gpu
from multires_edge.runtime.manifest import Manifest
from multires_edge.runtime.tensorrt.api import Version, dotted

FOLDER = "engines"
FORMAT = "multires-engine"


@dataclass(frozen=True)
class Engine:
    """An engine that may be loaded here; ``entry`` is its sidecar."""

    path: Path
    entry: dict[str, Any]

    @property
    def in_place(self) -> dict[str, str]:
        """States that the engine updates in place, input to output: both are bound to one address."""
        updates: dict[str, str] = self.entry["in_place"]
        return updates

    def read(self) -> bytes:
        """The serialised engine."""
        return self.path.read_bytes()


def engines_of(folder: Path) -> list[Path]:
    """The engines of a bundle folder that are there, with sidecars, by name."""
    found = (folder / FOLDER).glob("*.engine")
    return sorted(path for path in found if path.with_suffix(".json").is_file())


def read_sidecar(engine: Path) -> dict[str, Any]:
    """The sidecar of an engine file. Raises BundleError for a damaged one."""
    path = engine.with_suffix(".json")
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); build the engine again") from error
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise BundleError(f"{path}: not a sidecar, its format is not {FORMAT!r}; build the engine again")
    return entry


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
    """Check an engine for this machine before TensorRT sees it.

    ``package`` ("tensorrt" or "tensorrt_rtx") and ``version`` are those installed, ``gpu`` is the device.
    Raises BundleError for an engine that is damaged or of another bundle, BackendError for one that is not
    for this machine.
    """
    entry = read_sidecar(path)
    again = "build it again: multires-edge build … --force"
    if sha256_of(path) != entry["engine"]["sha256"]:
        raise BundleError(
            f"{path}: has {path.stat().st_size:,} bytes with another SHA-256 than the "
            f"{entry['engine']['bytes']:,} in its sidecar, so it is truncated or changed; {again}"
        )
    if manifest.graph(kind, precision).sha256 != entry["graph"]["sha256"]:
        raise BundleError(
            f"{path}: was built from another bundle's {entry['graph']['file']}, not from the one beside it; "
            f"{again}"
        )
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
    return Engine(path, entry)
