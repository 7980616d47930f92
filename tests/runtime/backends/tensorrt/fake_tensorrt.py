"""A TensorRT that is not there, for the code that speaks to it: its engines run their graphs in ONNX Runtime.

It works on the memory and the stream of a driver without a GPU.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import pytest

from multires_edge.runtime.backends.device import driver as cuda_driver
from multires_edge.runtime.backends.onnxruntime import tensors_of
from multires_edge.runtime.backends.tensorrt.api import log_of
from multires_edge.runtime.backends.tensorrt.host import HostContext
from tests.runtime.backends.device.fake_driver import FakeCuda

_CODES = {"float32": "FLOAT", "float16": "HALF", "int8": "INT8", "int64": "INT64"}


class FakeTensorRt(ModuleType):
    """The ``tensorrt`` package. Its plans are graphs with the shapes that they were built for.

    Strict where TensorRT is: strongly typed without TF32, shapes inside the profile, an address for every
    tensor. With ``aliases`` its TensorScatter is the update in place of release 10.15.
    """

    class ILogger:
        WARNING, ERROR, INTERNAL_ERROR = "warning", "error", "internal error"

    class IProgressMonitor: ...

    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32="TF32")
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    LayerType = SimpleNamespace(KV_CACHE_UPDATE="TensorScatter")
    LayerInformationFormat = SimpleNamespace(JSON="json")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    def __init__(
        self, driver: FakeCuda, version: str = "10.16.1", *, aliases: bool = True, capturable: bool = True,
        rtx: bool = False, warning: str = "",
    ) -> None:  # fmt: skip
        super().__init__("tensorrt_rtx" if rtx else "tensorrt")
        self.__version__, self.rtx = version, rtx
        self.driver: Any = driver  # also in the place of a HostDevice
        self.__spec__ = ModuleSpec(self.__name__, None)
        self.aliases, self.capturable, self.warning, self.builds = aliases, capturable, warning, 0
        self.compiled = 0  # engines whose kernels were in no cache
        self.too_little_memory = False
        if rtx:
            self.IRuntimeCache = _Kernels
            self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")

    def Builder(self, logger: Any) -> Any:
        def create_network(flags: int) -> Any:
            assert flags == 1 << 1, "not strongly typed"
            return SimpleNamespace(model=b"", num_layers=0)

        return SimpleNamespace(
            create_network=create_network,
            create_builder_config=_Config,
            create_optimization_profile=_Profile,
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        def parse(model: bytes) -> bool:
            try:
                graph = onnx.load_from_string(model).graph
            except Exception:
                return False
            network.model, network.num_layers = model, len(graph.node)
            network.get_layer = lambda i: _layer(graph.node[i])
            return True

        error = SimpleNamespace(node_name=lambda: "-", desc=lambda: "not a model")
        return SimpleNamespace(parse=parse, num_errors=1, get_error=lambda _: error)

    def Runtime(self, logger: Any) -> Any:
        self.logger = logger

        def deserialize(content: bytes) -> Any:
            header, _, model = content.partition(b"\n")
            if not header.startswith(b"{"):
                logger.log("error", "magic tag does not match")
                return None
            if self.warning:
                logger.log("warning", self.warning)
            return _Engine(self, json.loads(header), model)

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def _build(self, network: Any, config: Any) -> bytes:
        assert not config.flags, "TF32 is on"
        takes = {value.name for value in onnx.load_from_string(network.model).graph.input}
        assert set(config.profile.shapes) == takes, "inputs without a range"
        self.builds += 1
        config.progress_monitor.phase_start("Building", None, 1)
        return json.dumps(config.profile.shapes).encode() + b"\n" + bytes(network.model)


class _Config:
    builder_optimization_level = 3

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.limits: dict[str, int] = {}
        self.clear_flag = self.flags.discard
        self.set_memory_pool_limit = self.limits.__setitem__

    def add_optimization_profile(self, profile: Any) -> None:
        self.profile = profile

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: b"times")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *sizes: list[int]) -> None:
        self.shapes[name] = sizes


def _layer(node: onnx.NodeProto) -> Any:
    tensors = [SimpleNamespace(name=name, dtype="?", shape=()) for name in node.output]
    inputs = [SimpleNamespace(name=name) for name in node.input]
    return SimpleNamespace(
        name=node.name, type=node.op_type, num_outputs=len(tensors),
        get_output=tensors.__getitem__, get_input=inputs.__getitem__,
    )  # fmt: skip


def plan_of(path: Path, least: int = 1, most: int = 64) -> bytes:
    """An engine of a graph of one step, for a range of batches."""
    values = onnx.load(path).graph.input
    shapes = {
        value.name: [
            [dim.dim_value or batch for dim in value.type.tensor_type.shape.dim]
            for batch in (least, least, most)
        ]
        for value in values
    }
    return json.dumps(shapes).encode() + b"\n" + path.read_bytes()


class _Engine:
    def __init__(self, trt: FakeTensorRt, profile: dict[str, Any], model: bytes) -> None:
        graph = onnx.load_from_string(model).graph
        self._trt, self._profile = trt, profile
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.tensors = tensors_of(self.session)
        self.aliases: dict[str, str] = {}
        self.caches: list[_Kernels] = []
        if trt.aliases:
            scatters = [node for node in graph.node if node.op_type == "TensorScatter"]
            self.aliases = {node.output[0]: node.input[0] for node in scatters}
            self.get_aliased_input_tensor = lambda name: self.aliases.get(name, "")
        self.num_io_tensors = len(self.tensors)
        self.get_tensor_name = list(self.tensors).__getitem__

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_CODES[self.tensors[name].dtype])

    def get_tensor_mode(self, name: str) -> str:
        return "input" if self.tensors[name].is_input else "output"

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, index: int) -> Any:
        assert index == 0
        return self._profile[name]

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(create_runtime_cache=_Kernels, set_runtime_cache=self.caches.append)

    def create_execution_context(self, config: Any = None) -> Any:
        if self._trt.rtx:
            assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
            (cache,) = self.caches
            self._trt.compiled += not cache.content
            cache.content = b"kernels"
        if self._trt.too_little_memory:
            self._trt.logger.log("error", "Error Code 2: OutOfMemory (Requested size was 9 bytes.)")
            return None
        return _Context(self, self._trt)

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda _: '{"Layers": ["fused"]}')


class _Kernels:
    """RTX's cache of compiled kernels, of a single device and driver."""

    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, content: bytes) -> bool:
        if content == b"kernels":
            self.content = content
        return bool(self.content)

    def serialize(self) -> bytes:
        return self.content


class _Context:
    def __init__(self, engine: _Engine, trt: FakeTensorRt) -> None:
        self._engine, self._trt = engine, trt
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        self._shapes[name] = shape
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._engine.tensors

    def is_stream_capturable(self, stream: int) -> bool:
        return self._trt.capturable and self._trt.driver.has_stream(stream)

    def execute_async_v3(self, stream: int) -> bool:
        engine = self._engine
        if not self._trt.driver.has_stream(stream) or set(self._addresses) != set(engine.tensors):
            return False
        inputs = {name: info for name, info in engine.tensors.items() if info.is_input}
        if set(self._shapes) != set(inputs):
            return False
        sample = self._shapes[next(iter(inputs))]
        context = HostContext(self._trt.driver, engine.session, engine.tensors, engine.aliases)
        for name, info in engine.tensors.items():
            sizes = [sample[0 if axis == 0 else -1] if s < 0 else s for axis, s in enumerate(info.shape)]
            context.bind(name, self._addresses[name], self._shapes.get(name, tuple(sizes)))
        context.enqueue()
        return True


def install(
    monkeypatch: pytest.MonkeyPatch, driver: FakeCuda | None, trt: FakeTensorRt | None = None
) -> None:
    """Put them where the package looks for them."""
    monkeypatch.setattr(cuda_driver, "load_library", lambda: driver)
    monkeypatch.setitem(sys.modules, trt.__name__ if trt else "tensorrt", trt)
    log_of.cache_clear()  # a logger is of one module
