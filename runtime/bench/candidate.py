"""One backend in one precision: its streams and its full graph, ready to be timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import MultiresError
from multires_edge.format.manifest import Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.specs import TensorSpec
from multires_edge.runtime.backends.protocol import StepTimer
from multires_edge.runtime.backends.registry import backend_named
from multires_edge.runtime.bench.paced import paced_steps
from multires_edge.runtime.bench.timing import TimedCalls, calls
from multires_edge.runtime.bundle import Bundle

_SAMPLES = 64  # different samples for a backend's own timer


def random_inputs(manifest: Manifest, rows: int, steps: int) -> Any:
    """Standard normal noise (rows, d_input, steps) float32, or random tokens (rows, steps) int64.

    For a module of the user's own it is a dictionary of them if the module has several inputs or outputs.
    """
    random = np.random.default_rng(0)
    if isinstance(module := manifest.network, ModuleConfig):
        golden = {tensor.name: _noise(random, tensor, module, rows, steps) for tensor in module.inputs}
        return golden[module.inputs[0].name] if module.is_plain else golden
    if manifest.model.n_tokens is not None:
        return random.integers(0, manifest.model.n_tokens, (rows, steps))
    return random.standard_normal((rows, manifest.model.channels, steps), dtype=np.float32)


def random_sample(manifest: Manifest, rows: int) -> Any:
    """The inputs of one step, as :func:`random_inputs`."""
    inputs = random_inputs(manifest, rows, 1)
    if isinstance(inputs, dict):
        return {name: np.ascontiguousarray(array[..., 0]) for name, array in inputs.items()}
    return np.ascontiguousarray(inputs[..., 0])


def _noise(
    random: np.random.Generator, tensor: TensorSpec, module: ModuleConfig, rows: int, steps: int
) -> NDArray[Any]:
    shape = tuple(rows if s == "batch" else steps if s == "time" else int(s) for s in tensor.shape)
    if tensor.dtype == "int64":
        return random.integers(0, module.tokens.get(tensor.name, 1), shape)
    return random.standard_normal(shape, dtype=np.float32)


class Candidate:
    """A backend in a precision. Raises MultiresError if this machine or bundle cannot run any of its streams.

    ``streams`` are the batches that it runs: an engine may be built for some of them. ``skipped`` has what
    it does not run, with the reason.
    """

    def __init__(
        self, bundle: Bundle, backend: str, precision: str, threads: int, streams: Sequence[int], steps: int
    ) -> None:
        self.backend, self.precision = backend, precision
        self.name = f"{backend} {precision}"
        manifest = bundle.manifest
        options: dict[str, Any] = {"backend": backend, "precision": precision, "threads": threads}
        self.streams: list[int] = []
        self.skipped: list[dict[str, str]] = []
        self._timed: dict[str, TimedCalls] = {}
        refused: MultiresError | None = None
        for count in streams:
            sample = random_sample(manifest, count)
            try:
                stream = bundle.stream(count, **options)
                stream.step(sample)
            except MultiresError as error:
                refused = error
                self._skip(f"{count} streams", error)
                continue
            self._timed[f"step of {count}"] = calls(stream.step, sample)
            self.state_bytes = stream.state_bytes
            if not self.streams:
                self._timed |= paced_steps(stream, sample)
            self.streams.append(count)
        if not self.streams:
            assert refused is not None
            raise refused
        timer = backend_named(backend).step_timer(bundle.path, manifest, precision)
        if timer is not None:
            self._timed["step in C++"] = timed_steps(timer, manifest)
        try:
            full, sequence = bundle.full(**options), random_inputs(manifest, 1, steps)
            full(sequence)  # an engine may be built for shorter ones
            self._timed["full"] = calls(full, sequence)
        except MultiresError as error:
            self._skip("whole sequences", error)

    def _skip(self, what: str, error: MultiresError) -> None:
        self.skipped.append({"what": f"{self.name}, {what}", "reason": str(error)})

    def timed_calls(self) -> dict[str, TimedCalls]:
        """``step of N`` for N streams per call, and ``full`` if the backend has a full graph.

        Also ``step in C++`` if it has a timer, and those of :func:`paced_steps` for its smallest batch.
        """
        return self._timed


def timed_steps(timer: StepTimer, manifest: Manifest, batch: int = 1) -> TimedCalls:
    """Steps on random inputs, timed by a backend's own timer."""
    samples = np.moveaxis(random_inputs(manifest, batch, _SAMPLES), -1, 0)
    return lambda times: timer(np.ascontiguousarray(samples[np.arange(times) % _SAMPLES]))
