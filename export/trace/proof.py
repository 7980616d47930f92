"""The proof of a traced module: compare everything with the module itself, in float64, on every prefix."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from multires_edge.base.errors import ModuleError
from multires_edge.export.parity import AGREEMENT
from multires_edge.export.proof import AnyProof
from multires_edge.export.trace.executor import StepExecutor
from multires_edge.export.trace.noise import SEED, Noise
from multires_edge.export.trace.planning import Plan
from multires_edge.export.trace.program import Program
from multires_edge.export.trace.tracing import output_names, output_tensors
from multires_edge.format.comparison import LIMITS, Check, Limit
from multires_edge.format.fields import shortened
from multires_edge.format.module import ModuleGolden
from multires_edge.format.specs import concrete
from multires_edge.models.depthwise import fast_depthwise
from multires_edge.runtime.backends.onnxruntime import open_session
from multires_edge.runtime.backends.protocol import Backend
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.named_records import by_name
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.verify import checked_backends
from multires_edge.runtime.verify_module import compare, part, run_full, run_stream

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[str], None]

ROWS = 3
TRACED = Limit(1e-12)  # of the float64 step against the module
_PAST = 65  # further steps than the receptive field, an odd number, so that no queue ends where it began
_ALL_PREFIXES = 160  # every prefix up to here, and then some
_SOME_PREFIXES = 12
_WORK = 4e10  # multiply-adds for the outputs of all prefixes
_COPIED = 96
_RECORDS, _STREAMED = 64, 4  # of data: through the full graph, and as streams
_INSTRUCTIONS = 60_000  # of the traced step, in all its steps


@dataclass
class ModuleProof(AnyProof):
    """The proof of a module. ``prefixes`` are the lengths that were compared one by one."""

    n_parameters: int
    longest_queue: int
    reach: int
    prefixes: NDArray[np.int64]

    @property
    def basis(self) -> str:
        return "your module"

    @property
    def layer_receptive_field(self) -> int:
        return self.longest_queue + 1

    @property
    def receptive_field(self) -> int:
        return self.reach + 1


def prefixes_of(program: Program, n_parameters: int) -> NDArray[np.int64]:
    """The lengths on which a module is compared: every short one, and some up to the receptive field."""
    longest = max((ring.slots - 1 for ring in program.rings), default=0)
    affordable = int(_WORK / n_parameters / ROWS)
    steps = min(program.reach + _PAST, max(longest + _PAST, affordable), 100_000)
    every = min(steps, _ALL_PREFIXES)
    further = np.unique(np.linspace(every, steps, _SOME_PREFIXES).astype(np.int64))
    some = max(1, affordable // steps)
    return np.union1d(np.arange(1, every + 1), further[-some:])


def prove_module(
    net: nn.Module,
    plan: Plan,
    bundle: Bundle,
    noise: Noise,
    dataset: Dataset | None = None,
    progress: Progress = lambda _: None,
) -> tuple[ModuleProof, ModuleGolden]:
    """Compare the float64 step, and the graphs in every form and precision, with ``net`` in float64.

    On sequences longer than the records that int8 was calibrated on, its graphs are compared with each other
    and not with the module: the ranges say nothing of those.
    """
    return _Prover(net, plan, bundle, noise, dataset, progress).run()


class _Prover:
    def __init__(
        self,
        net: nn.Module,
        plan: Plan,
        bundle: Bundle,
        noise: Noise,
        dataset: Dataset | None,
        progress: Progress,
    ) -> None:
        self.net, self.plan, self.bundle, self.network = net, plan, bundle, noise.network
        self.noise, self.dataset, self.progress = noise, dataset, progress
        self.precision = "fp32"
        self.form = self.first_form = bundle.manifest.form
        program = plan.program
        count = sum(p.numel() for p in net.parameters()) or 1
        longest = max((ring.slots - 1 for ring in program.rings), default=0)
        prefixes = prefixes_of(program, count)
        self.steps = int(prefixes[-1])  # for the precision that is being checked
        data = f"noise with the mean and spread of the example (seed {SEED})"
        if noise.ranges:
            data += ", within the range of int8 inputs"
        self.proof = ModuleProof(data, self.steps, count, longest, program.reach, prefixes)
        self.inputs = noise(ROWS, self.steps, np.random.default_rng(SEED))

    def run(self) -> tuple[ModuleProof, ModuleGolden]:
        self.progress("parity: the module on every prefix")
        self.reference = self._stepwise(self.inputs)
        self._traced()
        for form in self.bundle.manifest.by_form:
            self.form, self.bundle = form, self.bundle.in_form(form)
            for precision in self.bundle.manifest.graphs["full"]:
                self._check_precision(precision)
        self.precision = "fp32"
        steps = min(self.proof.steps, _ALL_PREFIXES)
        inputs = {name: array[:2] for name, array in part(self.inputs, 0, steps).items()}
        stepwise = {name: array[:2] for name, array in part(self.reference, 0, steps).items()}
        return self.proof, ModuleGolden(inputs, stepwise, self._module(inputs))

    def _check_precision(self, precision: str) -> None:
        self.precision = precision
        calibrated = self.bundle.manifest.calibrated_steps(precision)
        self.steps = min(self.proof.steps, calibrated or self.proof.steps)
        self._whole()
        for backend in self._backends():
            self._every_prefix(backend)
            self._rows_of_their_own(backend)
            self._saved_and_loaded(backend)
        self._copied()
        if precision in AGREEMENT:
            self._step_against_full()
        if self.dataset is not None:
            self._records(self.dataset)

    def _backends(self) -> list[Backend]:
        backends = checked_backends(self.bundle, self.precision)
        return [backend for backend in backends if not backend.needs_gpu]

    def _stream(self, rows: int, backend: str | Backend) -> Any:
        return self.bundle.stream(rows, backend=backend, precision=self.precision)

    # The reference

    def _module(self, inputs: Arrays) -> Arrays:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()]
        tensors = [tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors]
        try:
            with fast_depthwise():
                returned = self.net(*tensors)
        except Exception as error:
            steps = tensors[0].shape[-1]
            raise ModuleError(
                f"the module cannot run on {steps} step{'s'[: steps != 1]}, and a stream begins with one: "
                f"{shortened(str(error))}"
            ) from error
        names, outputs = output_names(returned), output_tensors(returned)
        return {name: tensor.double().numpy() for name, tensor in zip(names, outputs, strict=True)}

    def _stepwise(self, inputs: Arrays) -> Arrays:
        """The module's outputs for each of the prefixes, at its last step: (rows, ..., prefixes)."""
        found: dict[str, list[NDArray[Any]]] = {tensor.name: [] for tensor in self.network.outputs}
        for length in self.proof.prefixes:
            if length > next(iter(inputs.values())).shape[-1]:
                break
            whole = self._module(part(inputs, 0, int(length)))
            for tensor in self.network.outputs:
                array = whole[tensor.name]
                found[tensor.name].append(
                    array.take(-1, tensor.shape.index("time")) if "time" in tensor.shape else array
                )
        return {name: np.stack(arrays, axis=-1) for name, arrays in found.items()}

    def _check(self, name: str, graph: str, description: str) -> tuple[Check, np.random.Generator]:
        # Each check draws by a seed of its own: neither forms nor precisions beside it change its inputs.
        random = np.random.default_rng([SEED, zlib.crc32(name.encode())])
        if self.precision != "fp32":
            name = f"{self.precision}: {name}"
        if self.form != self.first_form:
            name = f"{self.form}, {name}"
        check = Check(name, graph, description, self.precision)
        self.progress(f"parity: {check.name}")
        self.proof.checks.append(check)
        return check, random

    def _compare(self, check: Check, outputs: Arrays, reference: Arrays, rows: slice = slice(None)) -> None:
        """Compare outputs (rows, ..., steps) with those of the module at the prefixes."""
        steps = next(iter(outputs.values())).shape[-1]
        ends = self.proof.prefixes[self.proof.prefixes <= steps] - 1
        every = min(steps, _ALL_PREFIXES)
        outputs = {name: array[rows] for name, array in outputs.items()}
        reference = {name: array[rows] for name, array in reference.items()}
        compare(check, part(outputs, 0, every), part(reference, 0, every), over_time=True)
        for i, end in enumerate(ends[every:], every):
            one = part(outputs, end, end + 1)
            compare(check, one, part(reference, i, i + 1), start=int(end), over_time=True)

    # The trace

    def _traced(self) -> None:
        # PyTorch takes long for many small operators. The graphs are compared on all steps.
        count = len(self.plan.step.instructions)
        steps = min(self.proof.steps, max(_ALL_PREFIXES, _INSTRUCTIONS // count))
        check, _ = self._check(
            "traced step in float64, every prefix", "step", f"{ROWS} rows of {steps} steps, with queues"
        )
        check.limit = TRACED
        executor = StepExecutor(self.plan.step, ROWS)
        outputs: list[dict[str, torch.Tensor]] = []
        for t in range(steps):
            tensors = {
                name: torch.from_numpy(np.ascontiguousarray(a[..., t])) for name, a in self.inputs.items()
            }
            outputs.append(
                executor.step({n: x.double() if x.is_floating_point() else x for n, x in tensors.items()})
            )
        stacked = {name: torch.stack([each[name] for each in outputs], -1).numpy() for name in outputs[0]}
        self._compare(check, stacked, self.reference)

    # The graphs

    def _full(self, inputs: Arrays) -> Arrays:
        return run_full(self.bundle, inputs, self.precision)

    def _whole(self) -> None:
        shapes = [(1, 1, "a single step"), (ROWS, 2, "two steps"), (2, 37, "an odd length")]
        shapes.append((1, self.steps, "the longest sequence"))
        if LIMITS[self.precision].measure == "mean":
            # A mean needs more than a few values.
            shapes = [(32, min(37, self.steps), "an odd length"), (ROWS, self.steps, "the longest sequence")]
        for rows, steps, what in shapes:
            check, random = self._check(f"full graph, {rows} x {steps}", "full", what)
            inputs = self.noise(rows, steps, random)
            compare(check, self._full(inputs), self._module(inputs))

    def _every_prefix(self, backend: Backend) -> None:
        check, _ = self._check(
            f"{backend.checked_as}, every prefix", "step", f"{ROWS} streams of {self.steps} steps in place"
        )
        inputs = part(self.inputs, 0, self.steps)
        self._compare(check, run_stream(self._stream(ROWS, backend), self.network, inputs), self.reference)

    def _rows_of_their_own(self, backend: Backend) -> None:
        steps = min(self.steps, _ALL_PREFIXES)
        restart = steps // 3
        check, _ = self._check(
            f"{backend.checked_as}, rows restarted", "step", f"row 1 restarted at step {restart}"
        )
        stream = self._stream(ROWS, backend)
        before = run_stream(stream, self.network, part(self.inputs, 0, restart)) if restart else {}
        stream.reset(rows=[1])
        after = run_stream(stream, self.network, part(self.inputs, restart, steps))
        later = {name: array[1:2] for name, array in part(self.inputs, restart, steps).items()}
        expected = self._stepwise(later)
        compare(check, {name: array[1:2] for name, array in after.items()}, expected, over_time=True)
        for row in (0, 2):
            whole = {
                name: np.concatenate([*([before[name]] if before else []), after[name]], -1) for name in after
            }
            self._compare(check, whole, self.reference, slice(row, row + 1))

    def _saved_and_loaded(self, backend: Backend) -> None:
        """Load the state, as bytes, into a stream of ONNX Runtime: the layouts are equal."""
        steps = min(self.steps, _ALL_PREFIXES)
        half = steps // 2
        check, _ = self._check(f"{backend.checked_as}, saved and loaded", "step", f"at step {half}, as bytes")
        first = self._stream(ROWS, backend)
        if half:
            run_stream(first, self.network, part(self.inputs, 0, half))
        second = self._stream(ROWS, "onnxruntime")
        second.load_state(StreamState.from_bytes(first.save_state().to_bytes()))
        outputs = run_stream(second, self.network, part(self.inputs, half, steps))
        compare(check, outputs, part(self.reference, half, steps), start=half, over_time=True)

    def _copied(self) -> None:
        """Plain ONNX Runtime, from the manifest alone: zeros in, outputs fed back."""
        steps = min(self.steps, _COPIED)
        check, _ = self._check("step graph, states copied", "step", f"{steps} steps, not in place")
        spec = self.bundle.manifest.graph("step", self.precision)
        session = open_session(self.bundle.path, spec, 1, "cpu")
        states = {state.input: np.zeros(concrete(state.shape, ROWS), state.dtype) for state in spec.states}
        names = [*(tensor.name for tensor in spec.outputs), *(state.output for state in spec.states)]
        for t in range(steps):
            feeds = {name: np.ascontiguousarray(array[..., t]) for name, array in self.inputs.items()}
            results = session.run(names, {**feeds, **states})
            outputs = dict(zip(self.reference, results, strict=False))
            states = dict(zip(states, results[len(outputs) :], strict=True))
            one = {name: array[..., None] for name, array in outputs.items()}
            compare(check, one, part(self.reference, t, t + 1), start=t, over_time=True)

    def _step_against_full(self) -> None:
        """Compare the two graphs: with equal rounding they are closer to each other than to the module."""
        longest = min(self.proof.steps, _ALL_PREFIXES)
        lengths = sorted({1, min(17, longest), longest})
        what = f"{ROWS} rows, prefixes of {', '.join(map(str, lengths))} steps"
        check, _ = self._check("step graph against full graph", "step", what)
        check.limit = AGREEMENT[self.precision]
        inputs = part(self.inputs, 0, longest)
        outputs = run_stream(self._stream(ROWS, "onnxruntime"), self.network, inputs)
        for steps in lengths:
            compare(check, part(outputs, steps - 1, steps), self._last(part(inputs, 0, steps)))

    def _last(self, inputs: Arrays) -> Arrays:
        """The outputs of the full graph at the last step, (rows, ..., 1)."""
        whole = self._full(inputs)
        return {
            tensor.name: whole[tensor.name].take(-1, tensor.shape.index("time"))[..., None]
            if "time" in tensor.shape
            else whole[tensor.name][..., None]
            for tensor in self.network.outputs
        }

    # Real data

    def _records(self, dataset: Dataset) -> None:
        """Compare on records of data, each cut to its length."""
        affordable = max(1, int(_WORK / self.proof.n_parameters / dataset.inputs.shape[-1]))
        count = min(len(dataset), _RECORDS, affordable)
        if self.precision == "fp32" and self.form == self.first_form:
            self.proof.data += f", and {count:,} record{'s' * (count > 1)} of {dataset.path.name}"
        full, _ = self._check("full graph, real data", "full", f"{count} records")
        for row in range(count):
            inputs = self._record(dataset, row)
            compare(full, self._full(inputs), self._module(inputs))
        some = min(count, _STREAMED)
        for backend in self._backends():
            step, _ = self._check(f"{backend.checked_as}, real data", "step", f"{some} records")
            for row in range(some):
                inputs = part(self._record(dataset, row), 0, _ALL_PREFIXES)
                outputs = run_stream(self._stream(1, backend), self.network, inputs)
                self._compare(step, outputs, self._stepwise(inputs))
        if dataset.outputs is not None and self.precision == "fp32" and self.form == self.first_form:
            self._own_outputs(dataset, count)

    def _record(self, dataset: Dataset, row: int) -> Arrays:
        inputs = by_name(self.network, dataset.inputs[row : row + 1])
        return part(
            inputs, 0, dataset.inputs.shape[-1] if dataset.lengths is None else int(dataset.lengths[row])
        )

    def _own_outputs(self, dataset: Dataset, count: int) -> None:
        """Compare with the outputs that the user's network gave for the data."""
        assert dataset.outputs is not None
        check, _ = self._check("full graph, your outputs", "full", f"{count} records")
        name = self.network.outputs[0].name
        for row in range(count):
            inputs = self._record(dataset, row)
            y = self._full(inputs)[name]
            expected = dataset.outputs[row : row + 1]
            check.compare(y, expected[..., : y.shape[-1]] if self.network.per_step else expected)
