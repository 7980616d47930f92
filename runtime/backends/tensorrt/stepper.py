"""TensorRT: streams whose states stay on the device, with one CUDA graph per step.

A step engine is built from the step graph. It reads and writes the queues itself: a state that it updates in
place has one address, every other state has two, which swap roles at each step. A taps engine is built from
the taps graph and does not touch the rings: one kernel gathers its taps before it runs, another pushes its
rows into the rings afterwards. In both cases there are two CUDA graphs, one for each role of the buffers.
A step that cannot be captured is queued each time.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError
from multires_edge.format.arrays import holds_good_values
from multires_edge.format.specs import GraphSpec, RingBank, RingSpec, StateSpec, concrete
from multires_edge.runtime.backends.device.states import DeviceStepper, Exchanged, Placed
from multires_edge.runtime.backends.interface import check_tensors, expected_tensors
from multires_edge.runtime.backends.protocol import Outcome
from multires_edge.runtime.backends.tensorrt.device import RING_ACCESS, Context, Device, Engine, RingMove

_CHUNK = 16  # steps in one graph of `run`, an even number
_CLOCK = "position"


class TensorRtStepper(DeviceStepper):
    """Streams on one engine. ``spec`` describes the engine's graph; ``states`` are those of the step graph.

    ``inputs`` and ``outputs`` are the arrays of a step by name; :meth:`run` is for one of each.

    Raises BundleError if the engine is of another graph, BackendError if it was not built for the batch or
    if the device reports an error.
    """

    _device: Device

    def __init__(
        self,
        device: Device,
        engine: Engine,
        spec: GraphSpec,
        states: Sequence[StateSpec],
        batch: int,
        n_tokens: int | None,
    ) -> None:
        check_tensors(engine.name, engine.tensors, spec, "build it again", fixed=True)
        self._device, self._batch, self._n_tokens = device, batch, n_tokens
        self._free = weakref.finalize(self, device.close)
        device.activate()
        of_rings = {_CLOCK, *(name for bank in spec.banks for name in (bank.taps, bank.pushes))}
        self._samples, self._results = (
            {
                tensor.name: device.exchanged(concrete(tensor.shape, batch), tensor.dtype)
                for tensor in tensors
                if tensor.name not in of_rings
            }
            for tensors in (spec.inputs, spec.outputs)
        )
        self.inputs, self.outputs = (
            {name: each.array for name, each in exchanged.items()}
            for exchanged in (self._samples, self._results)
        )
        self.input, self.output = next(iter(self.inputs.values())), next(iter(self.outputs.values()))
        self._states = {state.input: self._place(engine, spec, state) for state in states}
        self._banks = [_Bank.place(device, bank, self._states, batch) for bank in spec.banks]
        self._contexts = [self._bind(engine, spec, turn) for turn in (0, 1)]
        self._turn, self._captures = 0, True
        self._chunk: _Chunk | None = None
        self._chunks: list[Callable[[], None] | None] = []
        self._warm_up()
        self._whole = [self._captured(partial(self._queue_whole, turn)) for turn in (0, 1)]

    def _place(self, engine: Engine, spec: GraphSpec, state: StateSpec) -> _State:
        """Allocate one buffer if the engine or the ring kernels update the state in place, else two."""
        in_rings = {ring.state for bank in spec.banks for ring in bank.rings}
        updated = any(engine.aliased_input(fed_back.output) == state.input for fed_back in spec.states)
        in_place = updated or state.input in in_rings
        size = self._batch * state.row_bytes
        first = self._device.allocate(size)
        second = first if in_place else self._device.allocate(size)
        return _State(state, (first, second))

    def _bind(self, engine: Engine, spec: GraphSpec, turn: int) -> Context:
        """A context for one role of the buffers: the addresses of a captured context must not change."""
        addresses = {name: each.address for name, each in (self._samples | self._results).items()}
        for state in self._states.values():
            addresses[state.spec.input] = state.addresses[turn]
            addresses[state.spec.output] = state.addresses[1 - turn]
        for bank in self._banks:
            addresses |= {bank.spec.taps: bank.gather.rows, bank.spec.pushes: bank.push.rows}
        context = engine.context()
        for name, tensor in expected_tensors(spec).items():
            shape = tuple(self._batch if size < 0 else size for size in tensor.shape)
            context.bind(name, addresses[name], shape)
        return context

    def _warm_up(self) -> None:
        """Run once before capture: TensorRT initializes contexts at their first run."""
        for turn in (0, 1):
            self._queue_core(turn)
        self._device.synchronize()
        for state in self._states.values():
            for address in state.addresses:
                self._device.zero(address, self._batch * state.spec.row_bytes)
        self._device.synchronize()

    def _captured(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """A CUDA graph of the work; None, after a warning, if it cannot be captured.

        Not the work itself: an object that keeps its own method is freed late, and so is its device.
        """
        try:
            return self._device.capture(work)
        except BackendError as error:
            if self._captures:
                warnings.warn(f"runs without CUDA graphs, which is slower: {error}", stacklevel=2)
            self._captures = False
            return None

    def _queue_core(self, turn: int) -> None:
        """Queue a step from the sample on the device to the result on the device."""
        position, following = (self._states[_CLOCK].addresses[t] for t in (turn, 1 - turn))
        for bank in self._banks:
            self._device.gather_taps(replace(bank.gather, position=position))
        self._contexts[turn].enqueue()
        for i, bank in enumerate(self._banks):
            self._device.push_rows(replace(bank.push, position=position), following if i == 0 else 0)

    def _queue_whole(self, turn: int) -> None:
        """Queue a step from host to host."""
        for sample in self._samples.values():
            self._send(sample)
        self._queue_core(turn)
        for result in self._results.values():
            self._receive(result)

    def _queue_chunk(self, chunk: _Chunk, turn: int) -> None:
        """Queue the steps of a chunk from host to host, of a network of one input and one output."""
        device, sample, result = self._device, self.input.nbytes, self.output.nbytes
        (given,), (made,) = self._samples.values(), self._results.values()
        self._send(chunk.inputs)
        for t in range(_CHUNK):
            device.copy(given.address, chunk.inputs.address + t * sample, sample)
            self._queue_core((turn + t) % 2)
            device.copy(chunk.outputs.address + t * result, made.address, result)
        self._receive(chunk.outputs)

    def _send(self, inputs: Exchanged) -> None:
        if inputs.copied:
            self._device.upload(inputs.address, inputs.array)

    def _receive(self, outputs: Exchanged) -> None:
        if outputs.copied:
            self._device.download(outputs.array, outputs.address)

    def _run_step(self) -> None:
        (self._whole[self._turn] or partial(self._queue_whole, self._turn))()
        self._device.synchronize()
        self._turn = 1 - self._turn

    def step(self) -> int:
        if not holds_good_values(self.input, self._n_tokens):
            return Outcome.BAD_INPUT
        self._device.activate()
        self._run_step()
        return Outcome.DONE if holds_good_values(self.output) else Outcome.BAD_OUTPUT

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        device, count = self._device, len(samples)
        device.activate()
        if self._chunk is None and count >= _CHUNK:
            self._chunk = _Chunk.place(device, self.input, self.output)
            self._chunks = [self._captured(partial(self._queue_chunk, self._chunk, t)) for t in (0, 1)]
        outputs = np.empty((count, *self.output.shape), self.output.dtype)
        whole = 0 if self._chunk is None else count - count % _CHUNK
        for start in range(0, whole, _CHUNK):
            assert self._chunk is not None
            self._chunk.inputs.array[...] = samples[start : start + _CHUNK]
            # After an even number of steps, the turn is the same.
            (self._chunks[self._turn] or partial(self._queue_chunk, self._chunk, self._turn))()
            device.synchronize()
            outputs[start : start + _CHUNK] = self._chunk.outputs.array
        for t in range(whole, count):
            self.input[...] = samples[t]
            self._run_step()
            outputs[t] = self.output
        return outputs

    def _placed(self) -> dict[str, Placed]:
        return {
            name: Placed(state.addresses[self._turn], state.spec.dtype, concrete(state.spec.shape, 1)[1:])
            for name, state in self._states.items()
        }


@dataclass(frozen=True)
class _State:
    """A state on the device, with its address before a step of each turn."""

    spec: StateSpec
    addresses: tuple[int, int]


@dataclass(frozen=True)
class _Bank:
    """Rings of a taps graph that are read and written together. The moves take the position of each step."""

    spec: RingBank
    gather: RingMove
    push: RingMove

    @classmethod
    def place(cls, device: Device, spec: RingBank, states: dict[str, _State], batch: int) -> _Bank:
        row_bytes = spec.width * np.dtype(spec.dtype).itemsize

        def move(delays: Callable[[RingSpec], Sequence[int]]) -> RingMove:
            accesses = np.array(
                [
                    (states[ring.state].addresses[0], ring.slots, delay)
                    for ring in spec.rings
                    for delay in delays(ring)
                ],
                RING_ACCESS,
            )
            table = device.allocate(accesses.nbytes)
            device.upload(table, accesses)
            device.synchronize()
            rows = device.allocate(batch * len(accesses) * row_bytes)
            return RingMove(table, len(accesses), 0, rows, batch, row_bytes)

        return cls(spec, gather=move(lambda ring: ring.delays), push=move(lambda ring: (0,)))


@dataclass(frozen=True)
class _Chunk:
    """The inputs and outputs of several steps."""

    inputs: Exchanged
    outputs: Exchanged

    @classmethod
    def place(cls, device: Device, sample: NDArray[Any], output: NDArray[Any]) -> _Chunk:
        return cls(*(device.exchanged((_CHUNK, *each.shape), each.dtype) for each in (sample, output)))
