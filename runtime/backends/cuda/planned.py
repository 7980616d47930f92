"""Streams by a kernel that a bundle has planned: needs numpy and the driver alone."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.arrays import holds_good_values
from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import GraphSpec, StateSpec, concrete
from multires_edge.runtime.backends.cuda.plans import Kernel, StreamPlan, plan_for, plans_path, read_plans
from multires_edge.runtime.backends.device.cuda import CudaDevice
from multires_edge.runtime.backends.device.gpu import find_gpu
from multires_edge.runtime.backends.device.states import DeviceStepper, Placed
from multires_edge.runtime.backends.native_weights import check_states
from multires_edge.runtime.backends.protocol import Outcome
from multires_edge.runtime.bundle_files import read_file

ENTRY = "multires_step"
# As in streams.cpp: of inputs and outputs in one launch of `run`, which must not keep a GPU from its display.
_CHUNK_BYTES, _CHUNK_STEPS = 1 << 22, 1024
_INT, _POINTER = ctypes.c_int, ctypes.c_void_p


class PlannedStepper(DeviceStepper):
    """``batch`` streams of a plan, by one of its kernels. It owns the device.

    ``code`` is that of the kernel, ``weights`` (bytes,) are in its layout, ``spec`` has the input and output
    of the step graph. Raises BackendError if the device reports an error.
    """

    def __init__(
        self,
        device: CudaDevice,
        plan: StreamPlan,
        kernel: Kernel,
        code: bytes,
        weights: NDArray[np.uint8],
        spec: GraphSpec,
        batch: int,
        n_tokens: int | None,
    ) -> None:
        self._device, self._batch, self._n_tokens = device, batch, n_tokens
        self._free = weakref.finalize(self, device.close)
        device.activate()
        function = device.function(device.load(code + b"\0"), ENTRY)
        self._states = {
            name: Placed(0, np.dtype(state.dtype), state.shape) for name, state in plan.states.items()
        }
        for name, placed in self._states.items():
            self._states[name] = placed._replace(address=device.allocate(batch * placed.row_bytes))
        addresses = [0 if name is None else self._states[name].address for name in plan.pointers]
        packed, blocks = device.allocate(weights.nbytes), -(-batch // kernel.rows)
        device.upload(packed, weights)
        scratch = device.allocate(blocks * kernel.scratch) if kernel.scratch else 0
        device.synchronize()

        def launcher(samples: int, outputs: int, steps: ctypes.c_int) -> Callable[[], None]:
            pointers = (_POINTER * len(addresses))(*addresses)
            values = (_POINTER(packed), pointers, *map(_POINTER, (samples, outputs, scratch)))
            grid, block = (blocks, 1, 1), (kernel.threads, 1, 1)
            return device.launcher(function, grid, block, [*values, _INT(batch), steps])

        sample, output = (concrete(tensor.shape, batch) for tensor in (spec.inputs[0], spec.outputs[0]))
        # Host memory that the kernel reads and writes itself: a step needs no copies.
        self.input, samples = device.mapped(sample, spec.inputs[0].dtype)
        self.output, outputs = device.mapped(output, np.float32)
        self._step = launcher(samples, outputs, _INT(1))
        most = min(max(_CHUNK_BYTES // (self.input.nbytes + self.output.nbytes), 1), _CHUNK_STEPS)
        self._inputs, samples = device.mapped((most, *sample), self.input.dtype)
        self._outputs, outputs = device.mapped((most, *output), np.float32)
        self._steps = _INT(0)
        self._chunk = launcher(samples, outputs, self._steps)

    def step(self) -> int:
        if not holds_good_values(self.input, self._n_tokens):
            return Outcome.BAD_INPUT
        self._device.activate()
        self._step()
        self._device.synchronize()
        return Outcome.DONE if holds_good_values(self.output) else Outcome.BAD_OUTPUT

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        self._device.activate()
        results = np.empty((len(samples), *self.output.shape), np.float32)
        for start in range(0, len(samples), len(self._inputs)):
            part = samples[start : start + len(self._inputs)]
            self._inputs[: len(part)] = part
            self._steps.value = len(part)
            self._chunk()
            self._device.synchronize()
            results[start : start + len(part)] = self._outputs[: len(part)]
        return results

    def _placed(self) -> dict[str, Placed]:
        return self._states


def planned_stepper(
    folder: Path,
    manifest: Manifest,
    precision: str,
    batch: int,
    window: int | None,
    states: Sequence[StateSpec] = (),
) -> PlannedStepper:
    """Streams of a bundle, which must have ``states``; with ``window`` None they pool as the bundle does.

    Raises BackendError without a GPU or a plan, BundleError if a file is damaged or of another bundle.
    """
    gpu = find_gpu()
    plans = read_plans(folder, manifest, precision)
    plan = plan_for(plans, window, folder)
    shapes = {name: (state.dtype, (batch, *state.shape)) for name, state in plan.states.items()}
    check_states(shapes, plans_path(folder, precision), states, batch)
    kernel = plan.kernel_for(batch, gpu.multiprocessors)
    code, weights = (read_file(folder, file.file, file.sha256) for file in (kernel.code, plans.weights))
    packed, spec = np.frombuffer(weights, np.uint8), manifest.graph("step", precision)
    device = CudaDevice()
    try:
        return PlannedStepper(device, plan, kernel, code, packed, spec, batch, manifest.model.n_tokens)
    except BaseException:
        device.close()
        raise
