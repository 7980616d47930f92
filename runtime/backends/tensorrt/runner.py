"""TensorRT: whole sequences on an engine of the full graph."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.specs import GraphSpec
from multires_edge.runtime.backends.interface import check_tensors
from multires_edge.runtime.backends.tensorrt.device import Device, Engine


class TensorRtRunner:
    """A full graph on one engine, with buffers that grow to the longest sequences. One call runs at a time.

    ``check_sizes`` raises InputError for a ``batch`` or ``time`` that the engine was not built for. Raises
    BundleError if the engine is of another graph, BackendError if the device reports an error.
    """

    def __init__(
        self, device: Device, engine: Engine, spec: GraphSpec, check_sizes: Callable[..., None]
    ) -> None:
        check_tensors(engine.name, engine.tensors, spec, "build it again", fixed=True)
        self._device, self._check_sizes, self._outputs = device, check_sizes, spec.outputs
        self._free = weakref.finalize(self, device.close)
        device.activate()
        self._context = engine.context()
        self._buffers: dict[str, tuple[int, int]] = {}  # size and address
        self._lock = threading.Lock()

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        return self.run_all(feeds)[0]

    def run_all(self, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Every output, in the order of the manifest."""
        feeds = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        sample = next(iter(feeds.values()))
        sizes = {"batch": sample.shape[0], "time": sample.shape[-1]}
        results = {
            tensor.name: np.empty(
                [sizes[size] if isinstance(size, str) else size for size in tensor.shape], tensor.dtype
            )
            for tensor in self._outputs
        }
        self._check_sizes(**sizes)
        with self._lock:
            self._device.activate()
            for name, array in feeds.items():
                self._device.upload(self._bind(name, array), array)
            addresses = {name: self._bind(name, y) for name, y in results.items()}
            self._context.enqueue()
            for name, y in results.items():
                self._device.download(y, addresses[name])
            self._device.synchronize()
        return list(results.values())

    def _bind(self, tensor: str, array: NDArray[Any]) -> int:
        """Give a tensor its shape and memory. Returns the address."""
        size, address = self._buffers.get(tensor, (-1, 0))
        if array.nbytes > size:
            size = 1 << array.nbytes.bit_length()  # the old buffers are never more than the new one
            address = self._device.allocate(size)
            self._buffers[tensor] = size, address
        self._context.bind(tensor, address, array.shape)
        return address
