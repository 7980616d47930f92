"""Streams on whatever CUDA driver is found; test_driver.py gives it libcuda.cpp's.

python -m tests.runtime.backends.tensorrt.on_driver BUNDLE
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.device.driver import board
from multires_edge.runtime.backends.device.gpu import Gpu, find_gpu
from multires_edge.runtime.backends.tensorrt.host import HostDevice, HostEngine
from multires_edge.runtime.backends.tensorrt.rings import RingDevice
from multires_edge.runtime.backends.tensorrt.stepper import TensorRtStepper
from tests.runtime.backends.tensorrt.bundles import FORMS
from tests.runtime.backends.tensorrt.test_rings import roll

_WORK = ctypes.CFUNCTYPE(None)


class _DriverMemory:
    """What a HostEngine asks of its device: memory by address, and work in order with the driver's."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._callbacks: list[Any] = []

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def queue(self, work: Callable[[], None]) -> None:
        self._callbacks.append(_WORK(work))
        self._driver.ask_from_python(self._callbacks[-1])


def check_kernels() -> None:
    """Rows of every width, through the packing of parameters, against numpy."""
    for row_bytes in (16, 12, 6, 5):
        pushed = np.random.default_rng(0).integers(0, 256, (25, 3, 2, row_bytes), np.uint8)
        position = np.array([0, 7, 2**40])
        rings = [[1], [2, 5]]
        ours = roll(RingDevice(), rings, row_bytes, pushed, position)
        theirs = roll(HostDevice(), rings, row_bytes, pushed, position)
        assert all(np.array_equal(mine, other) for mine, other in zip(ours, theirs, strict=True)), row_bytes


def check_streams(bundle: Bundle, form: str) -> None:
    """Steps, chunks, a reset and a snapshot, against the native engine."""
    kind, in_place = FORMS[form]
    spec, memory = bundle.manifest.graph(kind, "fp32"), _DriverMemory()
    engine = HostEngine(memory, bundle.path, spec, in_place=in_place)  # type: ignore[arg-type]
    states = bundle.manifest.graph("step", "fp32").states
    stepper = TensorRtStepper(RingDevice(), engine, spec, states, 2, None)
    stream, native = bundle.stream_of(stepper, 2, "fp32"), bundle.stream(2, backend="native")
    x = np.random.default_rng(1).standard_normal((2, 2, 100), dtype=np.float32)
    for t in range(5):
        sample = np.ascontiguousarray(x[..., t])
        assert np.allclose(stream.step(sample), native.step(sample), atol=1e-5), t
    stream.reset(rows=[1])
    native.reset(rows=[1])
    assert np.allclose(stream.run(x), native.run(x), atol=1e-5)
    native.load_state(stream.save_state())
    assert np.allclose(stream.run(x), native.run(x), atol=1e-5)


def check_words() -> None:
    """A device's description, a size beyond 32 bits, and an error."""
    assert find_gpu() == Gpu("Orin", "8.7", 16, 30, board())
    try:
        RingDevice().allocate(1 << 41)
    except BackendError as error:
        assert "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (2), of the fake driver; stop" in str(error)
    else:
        raise AssertionError("two terabytes were allocated")


def main() -> None:
    """Check all of it."""
    bundle = open_bundle(sys.argv[1])
    check_words()
    check_kernels()
    for form in FORMS:
        check_streams(bundle, form)
    sys.stdout.write("as the native engine\n")


if __name__ == "__main__":
    main()
