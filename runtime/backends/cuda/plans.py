"""``engines/cuda.PRECISION.json``: how to run the kernels of a bundle without the native engine.

The native engine plans a kernel: it lays the weights out, and knows the order of the kernel's arguments.
`multires-edge build --target cuda` writes its plans beside the kernels (docs/cuda.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.format.fields import Count, Document, Name, Natural, OneOf, Sha256
from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import FileSpec

FOLDER = "engines"  # of a bundle


@dataclass(frozen=True)
class PlannedState:
    """A state; ``shape`` is that of one stream, without the batch."""

    dtype: Annotated[str, OneOf(("float32", "float16", "int8", "int64"))]
    shape: tuple[Count, ...]


@dataclass(frozen=True)
class Kernel:
    """PTX for blocks of ``rows`` streams and ``threads`` threads, with ``scratch`` bytes for each block."""

    rows: Count
    threads: Count
    scratch: Natural
    code: FileSpec


@dataclass(frozen=True)
class StreamPlan:
    """Streams that pool over ``window`` steps, 0 for everything so far.

    ``pointers`` are the states in the order of the kernel's argument, None where it has a null pointer.
    """

    window: Natural
    states: dict[Name, PlannedState]
    pointers: tuple[Name | None, ...]
    kernels: tuple[Kernel, ...]

    def __post_init__(self) -> None:
        if {name for name in self.pointers if name is not None} != set(self.states):
            raise ValueError(f"pointers are {list(self.pointers)}, expected each of {list(self.states)}")
        if not self.kernels:
            raise ValueError("kernels is empty")

    def kernel_for(self, batch: int, multiprocessors: int) -> Kernel:
        """The kernel with the most streams in a block that leaves every multiprocessor two blocks."""
        able = [kernel for kernel in self.kernels if batch // 2 // kernel.rows >= multiprocessors]
        return max(able, default=self.kernels[0], key=lambda kernel: kernel.rows)


@dataclass(frozen=True)
class KernelPlans:
    """The plans of a precision. The first is for the pooling of the bundle.

    ``native_sha256`` is the digest of the native weights that they are for, ``weights`` are these in the
    layout of the kernel.
    """

    native_sha256: Sha256
    weights: FileSpec
    plans: tuple[StreamPlan, ...]

    def files(self) -> list[FileSpec]:
        """All files that they name."""
        return [self.weights, *(kernel.code for plan in self.plans for kernel in plan.kernels)]


PLANS = Document(
    "kernel plan", "multires-kernels", 1, KernelPlans, BundleError,
    "write it again: multires-edge build … --target cuda",
)  # fmt: skip


def plans_path(folder: Path, precision: str) -> Path:
    """The path of the plans in a bundle folder."""
    return folder / FOLDER / f"cuda.{precision}.json"


def read_plans(folder: Path, manifest: Manifest, precision: str) -> KernelPlans:
    """Read the plans of a precision.

    Raises BackendError if the bundle has none, BundleError if they are damaged or for other weights.
    """
    path = plans_path(folder, precision)
    try:
        plans = PLANS.read(path)
    except FileNotFoundError:
        raise BackendError(
            f"{folder} has no plan of the kernel in {precision}, which a machine without the native engine "
            f"needs: multires-edge build {folder} --target cuda, where the engine is installed"
        ) from None
    if precision not in manifest.native or plans.native_sha256 != manifest.native[precision].sha256:
        raise BundleError(f"{path}: is for other weights than those of the bundle; {PLANS.remedy}")
    return plans


def plan_for(plans: KernelPlans, window: int | None, folder: Path) -> StreamPlan:
    """The plan for a window in steps; None is that of the bundle. Raises BackendError if there is none."""
    for plan in plans.plans:
        if window in (None, plan.window):
            return plan
    known = ", ".join(str(plan.window) for plan in plans.plans)
    raise BackendError(
        f"{folder} has kernels for windows of {known} steps (0 is everything so far), not {window}; install "
        "the native engine to use another window"
    )
