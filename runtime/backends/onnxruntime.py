"""ONNX Runtime: any CPU, NVIDIA GPUs by the CUDA provider, or other devices by other providers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.base.installation import pip_install
from multires_edge.base.memory import available_memory
from multires_edge.format.arrays import holds_good_values
from multires_edge.format.fields import shortened
from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import GraphSpec, Shape, StateSpec, concrete, row_bytes
from multires_edge.format.targets import FIRST_ONNXRUNTIME, FIRST_ONNXRUNTIME_CUDA, Version, dotted
from multires_edge.runtime.backends.device.gpu import why_no_gpu
from multires_edge.runtime.backends.exit_gate import ExitGate
from multires_edge.runtime.backends.interface import TensorInfo, check_tensors
from multires_edge.runtime.backends.protocol import (
    Backend,
    Outcome,
    RunOptions,
    Stepper,
    copy_of,
    index_of,
)
from multires_edge.runtime.backends.providers import (
    CPU,
    CUDA,
    CUDA_NAMES,
    full_name,
    load_onnxruntime,
    release,
    why_no_cuda,
)
from multires_edge.runtime.bundle_files import read_graph

_DEFAULTS = {CUDA: {"use_tf32": "0"}}  # TF32 rounds float32 factors to ten bits
_FATAL_ERRORS_ONLY = 4  # other errors are raised
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int8)": "int8",
           "tensor(int64)": "int64"}  # fmt: skip
_GATE = ExitGate()


class OnnxRuntimeBackend(Backend):
    """Runs the bundle's ONNX graphs, in the form that the installed release supports."""

    name = "onnxruntime"
    ability = "run the ONNX graphs on the CPU"
    checked_as = "step graph"
    runs_graphs = True
    takes = frozenset({"threads", "provider"})

    def missing(self) -> str | None:
        return None if find_spec("onnxruntime") else pip_install("onnxruntime")

    def unable(self, folder: Path, manifest: Manifest) -> str | None:
        if (missing := self.missing()) is not None:
            return missing
        installed, needed = release(), min(map(_first_release, manifest.by_form))
        if installed >= needed:
            return None
        return (
            f"onnxruntime {dotted(installed)} is too old for these graphs: install {dotted(needed)} or "
            "later, or export with --target portable"
        )

    def load(self) -> None:
        load_onnxruntime()

    def precisions(self, folder: Path, manifest: Manifest) -> list[str]:
        return list(manifest.graphs.get("step", {}))

    def make_stepper(self, folder: Path, manifest: Manifest, batch: int, options: RunOptions) -> Stepper:
        spec = in_runnable_form(manifest, options.provider).graph("step", options.precision)
        if options.provider in CUDA_NAMES and any(state.dtype == "int8" for state in spec.states):
            raise BackendError(
                "provider 'cuda' has no int8 queues, and would copy all of them at every step: use backend "
                "'native', or a taps engine of backend 'tensorrt'"
            )
        return OnnxRuntimeStepper(folder, spec, batch, options, manifest.network.n_tokens)

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> OnnxRuntimeRunner:
        spec = in_runnable_form(manifest, options.provider).graph("full", options.precision)
        return OnnxRuntimeRunner(folder, spec, options)


def _first_release(form: str) -> Version:
    return FIRST_ONNXRUNTIME.get(form, (0,))


def in_runnable_form(manifest: Manifest, provider: str | None = None) -> Manifest:
    """The manifest with the graphs of a form that this release of ONNX Runtime runs, by CUDA as a whole."""
    installed = release()
    runnable = [form for form in manifest.by_form if installed >= _first_release(form)]
    if provider in CUDA_NAMES:
        whole = [form for form in runnable if installed >= FIRST_ONNXRUNTIME_CUDA.get(form, (0,))]
        runnable = whole or runnable
    # If none can run, loading explains the error.
    return manifest.in_form(runnable[0] if runnable else manifest.form)


def open_session(
    folder: Path,
    spec: GraphSpec,
    threads: int | None,
    provider: str,
    provider_options: Mapping[str, str] | None = None,
) -> Any:
    """A session of a bundle's graph on one provider.

    ``threads`` is the number per operator; None is one per core.
    Raises BackendError if the provider is missing, finds no device or refuses its options, BundleError if
    the graph has changed, cannot be loaded, or does not have the inputs and outputs of the manifest.
    """
    ort = load_onnxruntime()
    path, content = folder / spec.file, read_graph(folder, spec)
    name = full_name(provider, ort)
    if name == CUDA and (why := why_no_cuda()) is not None:
        raise BackendError(f"provider {provider!r} cannot run here: {why}")
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ERRORS_ONLY
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the content looks like
    if name == CPU:
        options.inter_op_num_threads = 1
    providers = [(name, _DEFAULTS.get(name, {}) | dict(provider_options or {}))]
    try:
        with _GATE.lock():
            session = ort.InferenceSession(content, options, providers=providers)
    except Exception as error:
        # Exception is the only common base of ONNX Runtime's exceptions.
        if provider_options:
            given = ", ".join(f"{key}={value}" for key, value in provider_options.items())
            raise BackendError(
                f"{path}: provider {provider!r} with {given} cannot load it ({shortened(str(error))})"
            ) from error
        raise BundleError(
            f"{path}: onnxruntime {ort.__version__} cannot load it; an older runtime needs a bundle "
            f"exported with --target portable ({shortened(str(error))})"
        ) from error
    vars(session).pop("_model_bytes", None)  # a copy of the graph, kept for a change of the providers
    if name not in session.get_providers():
        raise BackendError(f"provider {provider!r}: {name} found no usable device")
    check_tensors(str(path), tensors_of(session), spec, "export the checkpoint again")
    return session


def tensors_of(session: Any) -> dict[str, TensorInfo]:
    """The inputs and outputs of a session of ONNX Runtime, by name."""
    values = [(value, True) for value in session.get_inputs()]
    values += [(value, False) for value in session.get_outputs()]
    return {
        value.name: TensorInfo(
            _DTYPES.get(value.type, value.type),
            tuple(size if isinstance(size, int) else -1 for size in value.shape),
            is_input,
        )
        for value, is_input in values
    }


def open_on_best_provider(folder: Path, spec: GraphSpec, threads: int | None) -> Any:
    """A session on an NVIDIA GPU if there is one and CUDA works, else on the CPU."""
    if CUDA in load_onnxruntime().get_available_providers() and why_no_gpu() is None:
        try:
            return open_session(folder, spec, threads, CUDA)
        except (BackendError, BundleError) as error:
            warnings.warn(f"runs on the CPU: {error}", stacklevel=2)
    return open_session(folder, spec, threads, CPU)


def _failed(path: Path, error: Exception) -> BackendError:
    """The error of a graph that was loaded and could not run."""
    return BackendError(
        f"{path}: onnxruntime could not run it ({shortened(str(error))}); "
        "check the bundle with multires-edge verify"
    )


class OnnxRuntimeRunner:
    """A full graph in ONNX Runtime."""

    def __init__(self, folder: Path, spec: GraphSpec, options: RunOptions) -> None:
        threads, provider = options.threads, options.provider
        if provider is None:
            self._session = open_on_best_provider(folder, spec, threads)
        else:
            self._session = open_session(folder, spec, threads, provider, options.provider_options)
        self._path, self._outputs = folder / spec.file, [tensor.name for tensor in spec.outputs]

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        return self.run_all(feeds)[0]

    def run_all(self, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Every output, in the order of the manifest."""
        try:
            with _GATE.lock():
                outputs: list[NDArray[Any]] = self._session.run(self._outputs, feeds)
        except Exception as error:
            raise _failed(self._path, error) from error
        return outputs


class OnnxRuntimeStepper(Stepper):
    """A step graph in ONNX Runtime. All states are bound only once.

    A state that can be updated in place has one buffer, which is input and output. Any other state has two
    buffers, which swap roles at each step. So a step neither allocates nor copies states.
    """

    def __init__(
        self, folder: Path, spec: GraphSpec, batch: int, options: RunOptions, n_tokens: int | None
    ) -> None:
        _check_memory(spec, batch)
        provider = options.provider or CPU
        self._session = open_session(folder, spec, options.threads or 1, provider, options.provider_options)
        self._path = folder / spec.file
        name = self._session.get_providers()[0]
        self._inputs, self._outputs = (
            {tensor.name: _Buffer(tensor.shape, batch, tensor.dtype) for tensor in tensors}
            for tensors in (spec.inputs, spec.outputs)
        )
        self.inputs = {name: buffer.array for name, buffer in self._inputs.items()}
        self.outputs = {name: buffer.array for name, buffer in self._outputs.items()}
        self.input, self.output = next(iter(self.inputs.values())), next(iter(self.outputs.values()))
        self._n_tokens = n_tokens
        self._states = [_State(state, batch, name) for state in spec.states]
        self._turn = 0
        self._run = self._session.run_with_iobinding
        self._bindings = [self._bind(spec, turn) for turn in (0, 1)]

    def _bind(self, spec: GraphSpec, turn: int) -> Any:
        binding = self._session.io_binding()
        for name, buffer in self._inputs.items():
            binding.bind_ortvalue_input(name, buffer.value)
        for name, buffer in self._outputs.items():
            binding.bind_ortvalue_output(name, buffer.value)
        for state in self._states:
            binding.bind_ortvalue_input(state.spec.input, state.buffer(turn).value)
            binding.bind_ortvalue_output(state.spec.output, state.buffer(1 - turn).value)
        return binding

    def step(self) -> int:
        if not holds_good_values(self.input, self._n_tokens):
            return Outcome.BAD_INPUT
        self.feed()
        return Outcome.DONE if holds_good_values(self.output) else Outcome.BAD_OUTPUT

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        outputs = np.empty((len(samples), *self.output.shape), self.output.dtype)
        for t, sample in enumerate(samples):
            self.input[...] = sample
            self.feed()
            outputs[t] = self.output
        return outputs

    def feed(self) -> None:
        """One step, without a check of its values."""
        try:
            with _GATE.lock():
                self._run(self._bindings[self._turn])
        except Exception as error:
            raise _failed(self._path, error) from error
        self._turn = 1 - self._turn

    def reset(self, rows: Sequence[int] | None) -> None:
        for state in self._states:
            state.buffer(self._turn).write(0, rows)

    def read_state(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        return {state.spec.input: state.buffer(self._turn).read(rows) for state in self._states}

    def write_state(self, arrays: dict[str, NDArray[Any]], rows: Sequence[int] | None = None) -> None:
        for state in self._states:
            state.buffer(self._turn).write(arrays[state.spec.input], rows)


def _check_memory(spec: GraphSpec, batch: int) -> None:
    """Raise MemoryError if the buffers of a stepper do not fit in memory."""
    each = sum(row_bytes(tensor.shape, tensor.dtype) for tensor in (*spec.inputs, *spec.outputs))
    each += sum(state.row_bytes * (1 if state.in_place else 2) for state in spec.states)
    if each * batch > available_memory():
        raise MemoryError


class _Buffer:
    """Memory shared by numpy and ONNX Runtime. On a device, ``array`` has only the initial values."""

    def __init__(self, shape: Shape, batch: int, dtype: str, device: str = "cpu") -> None:
        self.array = _aligned_zeros(concrete(shape, batch), np.dtype(dtype))
        self.on_host = device == "cpu"
        self.value = load_onnxruntime().OrtValue.ortvalue_from_numpy(self.array, device, 0)

    def read(self, rows: Sequence[int] | None = None) -> NDArray[Any]:
        array = self.array if self.on_host else self.value.numpy()
        return copy_of(array, rows)

    def write(self, values: NDArray[Any] | int, rows: Sequence[int] | None = None) -> None:
        array = self.array if self.on_host else self.value.numpy()
        array[index_of(rows)] = values
        if not self.on_host:
            self.value.update_inplace(np.ascontiguousarray(array))


class _State:
    """The one or two buffers of a state."""

    def __init__(self, spec: StateSpec, batch: int, provider: str) -> None:
        self.spec = spec
        # Other providers copy from and to the host, and must not bind a buffer as both input and output.
        count = 1 if spec.in_place and provider in (CPU, CUDA) else 2
        device = "cuda" if provider == CUDA else "cpu"
        self._buffers = [_Buffer(spec.shape, batch, spec.dtype, device) for _ in range(count)]

    def buffer(self, turn: int) -> _Buffer:
        return self._buffers[turn % len(self._buffers)]


def _aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros aligned to cache lines, so that vector loads do not cross two lines."""
    line = 64
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size].view(dtype).reshape(shape)
