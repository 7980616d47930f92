"""Write an engine and what belongs to it, so that an engine with a sidecar is always complete."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from multires_edge.base.errors import OutputError
from multires_edge.base.files import disk_errors, flush_folder, locked_folder, staged_file
from multires_edge.runtime.backends.tensorrt.sidecar import SIDECAR, Sidecar, sidecar_path


def write_engine(path: Path, engine: bytes, layers: str, sidecar: Sidecar, *, force: bool) -> None:
    """Write an engine, its layers and its sidecar. Raises OutputError.

    Remove the old sidecar first and add the new sidecar last: an engine with a sidecar is complete.

    All new files are on the disk before an old file is removed. So a full disk never costs an old engine.
    """
    beside, folder = sidecar_path(path), path.parent
    contents = {
        path: engine,
        path.with_suffix(".layers.txt"): layers.encode(),
        beside: SIDECAR.to_bytes(sidecar),
    }
    with disk_errors(path), ExitStack() as stack:
        folder.mkdir(exist_ok=True)
        staged = [
            (stack.enter_context(staged_file(final, content)), final) for final, content in contents.items()
        ]
        # Engine and sidecar are of the same build.
        stack.enter_context(locked_folder(folder))
        if beside.exists() and not force:
            raise OutputError(f"{path}: another process built it meanwhile; give --force to replace it")
        # An engine without a sidecar is left over from a killed build, and is replaced.
        beside.unlink(missing_ok=True)
        flush_folder(folder)
        for temporary, final in staged:
            temporary.replace(final)
            flush_folder(folder)
