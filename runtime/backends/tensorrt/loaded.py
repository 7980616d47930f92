"""An engine of TensorRT or TensorRT-RTX on a CUDA device."""

from __future__ import annotations

from typing import Any

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.device.cuda import CudaDevice
from multires_edge.runtime.backends.interface import TensorInfo
from multires_edge.runtime.backends.tensorrt.api import Api, log_of

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64"}


class LoadedEngine:
    """A loaded engine. Raises BackendError with TensorRT's messages if TensorRT refuses the engine."""

    def __init__(self, device: CudaDevice, api: Api, content: bytes, name: str) -> None:
        self.name = name
        self._device, self._api = device, api
        self._log = log_of(api.package)
        with self._log.collect() as messages:
            self._runtime = api.module.Runtime(self._log.logger)
            self._engine = self._runtime.deserialize_cuda_engine(content)
            if self._engine is None:
                said = "; ".join(message.text for message in messages) or "no reason given"
                raise BackendError(f"{name}: {api.name} refuses it: {said}")
        device.before_close(self.release)
        self.tensors = {name: self._info(name) for name in self._names()}

    def release(self) -> None:
        self._engine = self._runtime = None

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
        context = LoadedContext(self._device, self, self._create())
        self._device.before_close(context.release)
        return context

    def _create(self) -> Any:
        trt = self._api.module
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            return self._engine.create_execution_context()
        # By default TensorRT-RTX specializes kernels later, and a captured graph would keep the first ones.
        config = self._engine.create_runtime_config()
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        return self._engine.create_execution_context(config)


class LoadedContext:
    """One execution context. Its addresses must not change after a graph has captured it."""

    def __init__(self, device: CudaDevice, engine: LoadedEngine, context: Any) -> None:
        self._device, self._context = device, context
        self._name, self._tensors = engine.name, engine.tensors
        if context is None:
            raise BackendError(
                f"{self._name}: too little memory for an execution context; use a smaller batch"
            )

    def bind(self, tensor: str, address: int, shape: tuple[int, ...]) -> None:
        if self._tensors[tensor].is_input and not self._context.set_input_shape(tensor, shape):
            raise BackendError(f"{self._name}: refused shape {shape} for {tensor}")
        if not self._context.set_tensor_address(tensor, address):
            raise BackendError(f"{self._name}: refused an address for {tensor}")

    def enqueue(self) -> None:
        capturable = getattr(self._context, "is_stream_capturable", None)
        if self._device.capturing and capturable and not capturable(self._device.stream):
            raise BackendError(f"{self._name}: cannot be captured into a CUDA graph")
        if not self._context.execute_async_v3(self._device.stream):
            raise BackendError(f"{self._name}: could not be enqueued")

    def release(self) -> None:
        self._context = None
