"""Kernels that a bundle carries as PTX, for devices without NVRTC, and their plans."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multires_edge.base.errors import BackendError
from multires_edge.base.files import disk_errors, write_file
from multires_edge.format.specs import FileSpec
from multires_edge.runtime.backends.cuda.backend import find_nvrtc
from multires_edge.runtime.backends.cuda.plans import (
    FOLDER,
    PLANS,
    Kernel,
    KernelPlans,
    PlannedState,
    StreamPlan,
    plans_path,
)
from multires_edge.runtime.backends.cuda.stepper import driver_errors
from multires_edge.runtime.backends.native import load_engine, open_weights

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native
    from multires_edge.runtime.bundle import Bundle

_WHOLE = 0  # the window of whole sequences


def build_kernels(
    bundle: Bundle, precisions: Sequence[str], show: Callable[[Path], None] = lambda _: None
) -> list[Path]:
    """Compile the kernels of a bundle's native weights, for its own pooling and for whole sequences.

    Returns the files in the bundle's folder ``engines``. ``show`` gets each when it is written. Raises
    BackendError without NVRTC, BundleError or OutputError.
    """
    nvrtc = _oldest_nvrtc()
    folder = bundle.path / FOLDER
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    written: dict[str, FileSpec] = {}

    def write(name: str, content: bytes) -> FileSpec:
        if name not in written:  # precisions and windows share kernels
            write_file(folder / name, content, force=True)
            written[name] = FileSpec(f"{FOLDER}/{name}", hashlib.sha256(content).hexdigest())
            show(folder / name)
        return written[name]

    for precision in precisions or bundle.manifest.native:
        model = open_weights(bundle.path, bundle.manifest, precision)
        with driver_errors():
            own = load_engine().CudaPlan(model, 1)
            weights = write(f"cuda.{precision}.weights", own.weights)
            windows = dict.fromkeys((own.window, _WHOLE))
            plans = [plan_window(model, window, nvrtc, write) for window in windows]
        document = KernelPlans(bundle.manifest.native[precision].sha256, weights, tuple(plans))
        # The last: a plan is of files that are there.
        write(plans_path(folder, precision).name, PLANS.to_bytes(document))
    return [folder / name for name in written]


def plan_window(
    model: _native.Model,
    window: int,
    nvrtc: _native.Nvrtc,
    write: Callable[[str, bytes], FileSpec],
    most_rows: Sequence[int] = (1, 2, 4),
) -> StreamPlan:
    """Compile the kernels of a window, for each number of streams in a block that fits.

    ``write`` stores a kernel under its name.
    """
    engine, kernels = load_engine(), []
    for rows in most_rows:
        plan = engine.CudaPlan(model, rows, window=window)
        if plan.rows == rows:  # else so many streams do not fit, and this plan was compiled before
            code = write(*plan.compile_ptx(nvrtc))
            kernels.append(Kernel(rows, plan.threads, plan.scratch, code))
    shapes = engine.state_shapes(model, 1, window)
    return StreamPlan(
        window=plan.window,
        states={name: PlannedState(dtype, shape[1:]) for name, (dtype, shape) in shapes.items()},
        pointers=tuple(engine.state_pointers(model, window)),
        kernels=tuple(kernels),
    )


def _oldest_nvrtc() -> _native.Nvrtc:
    """Of CUDA 12 if there is one: the drivers of JetPack 6 do not read the PTX of later ones."""
    try:
        return find_nvrtc(12)
    except BackendError:
        return find_nvrtc(13)
