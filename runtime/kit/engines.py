"""Build the engines of a kit on its device as `multires-edge build` does, or keep those of an earlier run."""

from __future__ import annotations

import sys
from pathlib import Path

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.format.manifest import Manifest
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.engine_file import check_engine, engine_path
from multires_edge.runtime.backends.tensorrt.opening import STREAM_KINDS, find_engine
from multires_edge.runtime.engine_builder.build import Builder
from multires_edge.runtime.engine_builder.shapes import Profile, Range
from multires_edge.runtime.kit.opened import Kit
from multires_edge.runtime.kit.report import EngineRun


def build_engines(kit: Kit, precision: str, most_streams: int, gpu: Gpu, *, rebuild: bool) -> list[EngineRun]:
    """Build the engines of a precision that are missing or do not fit. Returns those that the runtime takes.

    First the engine of streams, then that of the full graph. Raises BackendError if TensorRT fails.
    """
    bundle, target = kit.bundle, kit.description.target
    builder, longest = Builder.here(target), kit.description.longest(precision)
    for kind in builder.kinds(bundle.manifest):
        ranges = {"batch": Range(1, 1, most_streams)}
        if kind == "full":
            ranges["time"] = Range(1, longest, longest)
        path = engine_path(bundle.path, kind, precision, target)
        if rebuild or not _fits(path, bundle.manifest, gpu, ranges):
            print(f"building {path.name} ...", file=sys.stderr, flush=True)
            builder.build(
                bundle, kind, precision, batch=ranges["batch"], time_range=ranges.get("time"), force=True
            )
    taken = [
        find_engine(bundle.path, bundle.manifest, precision, kinds) for kinds in (STREAM_KINDS, ("full",))
    ]
    return [EngineRun(engine.what, engine.sidecar) for engine in taken]


def _fits(path: Path, manifest: Manifest, gpu: Gpu, ranges: dict[str, Range]) -> bool:
    try:
        sidecar = check_engine(path, manifest, gpu).sidecar
    except (BackendError, BundleError):
        return False
    return sidecar.profile == Profile(ranges).sizes()
