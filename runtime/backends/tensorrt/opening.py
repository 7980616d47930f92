"""Open a bundle's engines on a device: find one that fits this machine, or say why none does."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from multires_edge.base.errors import BackendError, BundleError, InputError, MultiresError
from multires_edge.format.manifest import Manifest
from multires_edge.runtime.backends.device.driver import Driver
from multires_edge.runtime.backends.device.gpu import find_gpu, why_no_gpu
from multires_edge.runtime.backends.protocol import Backend, RunOptions
from multires_edge.runtime.backends.tensorrt.engine_file import EngineFile, check_engine, engines_of
from multires_edge.runtime.backends.tensorrt.loaded import LoadedEngine
from multires_edge.runtime.backends.tensorrt.rings import RingDevice
from multires_edge.runtime.backends.tensorrt.runner import TensorRtRunner
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper

STREAM_KINDS = ("step", "taps")
T = TypeVar("T")


class TensorRtBackend(Backend):
    """Runs engines that `multires-edge build` made from a bundle."""

    name = "tensorrt"
    ability = "run TensorRT engines"
    needs_gpu = True
    place = "the first device of CUDA_VISIBLE_DEVICES"

    def missing(self) -> str | None:
        if find_spec("tensorrt") or find_spec("tensorrt_rtx"):
            return why_no_gpu()
        return why_no_gpu() or "TensorRT for Python is not installed"

    def load(self) -> None:
        Driver()

    def precisions(self, folder: Path, manifest: Manifest) -> set[str]:
        names = (path.name.split(".") for path in engines_of(folder))
        return {precision for kind, precision, *_ in names if kind in STREAM_KINDS}

    def make_stepper(
        self, folder: Path, manifest: Manifest, batch: int, options: RunOptions
    ) -> TensorRtStepper:
        engine = find_engine(folder, manifest, options.precision, STREAM_KINDS, batch)
        states = engine.manifest.graph("step", options.precision).states
        spec, n_tokens = engine.spec, manifest.network.n_tokens
        return _on_device(
            engine, lambda device, loaded: TensorRtStepper(device, loaded, spec, states, batch, n_tokens)
        )

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> TensorRtRunner:
        engine = find_engine(folder, manifest, options.precision, ("full",))
        return _on_device(
            engine, lambda device, loaded: TensorRtRunner(device, loaded, engine.spec, engine.check_sizes)
        )


def find_engine(
    folder: Path, manifest: Manifest, precision: str, kinds: Collection[str], streams: int | None = None
) -> EngineFile:
    """The best engine of a bundle, of graphs of some kinds, that this machine can run for ``streams``.

    The best is a step engine that updates its queues in place, then a taps engine, then any step engine,
    which copies every queue at every step. Raises BackendError without a GPU, TensorRT or an engine for both,
    BundleError if the engine is damaged or of another bundle, InputError if it is for other numbers of
    streams.
    """
    gpu = find_gpu()  # first: without a GPU, the advice to build an engine would be useless
    usable: list[EngineFile] = []
    refusals: list[MultiresError] = []
    for path in engines_of(folder):
        kind, of_precision = path.name.split(".")[:2]
        if kind in kinds and of_precision == precision:
            try:
                engine = check_engine(path, manifest, gpu)
                if streams is not None:
                    engine.check_sizes(batch=streams)
                usable.append(engine)
            except MultiresError as error:
                refusals.append(error)
    if usable:
        return max(usable, key=lambda engine: (engine.updates_in_place, engine.kind == "taps"))
    if not refusals:
        what = next(iter(kinds))
        raise BackendError(
            f"{folder} has no {what} engine in {precision}: multires-edge build {folder} --target NAME"
        )
    # A damaged engine first, then one that is for other numbers of streams: both can be built again here.
    for kind_of_error in (BundleError, InputError):
        if found := [error for error in refusals if isinstance(error, kind_of_error)]:
            raise found[0]
    raise BackendError("; ".join(map(str, refusals)))


def _on_device(engine: EngineFile, make: Callable[[RingDevice, LoadedEngine], T]) -> T:
    """Load an engine for what ``make`` makes, which then owns the device."""
    device = RingDevice()
    try:
        kernels = engine.path.with_suffix(".kernels")
        loaded = LoadedEngine(device, engine.api, engine.read(), engine.path.name, kernels)
        made = make(device, loaded)
        loaded.keep_kernels()
        return made
    except BaseException:
        device.close()
        raise
