"""A CUDA device with the ring kernels."""

from __future__ import annotations

import ctypes
from pathlib import Path

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.device.cuda import CudaDevice
from multires_edge.runtime.backends.tensorrt.device import RingMove

_INT, _POINTER = ctypes.c_int, ctypes.c_void_p

# The ring kernels come with the package, as PTX. The driver translates PTX once for the GPU that it finds,
# and keeps the result. So one text of a few kilobytes serves every GPU from Turing on, also future GPUs. The
# device needs neither NVRTC nor nvcc.
PTX = Path(__file__).parents[2] / "cpp" / "cuda" / "rings.ptx"
_WORDS = (16, 4, 2, 1)  # bytes; rings.ptx has kernels for each
_MOST_THREADS = 256


def read_ptx() -> bytes:
    """The ring kernels, terminated by a zero byte for the driver. Raises BackendError."""
    try:
        return PTX.read_bytes() + b"\0"
    except OSError as error:
        raise BackendError(
            f"{PTX}: cannot be read ({error.strerror}): this installation is damaged; install it again"
        ) from error


def kernel_names() -> list[str]:
    """The names of all kernels in rings.ptx."""
    return [f"{kernel}_{word}" for word in _WORDS for kernel in ("gather_taps", "push_rows")]


def word_bytes(row_bytes: int) -> int:
    """The largest word that divides a row."""
    return next(word for word in _WORDS if row_bytes % word == 0)


class RingDevice(CudaDevice):
    """The device of the TensorRT backend."""

    def __init__(self) -> None:
        super().__init__()
        module = self.load(read_ptx())
        self._kernels = {name: self.function(module, name) for name in kernel_names()}

    def gather_taps(self, move: RingMove) -> None:
        self._launch("gather_taps", move)

    def push_rows(self, move: RingMove, next_position: int) -> None:
        self._launch("push_rows", move, _POINTER(next_position))

    def _launch(self, kernel: str, move: RingMove, *more: ctypes.c_void_p) -> None:
        """Launch a block for each row of the batch and each access; rings.cu has the arguments."""
        word = word_bytes(move.row_bytes)
        arguments = [
            *(_POINTER(move.accesses), _INT(move.count), _POINTER(move.position), _POINTER(move.rows)),
            *(_INT(move.batch), _INT(move.row_bytes // word), *more),
        ]
        # One thread for each word, in whole warps.
        threads = min(_MOST_THREADS, -(-move.row_bytes // word // 32) * 32)
        grid, block = (move.batch, move.count, 1), (threads, 1, 1)
        function = self._kernels[f"{kernel}_{word}"]
        self.launcher(function, grid, block, arguments)()
