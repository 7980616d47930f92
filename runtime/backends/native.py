"""The native engine: a C++ implementation of this network, for streams on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.format.manifest import Manifest
from multires_edge.format.native import FRAME_KEYS, frame_metadata
from multires_edge.format.pooling import Pooling
from multires_edge.format.reading import step_states
from multires_edge.format.specs import StateSpec, concrete
from multires_edge.runtime.backends.native_threads import ThreadedStepper, in_threads, parts_of
from multires_edge.runtime.backends.protocol import (
    Backend,
    RunOptions,
    Stepper,
    StepTimer,
    copy_of,
    index_of,
)
from multires_edge.runtime.bundle_files import read_file

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native

_SIZES = ("d_input", "n_tokens", "d_output", "d_model", "n_layers", "kernel_size", "depth")


class NativeBackend(Backend):
    """Runs native weights, in the precisions in which the bundle has them."""

    name = "native"
    ability = "stream on the native engine"
    checked_as = "native engine"
    changes_pooling = True
    takes = frozenset({"threads"})
    place = "the CPU"

    def missing(self) -> str | None:
        found = find_spec("multires_edge.runtime.backends._native")
        return None if found else "install multires-edge with a C++ compiler"

    def load(self) -> None:
        load_engine()

    def precisions(self, folder: Path, manifest: Manifest) -> list[str]:
        return list(manifest.native)

    def make_stepper(self, folder: Path, manifest: Manifest, batch: int, options: RunOptions) -> Stepper:
        model, pooling = open_weights(folder, manifest, options.precision), options.pooling
        states = _states(manifest, options.precision)
        if pooling is not None:
            queues = next(state.dtype for state in states if state.scale is not None)
            states = step_states(manifest.model, pooling, queues)
        path = folder / manifest.native[options.precision].file

        def make(rows: int) -> NativeStepper:
            stepper = NativeStepper(model, rows, pooling)
            stepper.check_states(path, states)
            return stepper

        threads = min(options.threads or 1, batch)
        return make(batch) if threads == 1 else ThreadedStepper(make, batch, threads, manifest.model.n_tokens)

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> NativeRunner:
        model = open_weights(folder, manifest, options.precision)
        return NativeRunner(model, manifest, options.threads or 1)

    def step_timer(self, folder: Path, manifest: Manifest, precision: str) -> StepTimer:
        engine = load_engine()
        state = engine.State(open_weights(folder, manifest, precision), 1)
        return lambda samples: engine.time_steps([state], samples)


def load_engine() -> Any:
    """The engine's module. Raises BackendError if it was not built."""
    try:
        from multires_edge.runtime.backends import _native
    except ImportError as error:
        raise BackendError(
            f"the native backend is not part of this installation ({error}); install multires-edge with a "
            "C++ compiler, or give backend='onnxruntime'"
        ) from error
    return _native


def load_model(content: bytes, path: Path) -> _native.Model:
    """Lay the content of a weights file out for this CPU. Raises BackendError or BundleError."""
    engine = load_engine()
    try:
        model: _native.Model = engine.Model(content)
    except RuntimeError as error:
        raise BundleError(f"{path}: {error}") from error
    return model


def open_weights(folder: Path, manifest: Manifest, precision: str) -> _native.Model:
    """The native weights of a bundle. Raises BackendError if it has none that the engine runs.

    Raises BundleError if the file has changed, is damaged, or is not of the manifest's network.
    """
    pooling = manifest.pooling
    if pooling is not None and pooling.native_window is None:
        raise BackendError(f"the native engine does not support pool {pooling}; use backend onnxruntime")
    if precision not in manifest.native:
        has = ", ".join(manifest.native) or "none"
        raise BackendError(f"the bundle has no native weights in {precision!r}; it has: {has}")
    file = manifest.native[precision]
    path = folder / file.file
    model = load_model(read_file(folder, file.file, file.sha256), path)
    for key, wanted in _expected_metadata(manifest, precision).items():
        if (found := model.metadata(key)) != wanted:
            raise BundleError(
                f"{path} does not fit the manifest: its {key} is {found}, expected {wanted}; export the "
                "checkpoint again"
            )
    return model


def _expected_metadata(manifest: Manifest, precision: str) -> dict[str, str | None]:
    """What the weights file of a manifest's network says of itself."""
    model = manifest.model
    sizes = {size: getattr(model, size) or 0 for size in _SIZES}
    queues = next(state.dtype for state in _states(manifest, precision) if state.scale is not None)
    texts = {key: str(value) for key, value in sizes.items()}
    frame = dict.fromkeys(FRAME_KEYS) | frame_metadata(model, manifest.pooling)
    return {**texts, **frame, "precision": precision, "queues": queues}


def _states(manifest: Manifest, precision: str) -> Sequence[StateSpec]:
    return manifest.graph("step", precision).states


def _window_of(pooling: Pooling) -> int:
    if pooling.native_window is None:
        raise BackendError(
            f"the native engine does not support pool {pooling}; export the bundle with --pool {pooling} and "
            "use backend onnxruntime"
        )
    return pooling.native_window


class NativeStepper:
    """Streams in the native engine. Its states have the layout of the step graph's states."""

    def __init__(self, model: _native.Model, batch: int, pooling: Pooling | None = None) -> None:
        window = -1 if pooling is None else _window_of(pooling)
        state: _native.State = load_engine().State(model, batch, window)
        self._state = state
        self._parts: dict[str, NDArray[Any]] = state.parts()
        self.input, self.output = state.input, state.output
        self.step = state.step  # the engine checks the values itself, much faster than numpy

    def check_states(self, path: Path, states: Sequence[StateSpec]) -> None:
        """Raise BundleError unless the weights of a file make the states of the step graph."""
        for state in states:
            part, shape = self._parts[state.input], concrete(state.shape, len(self.input))
            if part.shape != shape or part.dtype != np.dtype(state.dtype):
                raise BundleError(
                    f"{path} does not fit the manifest: its {state.input} is {part.dtype} {part.shape}, "
                    f"expected {state.dtype} {shape}; export the checkpoint again"
                )

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        outputs = np.empty((len(samples), *self.output.shape), np.float32)
        self._state.run(samples, outputs)
        return outputs

    def reset(self, rows: Sequence[int] | None) -> None:
        for row in [-1] if rows is None else rows:
            self._state.reset(row)

    def prepare(self) -> None:
        self._state.prepare()

    def commit(self) -> None:
        self._state.commit()

    def read_state(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        self._state.commit()
        return {name: copy_of(part, rows) for name, part in self._parts.items()}

    def write_state(self, arrays: dict[str, NDArray[Any]], rows: Sequence[int] | None = None) -> None:
        self._state.commit()
        for name, part in self._parts.items():
            part[index_of(rows)] = arrays[name]
        self._state.changed()


class NativeRunner:
    """Whole sequences in the native engine. Each call runs new streams from zero states.

    Several threads share the rows of a batch. Each row is a stream of its own, so this changes no result.
    """

    def __init__(self, model: _native.Model, manifest: Manifest, threads: int = 1) -> None:
        self._model, self._threads = model, threads
        self._shifts, self._per_step = manifest.model.shifts, manifest.model.per_step
        self._d_output = int(manifest.model.d_output)

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        inputs = feeds["tokens"] if "tokens" in feeds else feeds["x"]
        batch = len(inputs)
        samples = np.ascontiguousarray(np.moveaxis(inputs, -1, 0))
        if self._shifts:
            # Step t gets input t - 1; the first step gets zero.
            samples = np.concatenate([np.zeros_like(samples[:1]), samples[:-1]])
        outputs = np.concatenate(
            in_threads([partial(self._run, samples[:, rows]) for rows in parts_of(batch, self._threads)]),
            axis=1,
        )
        if self._per_step:
            return np.ascontiguousarray(np.moveaxis(outputs, 0, -1))
        ends = feeds["lengths"] - 1 if "lengths" in feeds else np.full(batch, len(samples) - 1)
        last: NDArray[Any] = outputs[ends, np.arange(batch)]
        return last

    def _run(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Samples (steps, batch, ...) through new streams; the outputs of every step."""
        samples = np.ascontiguousarray(samples)
        steps, batch = samples.shape[:2]
        outputs = np.empty((steps, batch, self._d_output), np.float32)
        # Without a window, a stream pools over the whole sequence at its end, as the full graph does.
        load_engine().State(self._model, batch, window=0).run(samples, outputs)
        return outputs
