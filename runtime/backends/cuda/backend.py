"""The backend ``cuda``: streams on an NVIDIA GPU without TensorRT."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING

from multires_edge.base.errors import BackendError
from multires_edge.format.manifest import Manifest
from multires_edge.runtime.backends.cuda.planned import PlannedStepper, planned_stepper
from multires_edge.runtime.backends.cuda.plans import FOLDER, plans_path
from multires_edge.runtime.backends.cuda.stepper import CudaStepper, driver_errors
from multires_edge.runtime.backends.device import driver
from multires_edge.runtime.backends.device.driver import Driver
from multires_edge.runtime.backends.device.gpu import find_gpu, why_no_gpu
from multires_edge.runtime.backends.native import OWN_WINDOW, load_engine, open_weights
from multires_edge.runtime.backends.native_weights import check_states, states_of, window_of
from multires_edge.runtime.backends.protocol import Backend, RunOptions
from multires_edge.runtime.backends.stream_runner import StreamRunner

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native

_WHEELS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")


class CudaBackend(Backend):
    """Runs native weights on the first CUDA device, in the precisions in which the bundle has them.

    The native engine plans the kernel. Without it, the bundle must have the plan.
    """

    name = "cuda"
    ability = "stream on an NVIDIA GPU by one kernel"
    checked_as = "kernel on the GPU"
    needs_gpu = True
    place = "the first device of CUDA_VISIBLE_DEVICES"
    changes_pooling = True

    def missing(self) -> str | None:
        reason = why_no_gpu()
        try:
            if reason is not None or not _has_engine():
                return reason
            find_nvrtc(Driver().version)
        except BackendError as error:
            return str(error)
        return None

    def unable(self, folder: Path, manifest: Manifest) -> str | None:
        """As :meth:`missing`. A bundle that has compiled kernels of all precisions needs no NVRTC."""
        has_kernels = all(plans_path(folder, precision).is_file() for precision in manifest.native)
        return why_no_gpu() if has_kernels else self.missing()

    def load(self) -> None:
        Driver()

    def precisions(self, folder: Path, manifest: Manifest) -> list[str]:
        """Those of the native weights; none on a machine that has no CUDA driver at all."""
        return [] if driver.load_library() is None else list(manifest.native)

    def make_stepper(
        self, folder: Path, manifest: Manifest, batch: int, options: RunOptions
    ) -> CudaStepper | PlannedStepper:
        precision, pooling = options.precision, options.pooling
        window = None if pooling is None else window_of(pooling)
        if not _has_engine():
            states = states_of(manifest, precision, pooling)
            return planned_stepper(folder, manifest, precision, batch, window, states)
        model = open_weights(folder, manifest, precision)
        window = OWN_WINDOW if window is None else window
        shapes = load_engine().state_shapes(model, batch, window)
        path = folder / manifest.native[precision].file
        check_states(shapes, path, states_of(manifest, precision, pooling), batch)
        return _on_device(model, folder, batch, window)

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> StreamRunner:
        precision = options.precision
        if not _has_engine():
            return StreamRunner(
                lambda x: planned_stepper(folder, manifest, precision, x.shape[1], 0).run(x), manifest
            )
        model = open_weights(folder, manifest, precision)
        return StreamRunner(lambda x: _on_device(model, folder, x.shape[1], 0).run(x), manifest)


def _has_engine() -> bool:
    """Whether the native engine was built. Raises BackendError if it was built from other sources."""
    try:
        from multires_edge.runtime.backends import _native  # noqa: F401
    except ImportError:
        return False
    return True


def find_nvrtc(most: int) -> _native.Nvrtc:
    """The newest NVRTC whose code a driver of CUDA ``most`` loads. Raises BackendError without NVRTC."""
    with driver_errors():
        nvrtc: _native.Nvrtc = load_engine().Nvrtc(most, nvrtc_of_packages())
        return nvrtc


def nvrtc_of_packages() -> list[str]:
    """The paths of NVRTC in NVIDIA's Python packages."""
    found = []
    for wheel in _WHEELS:
        try:
            paths = files(wheel) or ()
        except PackageNotFoundError:
            continue
        found += [str(path.locate()) for path in paths if re.search(r"/libnvrtc\.so\.\d+$", str(path))]
    return found


def _on_device(model: _native.Model, folder: Path, batch: int, window: int) -> CudaStepper:
    """Streams on the first device, by a kernel for it and the network. Raises BackendError."""
    gpu, engine = find_gpu(), load_engine()
    capability = int(gpu.compute_capability.replace(".", ""))
    with driver_errors():
        plan = engine.CudaPlan(model, engine.rows_for(batch, gpu.multiprocessors), window=window)
        code = plan.kernel(capability, str(folder / FOLDER), Driver().version, nvrtc_of_packages())
    return CudaStepper(model, plan, code, batch, Driver().library)
