"""The ring kernels that come with the package, as PTX.

PTX and not a compiler: the driver translates it for the GPU that it finds, once, and keeps the result. So one
text of a few kilobytes serves every GPU from Turing on, those of the future included, and neither NVRTC nor
nvcc has to be on the device.
"""

from __future__ import annotations

from pathlib import Path

from multires_edge.base.errors import BackendError

WORDS = (16, 4, 2, 1)  # bytes; each has a kernel
THREADS = 256
_PTX = Path(__file__).parents[2] / "cpp" / "cuda" / "rings.ptx"


def read_ptx() -> bytes:
    """The kernels, as the driver loads them: terminated by a zero. Raises BackendError."""
    try:
        return _PTX.read_bytes() + b"\0"
    except OSError as error:
        raise BackendError(
            f"{_PTX}: cannot be read ({error.strerror}), so this installation is damaged; install it again"
        ) from error


def kernel_names() -> list[str]:
    """All that rings.ptx has."""
    return [f"{kernel}_{word}" for word in WORDS for kernel in ("gather_taps", "push_rows")]


def word_bytes(row_bytes: int) -> int:
    """The widest words that a row can be copied in."""
    return next(word for word in WORDS if row_bytes % word == 0)


def threads_of(row_bytes: int) -> int:
    """Threads of a block that copies a row: whole warps, no more than words."""
    words = row_bytes // word_bytes(row_bytes)
    return min(THREADS, -(-words // 32) * 32)
