"""Streams and full graphs of networks with several inputs or outputs: they take and return arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError, InputError, OverflowedError
from multires_edge.format.arrays import all_finite, check_array
from multires_edge.format.config import ModelConfig
from multires_edge.format.module import ModuleConfig
from multires_edge.format.specs import GraphSpec, TensorSpec, concrete
from multires_edge.runtime.backends.protocol import Runner, Stepper
from multires_edge.runtime.full import FullGraph
from multires_edge.runtime.stream import Stream

Arrays = dict[str, NDArray[Any]]


def stream_of(
    stepper: Stepper, spec: GraphSpec, batch: int, model: str, network: ModelConfig | ModuleConfig
) -> Stream:
    """A stream, by name if the network has several inputs or outputs."""
    if isinstance(network, ModuleConfig) and not network.is_plain:
        return NamedStream(stepper, spec, batch, model, network)
    return Stream(stepper, spec, batch, model, network.n_tokens)


def full_graph(runner: Runner, spec: GraphSpec, network: ModelConfig | ModuleConfig) -> FullGraph:
    """A full graph, by name if the network has several inputs or outputs."""
    if isinstance(network, ModuleConfig) and not network.is_plain:
        return NamedFullGraph(runner, spec, network)
    return FullGraph(runner, spec, network.n_tokens)


class NamedStream(Stream):
    """A stream whose samples and outputs are dictionaries of arrays, by the names of the module's tensors.

    A single input may be given as an array.
    """

    def __init__(
        self, stepper: Stepper, spec: GraphSpec, batch: int, model: str, network: ModuleConfig
    ) -> None:
        super().__init__(stepper, spec, batch, model, network.n_tokens)
        self._ports = _Ports(spec.inputs, network, batch)
        self._buffers: tuple[Arrays, Arrays] = _buffers(stepper)

    def step(self, x: Any) -> Any:
        """Feed one sample: arrays (batch, ...) by name. Returns the outputs (batch, ...) by name.

        Raises InputError and leaves the state unchanged, or OverflowedError as :meth:`Stream.step` does.
        """
        given = self._ports.check(x)
        with self._ownership:
            outputs = self._feed(given)
        self._refuse_overflow(outputs)
        return outputs

    def run(self, x: Any) -> Any:
        """Feed a chunk: arrays (batch, ..., time) by name. Returns the outputs (batch, ..., time) by name."""
        given = self._ports.check(x, "time")
        steps = next(iter(given.values())).shape[-1]
        with self._ownership:
            outputs = [
                self._feed({name: array[..., t] for name, array in given.items()}) for t in range(steps)
            ]
        whole = {name: np.stack([each[name] for each in outputs], axis=-1) for name in outputs[0]}
        self._refuse_overflow(whole)
        return whole

    def _feed(self, given: Arrays) -> Arrays:
        inputs, outputs = self._buffers
        for name, array in given.items():
            inputs[name][...] = array
        self._step()
        return {name: array.copy() for name, array in outputs.items()}

    def _refuse_overflow(self, outputs: Arrays) -> None:
        for array in outputs.values():
            if not all_finite(array):
                self._refuse_output(array)


class NamedFullGraph(FullGraph):
    """A full graph whose inputs and outputs are dictionaries of arrays, by the names of the tensors."""

    def __init__(self, runner: Runner, spec: GraphSpec, network: ModuleConfig) -> None:
        super().__init__(runner, spec, network.n_tokens)
        self._ports = _Ports(spec.inputs, network, None)
        self._names = [tensor.name for tensor in spec.outputs]

    def __call__(self, x: Any, lengths: Any = None) -> Any:
        """Run arrays (batch, ..., time) by name. Returns the outputs by name. Raises as FullGraph does."""
        if lengths is not None and "lengths" not in self._ports.names:
            raise InputError("this bundle's full graph takes no lengths")
        given = self._ports.check(x)
        run_all = getattr(self._runner, "run_all", None)
        if run_all is None:
            raise BackendError("this backend runs networks of one input and one output; use onnxruntime")
        outputs = run_all({name: np.ascontiguousarray(array) for name, array in given.items()})
        if not all(map(all_finite, outputs)):
            raise OverflowedError(
                "the inputs are finite but so large that an output overflows; check their scale"
            )
        return dict(zip(self._names, outputs, strict=True))


class _Ports:
    """Checks what is given for several inputs. ``batch`` None is any."""

    def __init__(self, inputs: tuple[TensorSpec, ...], network: ModuleConfig, batch: int | None) -> None:
        self._inputs, self._tokens, self._batch = inputs, network.tokens, batch
        self.names = [tensor.name for tensor in inputs]

    def check(self, given: Any, *more: str) -> Arrays:
        """Arrays by name, of the right types and shapes, as long as each other. Raises InputError."""
        if isinstance(given, np.ndarray) and len(self._inputs) == 1:
            given = {self.names[0]: given}
        if not isinstance(given, Mapping) or set(given) != set(self.names):
            has = ", ".join(map(str, given)) if isinstance(given, Mapping) else f"a {type(given).__name__}"
            raise InputError(f"the inputs are {has}, expected a dictionary of {', '.join(self.names)}")
        arrays = {}
        for tensor in self._inputs:
            shape = tensor.shape if self._batch is None else concrete(tensor.shape, self._batch)
            arrays[tensor.name] = check_array(
                given[tensor.name],
                tensor.name,
                np.dtype(tensor.dtype),
                (*shape, *more),
                self._tokens.get(tensor.name),
            )
        if self._batch is None or more:
            sizes = {(array.shape[0], array.shape[-1]) for array in arrays.values()}
            if len(sizes) > 1:
                raise InputError(f"the inputs have different batches or steps: {sorted(sizes)}")
        return arrays


def _buffers(stepper: Stepper) -> tuple[Arrays, Arrays]:
    inputs, outputs = getattr(stepper, "inputs", None), getattr(stepper, "outputs", None)
    if inputs is None or outputs is None:
        raise BackendError("this backend streams networks of one input and one output; use onnxruntime")
    return inputs, outputs
