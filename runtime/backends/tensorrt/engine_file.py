"""Engine files and their sidecars: ``engines/GRAPH.PRECISION.TARGET.engine`` and ``.json``.

An engine file has no header of ours, so every TensorRT tool can read it. The sidecar says which graph the
engine was built from and where it runs. It is written last: an engine without a sidecar is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import BackendError, BundleError, InputError
from multires_edge.base.files import sha256_of
from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import GraphSpec
from multires_edge.format.targets import dotted
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.api import Api, load_api
from multires_edge.runtime.backends.tensorrt.sidecar import Sidecar, read_sidecar, sidecar_path
from multires_edge.runtime.bundle_files import read_file

FOLDER = "engines"
_COUNTED = {"streams": "streams", "batch": "sequences", "time": "steps"}
_AGAIN = "build it again: multires-edge build … --force"


def engine_path(folder: Path, kind: str, precision: str, target: str) -> Path:
    """The path of an engine in a bundle folder."""
    return folder / FOLDER / f"{kind}.{precision}.{target}.engine"


def options_of(spec: GraphSpec) -> dict[str, str]:
    """The option of each dynamic size of a graph. The batch of a step is its streams."""
    sizes = {size for tensor in spec.inputs for size in tensor.shape if isinstance(size, str)}
    return {size: size if "time" in sizes else "streams" for size in sorted(sizes)}


@dataclass(frozen=True)
class EngineFile:
    """An engine that this machine may load. ``manifest`` is in the form of the engine's graph."""

    path: Path
    sidecar: Sidecar
    api: Api
    manifest: Manifest

    @property
    def kind(self) -> str:
        return self.sidecar.graph.kind

    @property
    def spec(self) -> GraphSpec:
        """The graph that it was built from."""
        return self.manifest.graph(self.kind, self.sidecar.graph.precision)

    @property
    def what(self) -> str:
        """Its kind, and how it updates its queues."""
        how = {"step": ", queues in place" if self.updates_in_place else ", queues copied"}
        return f"{self.kind} engine{how.get(self.kind, '')}"

    @property
    def updates_in_place(self) -> bool:
        """Whether it is a step engine that updates all its queues in place. Others of its kind copy them."""
        queues = [state.input for state in self.spec.states if state.in_place]
        return self.kind == "step" and all(queue in self.sidecar.in_place for queue in queues)

    def check_sizes(self, **sizes: int) -> None:
        """Raise InputError for a size that it was not built for, with the command to build it again."""
        for size, option in options_of(self.spec).items():
            least, _, most = self.sidecar.profile[size]
            if not least <= sizes[size] <= most:
                built = str(least) if least == most else f"{least} to {most}"
                bundle, target = self.path.parent.parent, self.sidecar.target
                raise InputError(
                    f"{self.path.name} was built for {built} {_COUNTED[option]}, not {sizes[size]}: "
                    f"multires-edge build {bundle} --target {target} --graph {self.kind} --{option} "
                    f"{sizes[size]} --force"
                )

    def read(self) -> bytes:
        """The content of the engine. Raises BundleError if it changed since it was checked."""
        return read_file(self.path.parent, self.path.name, self.sidecar.engine.sha256)


def engines_of(folder: Path) -> list[Path]:
    """The engines with sidecars in a bundle folder, sorted by name."""
    found = (folder / FOLDER).glob("*.engine")
    return sorted(path for path in found if sidecar_path(path).is_file())


def check_engine(path: Path, manifest: Manifest, gpu: Gpu) -> EngineFile:
    """Check that an engine is of a graph of a bundle and for this machine, before TensorRT sees it.

    ``gpu`` is the device. Raises BundleError if the engine is damaged or of another bundle, BackendError if
    it is missing or does not fit this machine.
    """
    sidecar = read_sidecar(path)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from error
    if found != sidecar.engine.sha256:
        size = path.stat().st_size
        raise BundleError(
            f"{path}: is truncated or changed ({size:,} of {sidecar.engine.bytes:,} bytes, another "
            f"SHA-256 than in its sidecar); {_AGAIN}"
        )
    of = sidecar.graph
    of_form = manifest.in_form(of.form) if of.form in manifest.by_form else manifest
    graph = of_form.graphs.get(of.kind, {}).get(of.precision)
    if graph is None or graph.sha256 != of.sha256:
        raise BundleError(f"{path}: was built from another bundle's {of.file}; {_AGAIN}")
    states = {state.input: state.output for state in graph.states}
    if not sidecar.in_place.items() <= states.items():
        raise BundleError(f"{path}: in_place of its sidecar has other states than {of.file}; {_AGAIN}")
    return EngineFile(path, sidecar, _check_machine(path, sidecar, gpu), of_form)


def _check_machine(path: Path, sidecar: Sidecar, gpu: Gpu) -> Api:
    """Check the device and the installed package, and return the package."""
    built = sidecar.tensorrt
    try:
        api = load_api(built.package)
    except BackendError as error:
        raise BackendError(f"{path.name} {error}") from error
    if built.version != dotted(api.version):
        raise BackendError(
            f"{path.name} was built by {built.package} {built.version}, but {built.package} "
            f"{dotted(api.version)} is installed: build it again on this machine"
        )
    if sidecar.device not in (None, gpu):
        raise BackendError(
            f"{path.name} was built on {sidecar.device}, but this is {gpu}: build it again on this machine"
        )
    if gpu.compute_capability not in sidecar.compute_capabilities:
        raise BackendError(
            f"{path.name} needs compute capability {' or '.join(sidecar.compute_capabilities)}, but "
            f"{gpu.name} has {gpu.compute_capability}: build it for {gpu.compute_capability}"
        )
    return api
