"""A CUDA device whose kernels run in the interpreter of PTX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.runtime.backends.device.cuda import CudaDevice
from tests.runtime.backends.cuda.ptx.interpreter import Interpreter

_CAPACITY = 1 << 24  # bytes


class InterpretedDevice(CudaDevice):
    """It has a single module. ``apart`` is the order of warps, ``text`` replaces the PTX that it loads."""

    interpreter: Interpreter
    apart = text = ""

    def __init__(self) -> None:
        pass  # there is no driver

    def activate(self) -> None:
        pass

    def load(self, image: bytes) -> int:
        text = self.text or image.rstrip(b"\0").decode()
        self.interpreter = Interpreter(text, _CAPACITY, self.apart)
        return 0

    def function(self, module: int, name: str) -> Any:
        return name

    def allocate(self, size: int) -> int:
        return self.interpreter.memory.upload(np.zeros(max(size, 1), np.uint8))

    def mapped(self, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[NDArray[Any], int]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = self.allocate(size)
        return self.interpreter.memory.view(address, size).view(dtype).reshape(shape), address

    def upload(self, address: int, array: NDArray[Any]) -> None:
        self.interpreter.memory.view(address, array.nbytes)[...] = array.reshape(-1).view(np.uint8)

    def download(self, array: NDArray[Any], address: int) -> None:
        array.reshape(-1).view(np.uint8)[...] = self.interpreter.memory.view(address, array.nbytes)

    def launcher(
        self, function: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> Callable[[], None]:
        return lambda: self.interpreter.launch(function, grid, block, map(bytes, arguments))

    def synchronize(self) -> None:
        pass

    def close(self) -> None:
        pass
