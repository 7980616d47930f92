"""The network of a bundle in Triton's Python backend: a stream of the native engine for each sequence.

`multires-edge triton` writes this file. Its folder has the bundle, and the package multires_edge unless the
Python of the server has it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from multires_edge.runtime import MultiresError, Stream, open_bundle


@dataclass
class Sequence:
    """The stream of a sequence, and when it was last used, in seconds of the monotonic clock."""

    stream: Stream
    used: float


class TritonPythonModel:
    """What Triton calls. Sequences are independent: an error of one changes no other."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle, and check it as a first stream does."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        batching = config["sequence_batching"]
        self._idle = int(batching["max_sequence_idle_microseconds"]) / 1e6
        self._bundle = open_bundle(Path(__file__).parent / "bundle")
        self._backend, self._precision = parameters["backend"], parameters["precision"]
        self._input, self._output = config["input"][0]["name"], config["output"][0]["name"]
        self._sequences: dict[int | str, Sequence] = {}
        self._new_stream()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, at most one of each sequence."""
        now = time.monotonic()
        self._end_idle(now)
        return [self._answer(request, now) for request in requests]

    def finalize(self) -> None:
        """End all sequences."""
        self._sequences.clear()

    def _answer(self, request: Any, now: float) -> Any:
        try:
            output = self._run(request, now)
        except MultiresError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse([triton.Tensor(self._output, output)])

    def _run(self, request: Any, now: float) -> np.ndarray:
        sequence = _value(request, "CORRID")
        if _value(request, "START"):
            self._sequences[sequence] = Sequence(self._new_stream(), now)
        if sequence not in self._sequences:
            raise MultiresError(
                f"sequence {sequence} has no state here: it was idle too long, or the server started again; "
                "begin it again, with its start"
            )
        each = self._sequences[sequence]
        each.used = now
        if _value(request, "END"):
            del self._sequences[sequence]
        samples = triton.get_input_tensor_by_name(request, self._input).as_numpy()
        # Triton reads the memory of the array as it lies.
        return np.ascontiguousarray(each.stream.run(np.ascontiguousarray(samples)))

    def _new_stream(self) -> Stream:
        return self._bundle.stream(backend=self._backend, precision=self._precision)

    def _end_idle(self, now: float) -> None:
        """Forget the sequences that Triton has ended without a word."""
        for sequence, each in list(self._sequences.items()):
            if now - each.used > self._idle:
                del self._sequences[sequence]


def _value(request: Any, name: str) -> Any:
    """The one value of a control input."""
    return triton.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0].item()
