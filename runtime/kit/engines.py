"""Build the engines of a kit on its device as `multires-edge build` does, or keep those of an earlier run."""

from __future__ import annotations

import sys

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.format.manifest import Manifest
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.engine_file import check_engine
from multires_edge.runtime.backends.tensorrt.opening import STREAM_KINDS, find_engine
from multires_edge.runtime.engine_builder.build import Builder, Plan
from multires_edge.runtime.engine_builder.shapes import Range
from multires_edge.runtime.kit.opened import Kit
from multires_edge.runtime.kit.report import EngineRun


def build_engines(kit: Kit, precision: str, most_streams: int, gpu: Gpu, *, rebuild: bool) -> list[EngineRun]:
    """Build the engines of a precision that are missing or do not fit. Returns those that the runtime takes.

    First the engine of streams, then that of the full graph. Raises BackendError if TensorRT fails.
    """
    bundle, target = kit.bundle, kit.description.target
    builder, longest = Builder.here(target), kit.description.longest(precision)
    rows = len(kit.golden.inputs)
    ranges = {
        "streams": Range(1, 1, most_streams),
        "batch": Range(1, 1, rows),
        "time": Range(1, longest, longest),
    }
    for kind in builder.kinds(bundle.manifest):
        plan = builder.plan(bundle, kind, precision, ranges, force=True)
        if rebuild or not _fits(plan, bundle.manifest, gpu):
            print(f"building {plan.path.name}, which can take minutes ...", file=sys.stderr, flush=True)
            builder.build(plan)
    taken = [
        find_engine(bundle.path, bundle.manifest, precision, STREAM_KINDS, most_streams),
        find_engine(bundle.path, bundle.manifest, precision, ("full",)),
    ]
    return [EngineRun(engine.what, engine.sidecar) for engine in taken]


def _fits(plan: Plan, manifest: Manifest, gpu: Gpu) -> bool:
    try:
        sidecar = check_engine(plan.path, manifest, gpu).sidecar
    except (BackendError, BundleError):
        return False
    return sidecar.profile == plan.profile.sizes()
