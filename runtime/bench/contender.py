"""One backend in one precision: its streams and its full graph, ready to be timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.manifest import Manifest
from multires_edge.runtime.bench.timing import Burst, calls
from multires_edge.runtime.bundle import Bundle

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native

_SAMPLES = 64  # different ones that the engine's own timing feeds in turn


def random_inputs(manifest: Manifest, rows: int, steps: int) -> NDArray[Any]:
    """Standard normal noise (rows, d_input, steps) float32, or random tokens (rows, steps) int64."""
    random = np.random.default_rng(0)
    if manifest.model.n_tokens is not None:
        return random.integers(0, manifest.model.n_tokens, (rows, steps))
    return random.standard_normal((rows, manifest.model.channels, steps), dtype=np.float32)


class Contender:
    """A backend in a precision. Raises MultiresError where this machine or bundle does not have it."""

    def __init__(
        self, bundle: Bundle, backend: str, precision: str, threads: int, streams: Sequence[int], steps: int
    ) -> None:
        self.backend, self.precision = backend, precision
        self.name = f"{backend} {precision}"
        manifest = bundle.manifest
        options: dict[str, Any] = {"backend": backend, "precision": precision, "threads": threads}
        self._bursts: dict[str, Burst] = {}
        for count in sorted({1, *streams}):
            stream = bundle.stream(count, **options)
            sample = np.ascontiguousarray(random_inputs(manifest, count, 1)[..., 0])
            self._bursts[f"step of {count}"] = calls(stream.step, sample)
            self.state_bytes = stream.state_bytes
        if backend == "native":
            self._bursts["step in C++"] = engine_steps(
                native_states(bundle, 1, precision=precision), manifest
            )
        self._bursts["full"] = calls(bundle.full(**options), random_inputs(manifest, 1, steps))

    def bursts(self) -> dict[str, Burst]:
        """``step of N`` for N streams in one call, ``full``, and ``step in C++`` of the native engine."""
        return self._bursts


def native_states(
    bundle: Bundle, count: int, *, batch: int = 1, precision: str = "fp32"
) -> list[_native.State]:
    """``count`` states of the native engine on one model, for its own timing."""
    from multires_edge.runtime.backends import _native
    from multires_edge.runtime.backends.native import load_model

    model = load_model(bundle.path / bundle.manifest.native[precision].file)
    return [_native.State(model, batch) for _ in range(count)]


def engine_steps(states: list[_native.State], manifest: Manifest) -> Burst:
    """A step of every state, one after the other, timed inside the engine."""
    from multires_edge.runtime.backends import _native

    batch = len(states[0].output)
    samples = np.moveaxis(random_inputs(manifest, batch, _SAMPLES), -1, 0)

    def burst(times: int) -> NDArray[np.float64]:
        return _native.time_steps(states, np.ascontiguousarray(samples[np.arange(times) % _SAMPLES]))

    return burst
