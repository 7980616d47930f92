"""Engine files and their sidecars: ``engines/GRAPH.PRECISION.TARGET.engine`` and ``.json``.

An engine file has no header of ours, so every TensorRT tool can read it. The sidecar says which graph the
engine was built from and where it runs. It is written last: an engine without a sidecar is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.base.files import sha256_of
from multires_edge.format.manifest import Manifest
from multires_edge.format.targets import Version, dotted
from multires_edge.runtime.backends.tensorrt.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.sidecar import Sidecar, read_sidecar, sidecar_path

FOLDER = "engines"


def engine_path(folder: Path, kind: str, precision: str, target: str) -> Path:
    """The path of an engine in a bundle folder."""
    return folder / FOLDER / f"{kind}.{precision}.{target}.engine"


@dataclass(frozen=True)
class EngineFile:
    """An engine that this machine may load, and its sidecar."""

    path: Path
    sidecar: Sidecar

    def read(self) -> bytes:
        """The serialized engine, for ``deserialize_cuda_engine``."""
        return self.path.read_bytes()


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
    sidecar = read_sidecar(path)
    again = "build it again: multires-edge build … --force"
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    if found != sidecar.engine.sha256:
        size = path.stat().st_size
        raise BundleError(
            f"{path}: is truncated or changed ({size:,} of {sidecar.engine.bytes:,} bytes, another "
            f"SHA-256 than in its sidecar); {again}"
        )
    of = sidecar.graph
    graphs = manifest.in_form(of.form).graphs if of.form in manifest.form_names() else {}
    graph = graphs.get(kind, {}).get(precision)
    if graph is None or graph.sha256 != of.sha256:
        raise BundleError(f"{path}: was built from another bundle's {of.file}; {again}")
    states = {state.input: state.output for state in graph.states}
    if not sidecar.in_place.items() <= states.items():
        raise BundleError(f"{path}: in_place of its sidecar has other states than {of.file}; {again}")
    _check_machine(path, sidecar, package, version, gpu)
    return EngineFile(path, sidecar)


def _check_machine(path: Path, sidecar: Sidecar, package: str, version: Version, gpu: Gpu | None) -> None:
    built = sidecar.tensorrt
    if built.package != package or built.version != dotted(version):
        raise BackendError(
            f"{path.name} was built by {built.package} {built.version}, but {package} "
            f"{dotted(version)} is installed: build it again on this machine"
        )
    if gpu is None:
        raise BackendError(f"{path.name} needs a GPU, but no CUDA driver or GPU was found")
    device = sidecar.device
    if device is not None and device.name != gpu.name:
        raise BackendError(
            f"{path.name} was built on {device.name}, but this is {gpu.name}: build it again on this machine"
        )
    if gpu.compute_capability not in sidecar.compute_capabilities:
        raise BackendError(
            f"{path.name} needs compute capability {' or '.join(sidecar.compute_capabilities)}, but "
            f"{gpu.name} has {gpu.compute_capability}: build it for {gpu.compute_capability}"
        )
