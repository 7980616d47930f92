"""The native engine in Python's types: models, streams, and times inside the engine.

Arrays have the shapes and dtypes of multires.h; :mod:`multires_edge.runtime.stream` checks them before it
calls. Functions raise RuntimeError with the engine's message, or MemoryError.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
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
    check_status,
    function,
    taken,
)

_DEFAULT_WINDOW = -1
_DTYPES = ("float32", "int64", "float16", "int8")  # multires_dtype
_MESSAGE_BYTES = 512


class _Info(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32)
        for name in (
            *("d_input", "n_tokens", "d_output", "d_model", "n_layers", "kernel_size", "depth"),
            *("autoregressive", "takes_window", "window"),
        )
    ]


class _Cost(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("weight_bytes", "tap_bytes", "push_bytes", "multiply_adds", "int8_multiply_adds")
    ]


class _Part(ctypes.Structure):
    _fields_ = [
        ("name", TEXT),
        ("data", POINTER),
        ("bytes", SIZE),
        ("dtype", INT),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * 4),
    ]


class _Step(ctypes.Structure):
    _fields_ = [("state", POINTER), ("x", POINTER), ("inputs", SIZE), ("y", POINTER), ("outputs", SIZE)]


_model_load = function("multires_model_load_buffer", INT, TEXT, SIZE, REFERENCE, TEXT, SIZE)
_model_free = function("multires_model_free", None, POINTER)
_model_info = function("multires_model_info", _Info, POINTER)
_model_isa = function("multires_model_isa", TEXT, POINTER)
_model_cost = function("multires_model_cost", _Cost, POINTER)
_model_metadata = function("multires_model_metadata", TEXT, POINTER, TEXT)
_state_new = function(
    "multires_state_new", INT, POINTER, ctypes.c_int32, ctypes.c_int32, REFERENCE, TEXT, SIZE
)
_state_free = function("multires_state_free", None, POINTER)
_state_parts = function("multires_state_parts", ctypes.c_int32, POINTER)
_state_part = function("multires_state_part", INT, POINTER, ctypes.c_int32, ctypes.POINTER(_Part))
_state_changed = function("multires_state_changed", INT, POINTER)
_prepare = function("multires_prepare", INT, POINTER)
_commit = function("multires_commit", INT, POINTER)
_run = function("multires_run", INT, POINTER, POINTER, ctypes.c_int64, POINTER)
_run_tokens = function("multires_run_tokens", INT, POINTER, POINTER, ctypes.c_int64, POINTER)
_reset = function("multires_reset", INT, POINTER, ctypes.c_int32)
_step = function("native_step", INT, POINTER)
_step_tokens = function("native_step_tokens", INT, POINTER)
_times = (POINTER, POINTER, SIZE, POINTER, SIZE, SIZE, POINTER)
_time_steps = function("native_time_steps", INT, *_times)
_time_token_steps = function("native_time_token_steps", INT, *_times)
_time_reading = function("native_time_reading", INT, SIZE, POINTER, SIZE, ctypes.POINTER(SIZE))
_time_multiply_adds = function("native_time_multiply_adds", INT, SIZE, POINTER, SIZE, ctypes.POINTER(SIZE))
_network_source = function(
    "native_network_source", INT, TEXT, SIZE, INT, REFERENCE, REFERENCE, ctypes.POINTER(SIZE)
)


class Model:
    """A weights file, checked whole and laid out for this CPU. ``content`` is not needed afterwards."""

    handle: ctypes.c_void_p | None = None

    def __init__(self, content: bytes) -> None:
        handle, message = POINTER(), ctypes.create_string_buffer(_MESSAGE_BYTES)
        status = _model_load(content, len(content), ctypes.byref(handle), message, len(message))
        check_status(status, message.value)
        self.handle = handle
        self.info = _model_info(handle)

    def __del__(self, free: Any = _model_free) -> None:
        if self.handle is not None:
            free(self.handle)

    def metadata(self, key: str) -> str | None:
        """A text of the file's metadata; None if the key is missing."""
        text = _model_metadata(self.handle, key.encode())
        return None if text is None else str(text.decode())

    @property
    def isa(self) -> str:
        """The instruction set of the kernels."""
        return str(_model_isa(self.handle).decode())

    @property
    def cost(self) -> dict[str, int]:
        """The bytes and multiply-adds of a step of one stream, by the names of multires_cost."""
        cost = _model_cost(self.handle)
        return {field[0]: getattr(cost, field[0]) for field in _Cost._fields_}


class State:
    """``batch`` streams of a model in lockstep.

    ``input`` and ``output`` are (batch, d_input) float32, or (batch,) int64 for tokens, and (batch, d_output)
    float32. ``step()`` goes from one to the other and returns the Outcome; a bad input changes no state.
    """

    handle: ctypes.c_void_p | None = None

    def __init__(self, model: Model, batch: int, window: int = _DEFAULT_WINDOW) -> None:
        handle, message = POINTER(), ctypes.create_string_buffer(_MESSAGE_BYTES)
        new = (model.handle, batch, window, ctypes.byref(handle), message, len(message))
        check_status(_state_new(*new), message.value)
        self.handle = handle
        info = model.info
        if info.n_tokens > 0:
            self.input: NDArray[Any] = np.zeros(batch, np.int64)
        else:
            self.input = np.zeros((batch, info.d_input), np.float32)
        self.output = np.zeros((batch, info.d_output), np.float32)
        # Made once, because a step takes hardly longer than the call.
        x, y = address_of(self.input), address_of(self.output)
        self._arguments = _Step(handle, x, self.input.size, y, self.output.size)
        call = _step_tokens if info.n_tokens > 0 else _step
        self.step: Callable[[], int] = partial(call, ctypes.addressof(self._arguments))

    def __del__(self, free: Any = _state_free) -> None:
        if self.handle is not None:
            free(self.handle)

    def prepare(self) -> None:
        """Do all of the next step that does not depend on its sample."""
        _prepare(self.handle)

    def commit(self) -> None:
        """Write what the last step has put off."""
        _commit(self.handle)

    def run(self, inputs: NDArray[Any], y: NDArray[Any]) -> None:
        """Steps of ``inputs`` (steps, batch, ...), as ``input``, to ``y`` (steps, batch, d_output)."""
        call = _run if _kind_of(inputs) == np.float32 else _run_tokens
        if y.dtype != np.float32 or not y.flags.writeable:
            raise TypeError("the outputs are not an array of float32")
        steps = inputs.size // self.input.size
        if inputs.size != steps * self.input.size or y.size != steps * self.output.size:
            raise RuntimeError("an array has the wrong size")
        check_status(call(self.handle, address_of(inputs), steps, address_of(y)))

    def reset(self, row: int) -> None:
        """Restart a row, or all rows for -1."""
        check_status(_reset(self.handle, row))

    def changed(self) -> None:
        """Tell the engine that the arrays of :meth:`parts` were written."""
        check_status(_state_changed(self.handle))

    def parts(self) -> dict[str, NDArray[Any]]:
        """The state by name, in the layout of the step graph: arrays in the memory of the engine."""
        parts, part = {}, _Part()
        for i in range(_state_parts(self.handle)):
            check_status(_state_part(self.handle, i, ctypes.byref(part)))
            shape = tuple(part.shape[: part.rank])
            parts[part.name.decode()] = array_of(self, part.data, _DTYPES[part.dtype], shape)
        return parts


def time_steps(states: Sequence[State], inputs: NDArray[Any]) -> NDArray[np.float64]:
    """For each of ``inputs`` (n, batch, ...), one step of every state; returns the n times in seconds."""
    if not states or inputs.ndim == 0:
        raise RuntimeError("no state or no input was given")
    steps = len(inputs)
    each = inputs.size // steps if steps else 0
    if any(each != state.input.size for state in states):
        raise RuntimeError("an array has the wrong size")
    call = _time_steps if _kind_of(inputs) == np.float32 else _time_token_steps
    handles = (POINTER * len(states))(*(state.handle for state in states))
    outputs = (POINTER * len(states))(*(address_of(state.output) for state in states))
    seconds = np.zeros(steps)
    check_status(call(handles, outputs, len(states), address_of(inputs), steps, each, address_of(seconds)))
    return seconds


def time_reading(size: int, repeats: int) -> tuple[NDArray[np.float64], int]:
    """The seconds of each reading of at least ``size`` bytes, and the bytes."""
    return _rate(_time_reading, size, repeats)


def time_multiply_adds(count: int, repeats: int) -> tuple[NDArray[np.float64], int]:
    """The seconds of each run of at least ``count`` multiply-adds, and their number."""
    return _rate(_time_multiply_adds, count, repeats)


def network_source(content: bytes, group: int) -> tuple[str, str, int, int]:
    """A weights file as the source of a program; see :func:`multires_edge.runtime.backends.native`."""
    source, kinds, sizes = POINTER(), POINTER(), (SIZE * 2)()
    check(_network_source(content, len(content), group, ctypes.byref(source), ctypes.byref(kinds), sizes))
    return taken(source).decode(), taken(kinds).decode(), sizes[0], sizes[1]


def _rate(call: Any, amount: int, repeats: int) -> tuple[NDArray[np.float64], int]:
    seconds, done = np.zeros(repeats), SIZE()
    check(call(amount, address_of(seconds), repeats, ctypes.byref(done)))
    return seconds, done.value


def _kind_of(inputs: NDArray[Any]) -> np.dtype[Any]:
    """The dtype of samples or tokens. Raises TypeError for another."""
    if inputs.dtype not in (np.float32, np.int64):
        raise TypeError(f"the inputs are {inputs.dtype}, expected float32 or int64")
    return inputs.dtype
