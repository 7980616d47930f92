"""Kernels that a bundle carries as PTX, for devices without NVRTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multires_edge.base.errors import BackendError
from multires_edge.base.files import disk_errors, write_file
from multires_edge.runtime.backends.cuda.backend import KERNELS, find_nvrtc
from multires_edge.runtime.backends.cuda.stepper import driver_errors
from multires_edge.runtime.backends.native import OWN_WINDOW, load_engine, open_weights

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native
    from multires_edge.runtime.bundle import Bundle

_ROWS = (1, 2, 4)  # streams of a block, by the number of all streams
_WHOLE = 0  # the window of whole sequences


def build_kernels(bundle: Bundle, precisions: Sequence[str]) -> Iterator[Path]:
    """Compile the kernels of a bundle's native weights, for its own pooling and for whole sequences.

    Yields each file in the bundle's folder ``engines`` when it is written. Raises BackendError without NVRTC,
    BundleError or OutputError.
    """
    nvrtc = _oldest_nvrtc()
    folder = bundle.path / KERNELS
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    written = set()
    for precision in precisions or bundle.manifest.native:
        model = open_weights(bundle.path, bundle.manifest, precision)
        for window in (OWN_WINDOW, _WHOLE):
            for rows in _ROWS:
                with driver_errors():
                    plan = load_engine().CudaPlan(model, rows, window=window)
                    if plan.rows != rows:
                        continue  # so many streams do not fit: it is a plan that was compiled before
                    name, content = plan.compile_ptx(nvrtc)
                if name not in written:
                    write_file(folder / name, content, force=True)
                    yield folder / name
                written.add(name)


def _oldest_nvrtc() -> _native.Nvrtc:
    """Of CUDA 12 if there is one: the drivers of JetPack 6 do not read the PTX of later ones."""
    try:
        return find_nvrtc(12)
    except BackendError:
        return find_nvrtc(13)
