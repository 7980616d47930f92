"""ONNX Runtime in place of TensorRT: on the CPU, or by another execution provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from multires_edge.format.fields import printable

from .files import KitError
from .kit import Graph
from .runners import FullRunner, StepRunner, shape_of


class OnnxRuntime:
    """ONNX Runtime in place of TensorRT: on the CPU, or by another execution provider."""

    name = "onnxruntime"

    def __init__(self, provider: str, options: Mapping[str, str]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise KitError(f"onnxruntime is not installed ({error}): pip install onnxruntime") from error
        self._ort, self._provider, self._options = onnxruntime, provider, dict(options)
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise KitError(f"--provider {provider}: this onnxruntime has only {', '.join(available)}")

    def describe(self) -> dict[str, Any]:
        described = {"onnxruntime": self._ort.__version__, "provider": self._provider}
        if self._options:
            described["provider_options"] = printable(
                ", ".join(f"{k}={value}" for k, value in self._options.items())
            )
        return described

    def session(self, path: Path) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        try:
            providers = [(self._provider, self._options)]
            return self._ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # the only common base of onnxruntime's exceptions
            what = " ".join(str(error).split())[:300]
            raise KitError(f"{path}: onnxruntime {self._ort.__version__} cannot load it ({what})") from error

    def step_runner(self, graph: Graph, batch: int) -> StepRunner:
        return OnnxRuntimeStep(self.session(graph.path), graph, batch)

    def full_runner(self, graph: Graph) -> FullRunner:
        return OnnxRuntimeFull(self.session(graph.path), graph)


def _run(session: Any, graph: Graph, names: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    try:
        values: list[NDArray[Any]] = session.run(names, feeds)
    except Exception as error:  # the only common base of onnxruntime's exceptions
        what = " ".join(str(error).split())[:300]
        raise KitError(f"{graph.path}: onnxruntime cannot run it ({what})") from error
    return values


class OnnxRuntimeStep:
    """Keeps the states as arrays: each step returns the states for the next step."""

    def __init__(self, session: Any, graph: Graph, batch: int) -> None:
        self._session, self._graph, self._input = session, graph, graph.input.name
        self._names = [graph.output.name] + [state.output for state in graph.states]
        self._states = {s.input: np.zeros(shape_of(s.shape, batch), s.dtype) for s in graph.states}

    def step(self, x: NDArray[Any]) -> NDArray[Any]:
        values = _run(self._session, self._graph, self._names, {self._input: x, **self._states})
        self._states = dict(zip(self._states, values[1:], strict=True))
        return values[0]

    def reset(self, rows: Sequence[int] | None = None) -> None:
        for state in self._states.values():
            state[slice(None) if rows is None else list(rows)] = 0

    def read(self) -> dict[str, NDArray[Any]]:
        return {name: state.copy() for name, state in self._states.items()}

    def capture(self) -> bool:
        return False

    def close(self) -> None:
        self._states.clear()


class OnnxRuntimeFull:
    """The full graph by ``session.run``."""

    def __init__(self, session: Any, graph: Graph) -> None:
        self._session, self._graph = session, graph

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        return _run(self._session, self._graph, [self._graph.output.name], feeds)[0]
