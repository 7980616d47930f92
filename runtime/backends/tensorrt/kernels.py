"""The ring kernels that come with the package, as PTX.

The driver translates PTX once for the GPU that it finds, and keeps the result. So one text of a few kilobytes
serves every GPU from Turing on, also future GPUs. The device needs neither NVRTC nor nvcc.
"""

from __future__ import annotations

from pathlib import Path

from multires_edge.base.errors import BackendError

WORDS = (16, 4, 2, 1)  # bytes; rings.ptx has kernels for each
THREADS = 256
PTX = Path(__file__).parents[2] / "cpp" / "cuda" / "rings.ptx"


def read_ptx() -> bytes:
    """The PTX text, terminated by a zero byte for the driver. Raises BackendError."""
    try:
        return PTX.read_bytes() + b"\0"
    except OSError as error:
        raise BackendError(
            f"{PTX}: cannot be read ({error.strerror}): this installation is damaged; install it again"
        ) from error


def kernel_names() -> list[str]:
    """The names of all kernels in rings.ptx."""
    return [f"{kernel}_{word}" for word in WORDS for kernel in ("gather_taps", "push_rows")]


def word_bytes(row_bytes: int) -> int:
    """The largest of WORDS that divides a row."""
    return next(word for word in WORDS if row_bytes % word == 0)


def threads_of(row_bytes: int) -> int:
    """The threads of a block that copies a row: one per word, in whole warps, at most THREADS."""
    words = row_bytes // word_bytes(row_bytes)
    return min(THREADS, -(-words // 32) * 32)
