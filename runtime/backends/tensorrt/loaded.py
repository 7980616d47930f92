"""An engine of TensorRT or TensorRT-RTX on a CUDA device."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BackendError, OutputError
from multires_edge.base.files import write_file
from multires_edge.runtime.backends.device.cuda import CudaDevice
from multires_edge.runtime.backends.interface import TensorInfo
from multires_edge.runtime.backends.tensorrt.api import Api, Log, log_of
from multires_edge.runtime.backends.tensorrt.messages import explain, why_it_failed

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64"}


class LoadedEngine:
    """A loaded engine. TensorRT's warnings become Python's.

    ``kernels`` is the file for the kernels that TensorRT-RTX compiles on the device. Raises BackendError with
    TensorRT's messages if TensorRT refuses the engine.
    """

    def __init__(
        self, device: CudaDevice, api: Api, content: bytes, name: str, kernels: Path | None = None
    ) -> None:
        self.name, self._kernels = name, kernels
        self._device, self._api = device, api
        self._log = log_of(api.package)
        with self._log.collect() as messages:
            self._runtime = api.module.Runtime(self._log.logger)
            self._engine = self._runtime.deserialize_cuda_engine(content)
            if self._engine is None:
                raise BackendError(f"{name}: {api.name} refuses it: {why_it_failed(messages)}")
        for warned in explain(messages):
            warnings.warn(f"{name}: {warned.line()}", stacklevel=2)
        self._config: Any = None
        self._cache: Any = None
        self._stored = b""
        device.before_close(self.release)
        if hasattr(api.module, "IRuntimeCache"):
            self._configure_rtx()
        self.tensors = {name: self._info(name) for name in self._names()}

    def release(self) -> None:
        self._engine = self._runtime = self._config = self._cache = None

    def _names(self) -> list[str]:
        return [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]

    def _info(self, name: str) -> TensorInfo:
        dtype = self._engine.get_tensor_dtype(name).name
        is_input = self._engine.get_tensor_mode(name) == self._api.module.TensorIOMode.INPUT
        return TensorInfo(_DTYPES.get(dtype, dtype), tuple(self._engine.get_tensor_shape(name)), is_input)

    def aliased_input(self, output: str) -> str | None:
        # TensorRT before 10.15 has neither this method nor aliased outputs.
        ask = getattr(self._engine, "get_aliased_input_tensor", None)
        return (ask(output) or None) if ask else None

    def context(self) -> LoadedContext:
        options = () if self._config is None else (self._config,)
        self._log.recent.clear()
        context = LoadedContext(
            self._device, self, self._engine.create_execution_context(*options), self._log
        )
        self._device.before_close(context.release)
        return context

    def _configure_rtx(self) -> None:
        """All contexts share one cache of compiled kernels, which begins with those of the last start."""
        strategies = self._api.module.DynamicShapesKernelSpecializationStrategy
        self._config = self._engine.create_runtime_config()
        # By default TensorRT-RTX specializes kernels later, and a captured graph would keep the first ones.
        self._config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        self._cache = self._config.create_runtime_cache()
        if self._kernels is not None:
            with suppress(OSError):
                self._stored = self._kernels.read_bytes()
        if self._stored:
            self._cache.deserialize(self._stored)  # refuses those of another device or driver
        self._config.set_runtime_cache(self._cache)

    def keep_kernels(self) -> None:
        """Write new kernels to their file. Where the bundle is read-only, the next start compiles again."""
        if self._cache is None or self._kernels is None:
            return
        compiled = bytes(self._cache.serialize())
        if compiled != self._stored:
            with suppress(OutputError):
                write_file(self._kernels, compiled, force=True)
            self._stored = compiled


class LoadedContext:
    """One execution context. Its addresses must not change after a graph has captured it."""

    def __init__(self, device: CudaDevice, engine: LoadedEngine, context: Any, log: Log) -> None:
        self._device, self._context, self._log = device, context, log
        self._name, self._tensors = engine.name, engine.tensors
        if context is None:
            raise self._refusal("no execution context")

    def bind(self, tensor: str, address: int, shape: tuple[int, ...]) -> None:
        if self._tensors[tensor].is_input and not self._context.set_input_shape(tensor, shape):
            raise self._refusal(f"refused shape {shape} for {tensor}")
        if not self._context.set_tensor_address(tensor, address):
            raise self._refusal(f"refused an address for {tensor}")

    def enqueue(self) -> None:
        capturable = getattr(self._context, "is_stream_capturable", None)
        if self._device.capturing and capturable and not capturable(self._device.stream):
            raise BackendError(f"{self._name}: cannot be captured into a CUDA graph")
        if not self._context.execute_async_v3(self._device.stream):
            raise self._refusal("could not be enqueued")

    def _refusal(self, what: str) -> BackendError:
        return BackendError(f"{self._name}: {what}: {why_it_failed(self._log.recent)}")

    def release(self) -> None:
        self._context = None
