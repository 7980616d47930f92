"""The proof of a traced module: compare everything with the module itself, in float64, on every prefix."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from multires_edge.base.errors import ModuleError
from multires_edge.export.trace.executor import StepExecutor
from multires_edge.export.trace.planning import Plan
from multires_edge.export.trace.program import Program
from multires_edge.export.trace.tracing import output_names, output_tensors
from multires_edge.format.comparison import Check, Limit
from multires_edge.format.fields import shortened
from multires_edge.format.module import ModuleConfig, ModuleGolden
from multires_edge.format.parity import Parity
from multires_edge.format.specs import concrete
from multires_edge.models.depthwise import fast_depthwise
from multires_edge.runtime.backends.onnxruntime import open_session
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.verify_module import compare, part, run_full, run_stream

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[str], None]

SEED = 2023
ROWS = 3
TRACED = Limit(1e-12)  # of the float64 step against the module
_PAST = 65  # further steps than the receptive field, an odd number, so that no queue ends where it began
_ALL_PREFIXES = 160  # every prefix up to here, and then some
_SOME_PREFIXES = 12
_WORK = 4e10  # multiply-adds for the outputs of all prefixes
_COPIED = 96
_INSTRUCTIONS = 60_000  # of the traced step, in all its steps


@dataclass
class ModuleProof:
    """All checks of one bundle. ``prefixes`` are the lengths that were compared one by one."""

    data: str
    steps: int
    n_parameters: int
    longest_queue: int
    reach: int
    prefixes: NDArray[np.int64]
    checks: list[Check] = field(default_factory=list)

    @property
    def basis(self) -> str:
        """What the reference is."""
        return "your module"

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def parity(self) -> Parity:
        """The content of parity.json."""
        return Parity(
            passed=self.passed,
            reference="PyTorch, float64",
            basis=self.basis,
            measures={"max": "max |y - reference| / max(1, |reference|)"},
            data=self.data,
            steps=self.steps,
            layer_receptive_field=self.longest_queue + 1,
            receptive_field=self.reach + 1,
            covers_layer_receptive_field=self.steps > self.longest_queue + 1,
            covers_receptive_field=self.steps > self.reach + 1,
            covers_window=None,
            checks=tuple(check.result() for check in self.checks),
        )


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
    example: Sequence[torch.Tensor],
    progress: Progress = lambda _: None,
) -> tuple[ModuleProof, ModuleGolden]:
    """Compare the float64 step, and the graphs in every form, with ``net``, the module in float64."""
    return _Prover(net, plan, bundle, example, progress).run()


class _Prover:
    def __init__(
        self, net: nn.Module, plan: Plan, bundle: Bundle, example: Sequence[torch.Tensor], progress: Progress
    ) -> None:
        assert isinstance(bundle.manifest.network, ModuleConfig)
        self.net, self.plan, self.bundle, self.network = net, plan, bundle, bundle.manifest.network
        self.example = dict(zip(self.plan.program.inputs, example, strict=True))
        self.progress, self.form = progress, ""
        program = plan.program
        count = sum(p.numel() for p in net.parameters()) or 1
        longest = max((ring.slots - 1 for ring in program.rings), default=0)
        prefixes = prefixes_of(program, count)
        steps = int(prefixes[-1])
        data = f"noise with the mean and spread of the example (seed {SEED})"
        self.proof = ModuleProof(data, steps, count, longest, program.reach, prefixes)
        self.inputs = self._noise(ROWS, steps, np.random.default_rng(SEED))

    def run(self) -> tuple[ModuleProof, ModuleGolden]:
        self.progress("parity: the module on every prefix")
        self.reference = self._stepwise(self.inputs)
        self._traced()
        for form in self.bundle.manifest.by_form:
            self.form = "" if form == self.bundle.manifest.form else f"{form}, "
            self.bundle = self.bundle.in_form(form)
            self._whole()
            self._every_prefix()
            self._rows_of_their_own()
            self._saved_and_loaded()
            self._copied()
        steps = min(self.proof.steps, _ALL_PREFIXES)
        inputs = {name: array[:2] for name, array in part(self.inputs, 0, steps).items()}
        stepwise = {name: array[:2] for name, array in part(self.reference, 0, steps).items()}
        return self.proof, ModuleGolden(inputs, stepwise, self._module(inputs))

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

    def _noise(self, rows: int, steps: int, random: np.random.Generator) -> Arrays:
        arrays: Arrays = {}
        for tensor in self.network.inputs:
            shape = tuple(rows if s == "batch" else steps if s == "time" else int(s) for s in tensor.shape)
            example = self.example[tensor.name].detach().numpy()
            if example.dtype.kind == "f":
                mean, spread = float(example.mean()), float(example.std()) or 1.0
                arrays[tensor.name] = (mean + spread * random.standard_normal(shape)).astype(np.float32)
            else:
                tokens = self.network.tokens.get(tensor.name)
                low, high = (0, tokens) if tokens else (int(example.min()), int(example.max()) + 1)
                arrays[tensor.name] = random.integers(low, high, shape)
        return arrays

    def _check(self, name: str, graph: str, description: str) -> tuple[Check, np.random.Generator]:
        check = Check(f"{self.form}{name}", graph, description, "fp32")
        self.progress(f"parity: {check.name}")
        self.proof.checks.append(check)
        return check, np.random.default_rng([SEED, zlib.crc32(name.encode())])

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

    def _whole(self) -> None:
        shapes = [(1, 1, "a single step"), (ROWS, 2, "two steps"), (2, 37, "an odd length")]
        shapes.append((1, self.proof.steps, "the longest sequence"))
        for rows, steps, what in shapes:
            check, random = self._check(f"full graph, {rows} x {steps}", "full", what)
            inputs = self._noise(rows, steps, random)
            compare(check, run_full(self.bundle, inputs), self._module(inputs))

    def _every_prefix(self) -> None:
        check, _ = self._check(
            "step graph, every prefix", "step", f"{ROWS} streams of {self.proof.steps} steps in place"
        )
        stream = self.bundle.stream(ROWS, backend="onnxruntime")
        self._compare(check, run_stream(stream, self.network, self.inputs), self.reference)

    def _rows_of_their_own(self) -> None:
        steps = min(self.proof.steps, _ALL_PREFIXES)
        restart = steps // 3
        check, _ = self._check("step graph, rows restarted", "step", f"row 1 restarted at step {restart}")
        stream = self.bundle.stream(ROWS, backend="onnxruntime")
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

    def _saved_and_loaded(self) -> None:
        steps = min(self.proof.steps, _ALL_PREFIXES)
        half = steps // 2
        check, _ = self._check("step graph, saved and loaded", "step", f"at step {half}, as bytes")
        first = self.bundle.stream(ROWS, backend="onnxruntime")
        if half:
            run_stream(first, self.network, part(self.inputs, 0, half))
        second = self.bundle.stream(ROWS, backend="onnxruntime")
        second.load_state(StreamState.from_bytes(first.save_state().to_bytes()))
        outputs = run_stream(second, self.network, part(self.inputs, half, steps))
        compare(check, outputs, part(self.reference, half, steps), start=half, over_time=True)

    def _copied(self) -> None:
        """Plain ONNX Runtime, from the manifest alone: zeros in, outputs fed back."""
        steps = min(self.proof.steps, _COPIED)
        check, _ = self._check("step graph, states copied", "step", f"{steps} steps, not in place")
        spec = self.bundle.manifest.graph("step", "fp32")
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
