"""What the kit uses of TensorRT's Python package, with ONNX Runtime behind it and ``fake_cudart.c`` below.

Strict where TensorRT is: strongly typed without TF32, shapes inside the profile, an address for every
tensor, and no output on an input's memory but where the engine says that it must be.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_long)


def make_module(library: Path, version: str = "10.3.0") -> ModuleType:
    """The module; ``builds`` counts the engines built."""
    module = ModuleType("tensorrt")
    module.__dict__.update(
        __version__=version,
        Logger=_Logger,
        Builder=lambda logger: _Builder(module),
        OnnxParser=_Parser,
        Runtime=lambda logger: SimpleNamespace(
            deserialize_cuda_engine=lambda p: _load(p, library, module.__version__)
        ),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        BuilderFlag=SimpleNamespace(TF32="TF32"),
        builds=0,
    )
    return module


class _Logger:
    WARNING = 2

    def __init__(self, severity: int) -> None:
        self.severity = severity


class _Builder:
    def __init__(self, module: Any) -> None:
        self._module = module

    def create_network(self, flags: int) -> Any:
        assert flags == 1 << 1, "not strongly typed"
        return SimpleNamespace(model=b"")

    def create_builder_config(self) -> Any:
        config = SimpleNamespace(flags={"TF32"}, profiles=[])
        config.clear_flag = config.flags.discard
        config.add_optimization_profile = config.profiles.append
        return config

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(
            shapes=shapes, set_shape=lambda name, *sizes: shapes.__setitem__(name, [list(s) for s in sizes])
        )

    def build_serialized_network(self, network: Any, config: Any) -> bytes:
        assert not config.flags, "TF32 is on"
        (profile,) = config.profiles
        takes = {value.name for value in onnx.load_from_string(network.model).graph.input}
        assert set(profile.shapes) == takes, "inputs without a range"
        self._module.builds += 1
        header = json.dumps({"version": self._module.__version__, "shapes": profile.shapes})
        plan: bytes = header.encode() + b"\n" + network.model
        return plan


class _Parser:
    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self.num_errors = network, 1

    def parse(self, model: bytes) -> bool:
        try:
            onnx.checker.check_model(model)
        except Exception:
            return False
        self._network.model = model
        return True

    def get_error(self, index: int) -> str:
        return f"error {index}: not a model"


def _load(plan: bytes, library: Path, version: str) -> Any:
    header, _, model = plan.partition(b"\n")
    entry = json.loads(header)
    return _Engine(model, entry["shapes"], library) if entry["version"] == version else None


class _Engine:
    def __init__(self, model: bytes, shapes: dict[str, Any], library: Path) -> None:
        nodes = onnx.load_from_string(model).graph.node
        self.aliases = {n.output[0]: n.input[0] for n in nodes if n.op_type == "TensorScatter"}
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.shapes, self.library = shapes, ctypes.CDLL(str(library))

    def get_aliased_input_tensor(self, output: str) -> str | None:
        return self.aliases.get(output)

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine, self._shapes, self._addresses = engine, {}, {}  # type: ignore[var-annotated]
        self._callback = _CALLBACK(self._run)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.shapes[name]
        if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            return False
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        session, aliases = self._engine.session, self._engine.aliases
        for value in session.get_outputs():
            shared = [
                i.name for i in session.get_inputs() if self._addresses[i.name] == self._addresses[value.name]
            ]
            if shared != ([aliases[value.name]] if value.name in aliases else []):
                return False
        return bool(stream) and self._engine.library.fake_enqueue(self._callback, 0) == 0

    def _run(self, _: int) -> None:
        session = self._engine.session
        feeds = {}
        for value in session.get_inputs():
            dtype = np.dtype(
                {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int64)": "i8"}[value.type]
            )
            size = int(np.prod(self._shapes[value.name])) * dtype.itemsize
            memory = ctypes.string_at(self._addresses[value.name], size)
            feeds[value.name] = np.frombuffer(memory, dtype).reshape(self._shapes[value.name])
        for value, array in zip(session.get_outputs(), session.run(None, feeds), strict=True):
            content = np.ascontiguousarray(array).tobytes()
            ctypes.memmove(self._addresses[value.name], content, len(content))
