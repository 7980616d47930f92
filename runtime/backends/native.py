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
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.backends.banks import make_banked
from multires_edge.runtime.backends.native_threads import ThreadedStepper, in_threads, parts_of
from multires_edge.runtime.backends.native_weights import (
    check_metadata,
    check_states,
    read_weights,
    states_of,
    window_of,
)
from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeBackend
from multires_edge.runtime.backends.protocol import (
    Backend,
    RunOptions,
    Stepper,
    StepTimer,
    copy_of,
    index_of,
)
from multires_edge.runtime.backends.stream_runner import StreamRunner

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native

OWN_WINDOW = -1  # that of the weights file


class NativeBackend(Backend):
    """Runs native weights, in the precisions in which the bundle has them.

    Of a module of the user's own it computes the filters, and ONNX Runtime the rest.
    """

    name = "native"
    ability = "stream on the native engine"
    checked_as = "native engine"
    changes_pooling = True
    takes = frozenset({"threads"})
    place = "the CPU"

    def missing(self) -> str | None:
        if find_spec("multires_edge.runtime.backends._engine") is None:
            return "install multires-edge with a C++ compiler"
        try:
            load_engine()
        except BackendError as error:
            return str(error)
        return None

    def load(self) -> None:
        load_engine()

    def unable(self, folder: Path, manifest: Manifest) -> str | None:
        if (missing := self.missing()) is not None or not isinstance(manifest.network, ModuleConfig):
            return missing
        return OnnxRuntimeBackend().unable(folder, manifest)

    def precisions(self, folder: Path, manifest: Manifest) -> list[str]:
        return [*manifest.native, *manifest.graphs.get("sums", {})]

    def make_stepper(self, folder: Path, manifest: Manifest, batch: int, options: RunOptions) -> Stepper:
        if isinstance(manifest.network, ModuleConfig):
            return make_banked(load_engine(), folder, manifest, batch, options)
        precision, pooling = options.precision, options.pooling
        model = open_weights(folder, manifest, precision)
        states = states_of(manifest, precision, pooling)
        window = OWN_WINDOW if pooling is None else window_of(pooling)
        path = folder / manifest.native[precision].file

        def make(rows: int) -> NativeStepper:
            stepper = NativeStepper(model, rows, window)
            check_states(stepper.shapes, path, states, rows)
            return stepper

        threads = min(options.threads or 1, batch)
        return make(batch) if threads == 1 else ThreadedStepper(make, batch, threads, manifest.model.n_tokens)

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> StreamRunner:
        model, threads = open_weights(folder, manifest, options.precision), options.threads or 1

        def run_some(samples: NDArray[Any]) -> NDArray[Any]:
            return NativeStepper(model, samples.shape[1], window=0).run(np.ascontiguousarray(samples))

        def run(samples: NDArray[Any]) -> NDArray[Any]:
            # Several threads share the rows of a batch. Each row is a stream of its own: no result changes.
            parts = parts_of(samples.shape[1], threads)
            return np.concatenate(in_threads([partial(run_some, samples[:, rows]) for rows in parts]), axis=1)

        return StreamRunner(run, manifest)

    def step_timer(self, folder: Path, manifest: Manifest, precision: str) -> StepTimer | None:
        if isinstance(manifest.network, ModuleConfig):
            return None
        engine = load_engine()
        state = engine.State(open_weights(folder, manifest, precision), 1)
        return lambda samples: engine.time_steps([state], samples)


def load_engine() -> Any:
    """The engine's module. Raises BackendError if it was not built, or from other sources."""
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
    content, path = read_weights(folder, manifest, precision)
    model = load_model(content, path)
    check_metadata(model.metadata, path, manifest, precision)
    return model


def network_source(folder: Path, manifest: Manifest, precision: str, group: int) -> tuple[str, str, int, int]:
    """A bundle's network as a program for a microcontroller whose kernels read ``group`` int8 inputs at once.

    Returns its source, what it needs of the kernels, and the bytes of its constants and of its stream's
    memory. Raises as :func:`open_weights`.
    """
    content, path = read_weights(folder, manifest, precision)
    check_metadata(load_model(content, path).metadata, path, manifest, precision)
    source: tuple[str, str, int, int] = load_engine().network_source(content, group)
    return source


class NativeStepper:
    """Streams in the native engine. Its states have the layout of the step graph's states."""

    def __init__(self, model: _native.Model, batch: int, window: int = OWN_WINDOW) -> None:
        state: _native.State = load_engine().State(model, batch, window)
        self._state = state
        self._parts: dict[str, NDArray[Any]] = state.parts()
        self.input, self.output = state.input, state.output
        self.step = state.step  # the engine checks the values itself, much faster than numpy

    @property
    def shapes(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """The dtype and shape of each state."""
        return {name: (part.dtype, part.shape) for name, part in self._parts.items()}

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
