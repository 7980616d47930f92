"""The native engine's streams on an NVIDIA GPU in Python's types: NVRTC, plans of the kernel, streams.

Functions raise RuntimeError with the message of NVRTC or of the engine, or DriverError.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.backends._native_library import (
    INT,
    POINTER,
    REFERENCE,
    SIZE,
    TEXT,
    address_of,
    array_of,
    check,
    function,
    taken,
    texts,
)
from multires_edge.runtime.backends._native_streams import Model

_DEFAULT_WINDOW = -1
_STRINGS = (ctypes.POINTER(TEXT), SIZE)
_nvrtc_find = function("native_nvrtc_find", INT, INT, *_STRINGS, REFERENCE)
_nvrtc_free = function("native_nvrtc_free", None, POINTER)
_nvrtc_compile = function(
    *("native_nvrtc_compile", INT, POINTER, TEXT, ctypes.POINTER(TEXT), ctypes.POINTER(TEXT), SIZE),
    *(*_STRINGS, INT, REFERENCE, REFERENCE),
)
_rows_for = function("native_cuda_rows_for", INT, INT, INT)
_states = function("native_cuda_states", INT, POINTER, INT, REFERENCE)
_pointers = function("native_cuda_pointers", INT, POINTER, INT, REFERENCE)
_plan_new = function("native_plan_new", INT, POINTER, INT, INT, INT, REFERENCE)
_plan_free = function("native_plan_free", None, POINTER)
_plan_info = function("native_plan_info", POINTER, POINTER, ctypes.POINTER(ctypes.c_int64))
_plan_sources = function("native_plan_sources", INT, POINTER, REFERENCE)
_plan_compile = function("native_plan_compile", INT, POINTER, POINTER, INT, REFERENCE)
_plan_compile_ptx = function("native_plan_compile_ptx", INT, POINTER, POINTER, REFERENCE, REFERENCE)
_plan_kernel = function("native_plan_kernel", INT, POINTER, INT, TEXT, INT, *_STRINGS, REFERENCE)
_streams_new = function("native_streams_new", INT, POINTER, POINTER, TEXT, SIZE, INT, TEXT, REFERENCE)
_streams_free = function("native_streams_free", None, POINTER)
_streams_sample = function("native_streams_sample", POINTER, POINTER)
_streams_output = function("native_streams_output", POINTER, POINTER)
_streams_states = function("native_streams_states", INT, POINTER, REFERENCE)
_streams_step = function("native_streams_step", INT, POINTER, ctypes.POINTER(INT))
_streams_run = function("native_streams_run", INT, POINTER, POINTER, ctypes.c_int64, POINTER)
_streams_reset = function("native_streams_reset", INT, POINTER, INT)
_streams_read = function("native_streams_read", INT, POINTER, TEXT, INT, POINTER, SIZE)
_streams_write = function("native_streams_write", INT, POINTER, TEXT, INT, POINTER, SIZE)

Shapes = dict[str, tuple[str, tuple[int, ...]]]


class Nvrtc:
    """The newest NVRTC, CUDA's compiler as a library, for a driver of CUDA ``most``.

    It is looked for in ``more``, with the loader, and in CUDA's folder.
    """

    handle: ctypes.c_void_p | None = None

    def __init__(self, most: int, more: Sequence[str]) -> None:
        self.handle = _made(_nvrtc_find, most, *texts(more))

    def __del__(self, free: Any = _nvrtc_free) -> None:
        if self.handle is not None:
            free(self.handle)

    def compile(
        self, source: str, headers: Mapping[str, str], options: Sequence[str], ptx: bool = False
    ) -> tuple[bytes, str]:
        """Machine code, or PTX and a zero byte; and what the compiler said."""
        names, count = texts(list(headers))
        contents, _ = texts(list(headers.values()))
        code, said = POINTER(), POINTER()
        results = (ctypes.byref(code), ctypes.byref(said))
        program = (source.encode(), names, contents, count, *texts(options), ptx)
        check(_nvrtc_compile(self.handle, *program, *results))
        return taken(code), taken(said).decode("utf-8", "replace")


class CudaPlan:
    """How a model is laid out for the kernel, in blocks of at most ``rows`` streams."""

    handle: ctypes.c_void_p | None = None

    def __init__(self, model: Model, rows: int, threads: int = 0, window: int = _DEFAULT_WINDOW) -> None:
        self.handle = _made(_plan_new, model.handle, rows, threads, window)
        numbers = (ctypes.c_int64 * 5)()
        self._weights = _plan_info(self.handle, numbers)
        self.window, self.threads, self.rows, self.scratch, self._weight_bytes = numbers

    def __del__(self, free: Any = _plan_free) -> None:
        if self.handle is not None:
            free(self.handle)

    @property
    def weights(self) -> bytes:
        """The weights in one piece."""
        return ctypes.string_at(self._weights, self._weight_bytes)

    @property
    def sources(self) -> dict[str, str]:
        """The source of the kernel and its headers by name."""
        parts = _text(_plan_sources, self.handle).decode().split("\0")[:-1]
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def compile(self, nvrtc: Nvrtc, capability: int) -> bytes:
        """The kernel for a compute capability, such as 87."""
        return _text(_plan_compile, self.handle, nvrtc.handle, capability)

    def compile_ptx(self, nvrtc: Nvrtc) -> tuple[str, bytes]:
        """The name and the content of the kernel as PTX for a bundle."""
        name, content = POINTER(), POINTER()
        check(_plan_compile_ptx(self.handle, nvrtc.handle, ctypes.byref(name), ctypes.byref(content)))
        return taken(name).decode(), taken(content)

    def kernel(self, capability: int, engines: str, most: int, more: Sequence[str]) -> bytes:
        """The kernel by NVRTC, as :class:`Nvrtc` finds it, or out of the folder ``engines``."""
        folder = engines.encode("utf-8", "surrogateescape")
        return _text(_plan_kernel, self.handle, capability, folder, most, *texts(more))


class CudaStreams:
    """``batch`` streams whose states stay on the device. ``input`` and ``output`` are as those of State."""

    handle: ctypes.c_void_p | None = None

    def __init__(self, model: Model, plan: CudaPlan, code: bytes, batch: int, driver: str = "") -> None:
        library = driver.encode("utf-8", "surrogateescape")
        self.handle = _made(_streams_new, model.handle, plan.handle, code, len(code), batch, library)
        info = model.info
        tokens = info.n_tokens > 0
        self._sample, self._output = _streams_sample(self.handle), _streams_output(self.handle)
        self._kind: Any = np.int64 if tokens else np.float32
        self._shape: tuple[int, ...] = (batch,) if tokens else (batch, info.d_input)
        self._outputs = (batch, info.d_output)

    def __del__(self, free: Any = _streams_free) -> None:
        if self.handle is not None:
            free(self.handle)

    @property
    def input(self) -> NDArray[Any]:
        """The samples of a step, in memory that the kernel reads."""
        return array_of(self, self._sample, self._kind, self._shape)

    @property
    def output(self) -> NDArray[Any]:
        """The outputs of a step, in memory that the kernel writes."""
        return array_of(self, self._output, np.float32, self._outputs)

    @property
    def shapes(self) -> Shapes:
        """The dtype and shape of each state."""
        return _shapes(_text(_streams_states, self.handle), self._outputs[0])

    def step(self) -> int:
        """One step; returns the Outcome. A bad input does not change the state."""
        outcome = INT()
        check(_streams_step(self.handle, ctypes.byref(outcome)))
        return outcome.value

    def run(self, inputs: NDArray[Any], y: NDArray[Any]) -> None:
        """Steps of ``inputs`` (steps, batch, ...), as ``input``, to ``y`` (steps, batch, d_output)."""
        if inputs.dtype != self._kind or y.dtype != np.float32 or not y.flags.writeable:
            raise TypeError(f"the inputs are {inputs.dtype}, expected {np.dtype(self._kind)}")
        steps = y.size // int(np.prod(self._outputs))
        if y.size != steps * np.prod(self._outputs) or inputs.size != steps * np.prod(self._shape):
            raise RuntimeError("an array has the wrong size")
        check(_streams_run(self.handle, address_of(inputs), steps, address_of(y)))

    def reset(self, row: int) -> None:
        """Restart a row, or all rows for -1."""
        check(_streams_reset(self.handle, row))

    def read(self, name: str, row: int, array: NDArray[np.uint8]) -> None:
        """Copy the state of a row, or of all rows for -1, to ``array``."""
        check(_streams_read(self.handle, name.encode(), row, address_of(array), array.nbytes))

    def write(self, name: str, row: int, array: NDArray[np.uint8]) -> None:
        """Copy the state of a row, or of all rows for -1, from ``array``."""
        check(_streams_write(self.handle, name.encode(), row, address_of(array), array.nbytes))


def rows_for(batch: int, multiprocessors: int) -> int:
    """The streams of a block."""
    rows: int = _rows_for(batch, multiprocessors)
    return rows


def state_shapes(model: Model, batch: int, window: int = _DEFAULT_WINDOW) -> Shapes:
    """The dtype and shape of each state of a model's streams."""
    return _shapes(_text(_states, model.handle, window), batch)


def state_pointers(model: Model, window: int = _DEFAULT_WINDOW) -> list[str | None]:
    """The names of the states that the kernel's pointers lead to, None where there is none."""
    lines = _text(_pointers, model.handle, window).decode().splitlines()
    return [line or None for line in lines]


def _made(create: Any, *arguments: Any) -> ctypes.c_void_p:
    handle = POINTER()
    check(create(*arguments, ctypes.byref(handle)))
    return handle


def _text(call: Any, *arguments: Any) -> bytes:
    return taken(_made(call, *arguments))


def _shapes(lines: bytes, batch: int) -> Shapes:
    shapes: Shapes = {}
    for line in lines.decode().splitlines():
        name, dtype, *sizes = line.split(" ")
        shapes[name] = (dtype, (batch, *map(int, sizes)))
    return shapes
