"""Open streams on a device: find an engine of the bundle that fits this machine, or say why not."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.base.installation import pip_install
from multires_edge.format.manifest import Manifest
from multires_edge.runtime.backends.protocol import Backend, RunOptions
from multires_edge.runtime.backends.tensorrt.api import Api, load_api
from multires_edge.runtime.backends.tensorrt.cuda import CudaDevice, load_driver
from multires_edge.runtime.backends.tensorrt.engine_file import (
    EngineFile,
    check_engine,
    engines_of,
)
from multires_edge.runtime.backends.tensorrt.gpu import Gpu, find_gpu
from multires_edge.runtime.backends.tensorrt.loaded import LoadedEngine
from multires_edge.runtime.backends.tensorrt.sidecar import read_sidecar
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper


class TensorRtBackend(Backend):
    """Runs engines that `multires-edge build` made from a bundle."""

    name = "tensorrt"
    ability = "stream on TensorRT engines"
    whole_sequences = False
    place = "the first device of CUDA_VISIBLE_DEVICES"

    def missing(self) -> str | None:
        if find_gpu() is None:
            return "no NVIDIA GPU or driver found"
        if not (find_spec("tensorrt") or find_spec("tensorrt_rtx")):
            return "TensorRT for Python is not installed"
        return None if find_spec("cuda") else pip_install("tensorrt")

    def load(self) -> None:
        load_driver()

    def precisions(self, folder: Path, manifest: Manifest) -> set[str]:
        names = (path.name.split(".") for path in engines_of(folder))
        return {precision for kind, precision, *_ in names if kind in ("step", "taps")}

    def make_stepper(
        self, folder: Path, manifest: Manifest, batch: int, options: RunOptions
    ) -> TensorRtStepper:
        return open_stepper(folder, manifest, options.precision, batch)


def open_stepper(folder: Path, manifest: Manifest, precision: str, batch: int) -> TensorRtStepper:
    """Streams on the best engine of a bundle that this machine can run.

    Raises MissingExtraError without ``cuda.bindings``, BackendError without TensorRT, a GPU, or an engine
    for both, BundleError if the engine is damaged or of another bundle, InputError for a batch outside the
    engine's profile.
    """
    load_driver()
    gpu = find_gpu()
    if gpu is None:
        # Checked first: without a GPU, the advice to build an engine would be useless.
        raise BackendError(
            "the tensorrt backend found no CUDA driver or GPU: use backend native or onnxruntime, or run it "
            "on the device"
        )
    kind, engine, api = find_engine(folder, manifest, precision, gpu)
    of_form = manifest.in_form(engine.sidecar.graph.form)
    spec, states = of_form.graph(kind, precision), of_form.graph("step", precision).states
    device = CudaDevice()
    try:
        loaded = LoadedEngine(device, api, engine.read(), engine.path.name)
        return TensorRtStepper(device, loaded, spec, states, batch, manifest.model.n_tokens)
    except BaseException:
        device.close()
        raise


def find_engine(
    folder: Path, manifest: Manifest, precision: str, gpu: Gpu | None
) -> tuple[str, EngineFile, Api]:
    """A step engine that updates its queues in place, else a taps engine, else any step engine.

    A step engine that does not update in place copies every queue at every step. Raises BackendError or
    BundleError if no engine fits.
    """
    usable: dict[str, tuple[EngineFile, Api]] = {}
    refusals: list[BackendError | BundleError] = []
    for path in engines_of(folder):
        kind, of_precision = path.name.split(".")[:2]
        if of_precision != precision:
            continue
        if kind not in ("step", "taps") or kind in usable:
            continue
        try:
            api = _api_for(path)
            engine = check_engine(
                path, manifest, kind, precision, package=api.package, version=api.version, gpu=gpu
            )
            usable[kind] = engine, api
        except (BackendError, BundleError) as error:
            refusals.append(error)
    if "step" in usable and (
        "taps" not in usable or _updates_in_place(usable["step"][0], manifest, precision)
    ):
        return ("step", *usable["step"])
    if "taps" in usable:
        return ("taps", *usable["taps"])
    if not refusals:
        raise BackendError(
            f"{folder} has no step engine in {precision}: multires-edge build {folder} --target NAME"
        )
    damaged = next((error for error in refusals if isinstance(error, BundleError)), None)
    raise damaged or BackendError("; ".join(map(str, refusals)))


def _api_for(path: Path) -> Api:
    try:
        return load_api(read_sidecar(path).tensorrt.package)
    except BackendError as error:
        raise BackendError(f"{path.name} {error}") from error


def _updates_in_place(step: EngineFile, manifest: Manifest, precision: str) -> bool:
    """Whether a step engine updates all its queues in place."""
    states = manifest.in_form(step.sidecar.graph.form).graph("step", precision).states
    return all(state.input in step.sidecar.in_place for state in states if state.in_place)
