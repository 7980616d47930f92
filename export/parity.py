"""The proof: compare the graphs of a bundle with the network in float64 PyTorch.

Graphs are run as users run them: through the runtime with states updated in place, and through plain
ONNX Runtime, from the manifest alone, with states copied.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.calibration.table import CalibrationTable
from multires_edge.calibration.tensors import ENCODER_INPUT
from multires_edge.export.own_module import OwnModule
from multires_edge.export.proof import Proof
from multires_edge.format.comparison import LIMITS, Check, Limit
from multires_edge.format.config import ModelConfig
from multires_edge.format.golden import Golden
from multires_edge.format.manifest import CALIBRATION_FILE
from multires_edge.format.pooling import Pooling
from multires_edge.format.specs import concrete
from multires_edge.models.pooling import POOLING_REFERENCES
from multires_edge.models.threads import one_thread
from multires_edge.runtime.backends.onnxruntime import open_session
from multires_edge.runtime.backends.protocol import Backend
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.stream import Stream
from multires_edge.runtime.verify import checked_backends

if TYPE_CHECKING:
    from multires_edge.models.network import MultiresNet
    from multires_edge.runtime.evaluation.dataset import Dataset

SEED = 2023
ROWS = 3
# Multiply-adds that the longest sequence may take. It exceeds the receptive field of the whole network if
# that is cheap. Otherwise it exceeds that of one layer, which fills every queue and wraps it around.
_WORK_WANTED = 3e10
_WORK_ALLOWED = 2e11
_STEPS_ALLOWED = 100_000
_PAST = 65  # further steps, an odd number, so that no queue ends in the slot where it began
# Between the two graphs of one precision: an activation between two levels may be rounded either way.
AGREEMENT = {"fp16": Limit(1e-2, "mean"), "int8": Limit(2e-3, "mean")}
_STEPS_COPIED = 96  # copying every state at every step is slow, and errors do not build up
_RECORDS = 256

Progress = Callable[[str], None]


def noise(
    config: ModelConfig, rows: int, steps: int, random: np.random.Generator | None = None
) -> NDArray[Any]:
    """Random input for a network: standard normal x (rows, d_input, steps), or tokens (rows, steps)."""
    random = random or np.random.default_rng(SEED)
    if config.encoder == "token":
        assert config.n_tokens is not None
        return random.integers(0, config.n_tokens, (rows, steps))
    return random.standard_normal((rows, config.channels, steps), dtype=np.float32)


def sequence_steps(config: ModelConfig, n_parameters: int, pooling: Pooling | None = None) -> int:
    """Steps of the longest sequence: more than the receptive field and two windows, if affordable."""
    network, layer = config.receptive_field + _PAST, config.layer_receptive_field + _PAST
    affordable = int(_WORK_WANTED / n_parameters)
    steps = network if network <= affordable else max(layer, min(network, affordable))
    if pooling is not None and pooling.settling_steps + _PAST <= _STEPS_ALLOWED:
        steps = max(steps, pooling.settling_steps + _PAST)
    return max(1, min(steps, int(_WORK_ALLOWED / n_parameters), _STEPS_ALLOWED))


@one_thread()
def prove(
    net: MultiresNet,
    bundle: Bundle,
    *,
    dataset: Dataset | None = None,
    module: OwnModule | None = None,
    progress: Progress = lambda _: None,
) -> tuple[Proof, Golden]:
    """Make every check on a bundle, in each of its precisions, and record golden inputs and outputs.

    ``module`` is the user's module in which the network was found.

    On sequences longer than the records that int8 was calibrated on, its graphs are compared with each
    other and not with the network: the ranges say nothing of those. Nor do they of larger inputs, so where
    the encoder is in int8, noise stays within its range.
    """
    return _Prover(net, bundle, dataset, module, progress).run()


def _encoder_range(bundle: Bundle) -> NDArray[np.float32] | None:
    """The largest magnitude of each channel (d_input,) that an int8 encoder reads; None if it is not int8."""
    quantization = bundle.manifest.quantization.get("int8")
    if quantization is None or quantization.tensors.get("encoder") != "int8":
        return None
    return CalibrationTable.read(bundle.path / CALIBRATION_FILE).tensors[ENCODER_INPUT].thresholds


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


class _Prover:
    def __init__(
        self,
        net: MultiresNet,
        bundle: Bundle,
        dataset: Dataset | None,
        module: OwnModule | None,
        progress: Progress,
    ) -> None:
        import torch

        self.torch = torch
        self.config = net.config
        self.net = net.double()
        self.bundle = bundle
        self.pooling = bundle.manifest.pooling
        self.dataset = dataset
        self.module = module
        self.progress = progress
        self.precision = "fp32"
        self.form = self.first_form = bundle.manifest.form
        self.random = np.random.default_rng(SEED)
        self._restarted: dict[tuple[int, int], NDArray[np.float64]] = {}  # by row and steps, for all backends
        count = sum(p.numel() for p in net.parameters())
        self.longest = sequence_steps(self.config, count, self.pooling)
        self.steps = self.longest  # for the precision that is being checked
        data = f"noise of unit variance (seed {SEED})"
        if self.config.encoder == "token":
            data = f"uniformly random tokens (seed {SEED})"
        self.encoder_range = _encoder_range(bundle)
        if self.encoder_range is not None:
            data += ", within the range of the int8 encoder"
        self.proof = Proof(data, self.longest, self.config, count, self.pooling, module=module is not None)

    def run(self) -> tuple[Proof, Golden]:
        if self.module is not None:
            self.proof.checks.append(self.module.check)
            self._own_module(self.module)
        inputs = self._noise(ROWS, self.steps)
        self.progress("parity: reference of every prefix")
        stepwise = self._stepwise(inputs)
        for form in self.bundle.manifest.by_form:
            self.form, self.bundle = form, self.bundle.in_form(form)
            for precision in self.bundle.manifest.graphs["full"]:
                self._check_precision(precision, inputs, stepwise)
        return self.proof, self._golden(inputs, stepwise)

    def _check_precision(self, precision: str, inputs: NDArray[Any], stepwise: NDArray[Any]) -> None:
        self.precision = precision
        self.steps = min(self.longest, self.bundle.manifest.calibrated_steps(precision) or self.longest)
        self._full_checks()
        x, y = inputs[..., : self.steps], stepwise[..., : self.steps]
        for backend in self._backends():
            self._every_prefix(backend, x[:1], y[:1])
            self._rows_of_their_own(backend, x, y)
            self._save_and_load(backend, x, y)
        self._copied(x, y)
        if precision in AGREEMENT:
            self._step_against_full(inputs)
        if self.dataset is not None:
            self._records(self.dataset)
        self.steps = self.longest

    def _backends(self) -> list[Backend]:
        # Backends with weights of their own do not depend on the form of the graphs.
        graphs_only = self.form != self.first_form
        backends = checked_backends(self.bundle, self.precision, graphs_only=graphs_only)
        return [backend for backend in backends if not backend.needs_gpu]

    def _stream(self, rows: int, backend: str | Backend) -> Stream:
        return self.bundle.stream(rows, backend=backend, precision=self.precision)

    def _check(self, name: str, graph: str, description: str) -> Check:
        # Each check draws by a seed of its own: neither forms nor precisions beside it change its inputs.
        self.random = np.random.default_rng([SEED, zlib.crc32(name.encode())])
        if self.precision != "fp32":
            name = f"{self.precision}: {name}"
        if self.form != self.first_form:
            name = f"{self.form}, {name}"
        self.progress(f"parity: {name}")
        check = Check(name, graph, description, self.precision)
        self.proof.checks.append(check)
        return check

    # The reference

    def _full(self, inputs: NDArray[Any], lengths: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        args = [] if lengths is None else [self.torch.from_numpy(lengths)]
        with self.torch.no_grad():
            y: NDArray[np.float64] = self.net(self._tensor(inputs), *args, pooling=self.pooling).numpy()
        return y

    def _terms(self, pooling: Pooling, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """The sum of magnitudes that the head adds up to each logit (batch, d_output)."""
        head = self.net.output_mapping
        with self.torch.no_grad():
            features = self.net.features(self._tensor(inputs))
            pooled = POOLING_REFERENCES[type(pooling)].whole(pooling, features, None)
            terms: NDArray[np.float64] = (pooled.abs() @ head.weight.abs().T + head.bias.abs()).numpy()
        return terms

    def _stepwise(self, inputs: NDArray[Any]) -> NDArray[np.float64]:
        with self.torch.no_grad():
            y: NDArray[np.float64] = self.net.stepwise(self._tensor(inputs), self.pooling).numpy()
        return y

    def _tensor(self, inputs: NDArray[Any]) -> Any:
        tensor = self.torch.from_numpy(np.ascontiguousarray(inputs))
        return tensor if self.config.encoder == "token" else tensor.double()

    def _noise(self, rows: int, steps: int) -> NDArray[Any]:
        x = noise(self.config, rows, steps, self.random)
        if self.encoder_range is None:
            return x
        clipped: NDArray[Any] = np.clip(x, -self.encoder_range[:, None], self.encoder_range[:, None])
        return clipped

    # The full graph, on one thread: the threads of a pool spin while they wait, also on a busy machine

    def _full_checks(self) -> None:
        full = self.bundle.full(provider="cpu", precision=self.precision, threads=1)
        shapes = [
            (1, 1, "a single step"),
            (ROWS, self.config.kernel_size - 1, "shorter than the filters"),
            (2, 37, "an odd length"),
            (1, self.steps, self._reach()),
        ]
        if LIMITS[self.precision].measure == "mean":
            # A mean needs more than a few values.
            shapes = [(32, 37, "an odd length"), (ROWS, self.steps, self._reach())]
        for rows, steps, what in shapes:
            name = f"full graph, {rows} x {steps}"
            check = self._check(name, "full", f"{_counted(rows, 'row')} of {_counted(steps, 'step')}: {what}")
            inputs = self._noise(rows, steps)
            check.compare(full(inputs), self._full(inputs))
        # The ranges of int8 come from data, and are not valid for a constant as large as noise.
        if self.pooling is not None and self.precision != "int8":
            steps = max(1, min(10_000, int(_WORK_WANTED / self.proof.n_parameters)))
            what = f"{_counted(steps, 'equal sample')}: pooling's rounding errors all go one way"
            check = self._check("full graph, constant input", "full", what)
            inputs = np.ascontiguousarray(np.repeat(self._noise(1, 1), steps, axis=-1))
            check.compare(full(inputs), self._full(inputs), terms=self._terms(self.pooling, inputs))
        if len(self.bundle.manifest.graph("full", self.precision).inputs) > 1:
            check = self._check("full graph, lengths", "full", "rows of different lengths")
            inputs = self._noise(5, 101)
            lengths = np.array([1, 2, 50, 100, 101], np.int64)
            check.compare(full(inputs, lengths), self._full(inputs, lengths))

    def _reach(self) -> str:
        if self.steps > self.config.receptive_field:
            return f"longer than the receptive field of {self.config.receptive_field}"
        if self.steps > self.config.layer_receptive_field:
            return f"longer than a layer's receptive field of {self.config.layer_receptive_field}"
        return f"shorter than a layer's receptive field of {self.config.layer_receptive_field}"

    # The step graph

    def _every_prefix(self, backend: Backend, inputs: NDArray[Any], stepwise: NDArray[Any]) -> None:
        description = f"1 stream, {_counted(self.steps, 'step')} in place: {self._reach()}"
        check = self._check(f"{backend.checked_as}, every prefix", "step", description)
        stream = self._stream(1, backend)
        check.compare(stream.run(inputs), stepwise, over_time=True)

    def _rows_of_their_own(self, backend: Backend, inputs: NDArray[Any], stepwise: NDArray[Any]) -> None:
        """Rows that restart at different times and then are at different positions."""
        restarts = {1: self.steps // 3, 2: 2 * self.steps // 3}
        description = ", ".join(f"row {row} restarted at step {t}" for row, t in restarts.items())
        check = self._check(f"{backend.checked_as}, rows restarted", "step", description)
        stream = self._stream(ROWS, backend)
        outputs, before = [], 0
        for row, t in sorted(restarts.items(), key=lambda item: item[1]):
            if t > before:
                outputs.append(stream.run(inputs[..., before:t]))
            stream.reset(rows=[row])
            before = t
        outputs.append(stream.run(inputs[..., before:]))
        y = np.concatenate(outputs, axis=-1)
        check.compare(y[0], stepwise[0], over_time=True)
        for row, t in restarts.items():
            if t:
                check.compare(y[row, :, :t], stepwise[row, :, :t], over_time=True)
            if (row, self.steps) not in self._restarted:
                self._restarted[row, self.steps] = self._stepwise(inputs[row : row + 1, ..., t:])
            restarted = self._restarted[row, self.steps]
            check.compare(y[row : row + 1, :, t:], restarted, start=t, over_time=True)

    def _save_and_load(self, backend: Backend, inputs: NDArray[Any], stepwise: NDArray[Any]) -> None:
        """Load the state, as bytes, into a stream of ONNX Runtime: the layouts are equal."""
        half = self.steps // 2
        rest = min(self.steps - half, 16 * _STEPS_COPIED)
        check = self._check(f"{backend.checked_as}, saved and loaded", "step", f"at step {half}, as bytes")
        first = self._stream(1, backend)
        if half:
            first.run(inputs[:1, ..., :half])
        saved = StreamState.from_bytes(first.save_state().to_bytes())
        second = self._stream(1, "onnxruntime")
        second.load_state(saved)
        y = second.run(inputs[:1, ..., half : half + rest])
        check.compare(y, stepwise[:1, :, half : half + rest], start=half, over_time=True)

    def _step_against_full(self, inputs: NDArray[Any]) -> None:
        """Compare the two graphs: with equal rounding they are closer to each other than to the reference."""
        longest = self.longest
        if self.pooling is not None and self.pooling.full_steps is not None:
            longest = min(longest, self.pooling.full_steps)  # the full graph pools over more than the window
        lengths = sorted({1, min(17, longest), min(400, longest), longest})
        what = f"{ROWS} rows, prefixes of {', '.join(map(str, lengths))} steps"
        check = self._check("step graph against full graph", "step", what)
        check.limit = AGREEMENT[self.precision]
        full = self.bundle.full(provider="cpu", precision=self.precision, threads=1)
        stream = self._stream(ROWS, "onnxruntime")
        samples = inputs[..., : lengths[-1]]
        if self.config.per_step:
            if self.config.shifts:  # step t takes the input of step t - 1
                fed = np.concatenate([np.zeros_like(samples[..., :1]), samples[..., :-1]], axis=-1)
            else:
                fed = samples
            check.compare(stream.run(fed), full(samples))
            return
        y = stream.run(samples)
        for steps in lengths:
            check.compare(y[..., steps - 1], full(np.ascontiguousarray(samples[..., :steps])))

    def _copied(self, inputs: NDArray[Any], stepwise: NDArray[Any]) -> None:
        """Plain ONNX Runtime, from the manifest alone: zeros in, outputs fed back."""
        steps = min(self.steps, _STEPS_COPIED)
        check = self._check("step graph, states copied", "step", f"{steps} steps, not in place")
        spec = self.bundle.manifest.graph("step", self.precision)
        session = open_session(self.bundle.path, spec, 1, "cpu")
        states = {state.input: np.zeros(concrete(state.shape, ROWS), state.dtype) for state in spec.states}
        names = [spec.outputs[0].name, *(state.output for state in spec.states)]
        for t in range(steps):
            feeds = {spec.inputs[0].name: np.ascontiguousarray(inputs[..., t]), **states}
            y, *new = session.run(names, feeds)
            states = dict(zip(states, new, strict=True))
            check.compare(y[..., None], stepwise[..., t : t + 1], start=t, over_time=True)

    # Real data

    def _records(self, dataset: Dataset) -> None:
        affordable = min(int(_WORK_ALLOWED / self.proof.n_parameters), _STEPS_ALLOWED * 4)
        steps = max(1, min(dataset.inputs.shape[-1], affordable // 4))
        inputs = dataset.inputs[: min(_RECORDS, max(1, affordable // steps))][..., :steps]
        lengths = None if dataset.lengths is None else np.minimum(dataset.lengths[: len(inputs)], steps)
        if self.precision == "fp32" and self.form == self.first_form:
            self.proof.data += f", and {_counted(len(inputs), 'record')} of {dataset.path.name}"
            if steps < dataset.inputs.shape[-1]:
                self.proof.data += f" (their first {steps:,} steps)"
        full = self.bundle.full(provider="cpu", precision=self.precision, threads=1)
        if len(self.bundle.manifest.graph("full", self.precision).inputs) == 1:
            lengths = None  # a graph without lengths pools over every step
        if dataset.outputs is not None and self.precision == "fp32" and self.form == self.first_form:
            self._own_outputs(dataset, lengths)
        check = self._check("full graph, real data", "full", _counted(len(inputs), "record"))
        for i in range(0, len(inputs), 16):
            some = inputs[i : i + 16]
            their = None if lengths is None else lengths[i : i + 16]
            check.compare(full(some, their), self._full(some, their))
        rows = inputs[: min(len(inputs), 8)]
        description = f"{_counted(len(rows), 'record')} of {_counted(rows.shape[-1], 'step')}, every prefix"
        stepwise = self._stepwise(rows)
        for backend in self._backends():
            check = self._check(f"{backend.checked_as}, real data", "step", description)
            check.compare(self._stream(len(rows), backend).run(rows), stepwise, over_time=True)

    def _own_outputs(self, dataset: Dataset, lengths: NDArray[np.int64] | None) -> None:
        """Compare with the outputs of the user's own network: does it compute what its tensors' names say?"""
        outputs = dataset.outputs
        assert outputs is not None
        self.proof.outputs = dataset.path.name
        time = dataset.inputs.shape[-1]
        rows = min(_RECORDS, len(dataset.inputs), max(1, int(_WORK_ALLOWED / self.proof.n_parameters / time)))
        check = self._check("full graph, your outputs", "full", _counted(rows, "whole record"))
        full = self.bundle.full(provider="cpu", threads=1)
        for i in range(rows):
            their = None if lengths is None or dataset.lengths is None else dataset.lengths[i : i + 1]
            check.compare(full(dataset.inputs[i : i + 1], their), outputs[i : i + 1])

    def _own_module(self, module: OwnModule) -> None:
        """Compare the full graph with the user's module itself."""
        check = self._check("full graph, your module", "full", "rows of several lengths")
        full = self.bundle.full(provider="cpu", threads=1)
        for rows, steps in ((1, 1), (2, 37), (1, self.steps)):
            inputs = noise(self.config, rows, steps, self.random)
            check.compare(full(inputs), module.outputs(inputs))

    def _golden(self, inputs: NDArray[Any], stepwise: NDArray[Any]) -> Golden:
        longest = max(self.config.layer_receptive_field, self.pooling.settling_steps if self.pooling else 0)
        steps = min(self.steps, longest + _PAST)
        inputs = np.ascontiguousarray(inputs[:2, ..., :steps])
        return Golden(inputs, stepwise[:2, :, :steps], self._full(inputs))
