"""Compare every output of every step, and every state at the end, with the recorded reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError, MultiresError, OverflowedError
from multires_edge.base.names import printable
from multires_edge.format.comparison import LIMITS, Limit
from multires_edge.format.specs import GraphSpec
from multires_edge.runtime.full import FullGraph
from multires_edge.runtime.kit.cases import assemble, roll
from multires_edge.runtime.kit.description import KIT, Case, SequenceCase
from multires_edge.runtime.kit.opened import Kit
from multires_edge.runtime.kit.report import Check, Place
from multires_edge.runtime.stream import Stream


def compare(
    name: str,
    tensor: str,
    y: NDArray[Any],
    reference: NDArray[Any],
    limit: Limit,
    *,
    floor: float = 1,
    over_time: bool = False,
    step: int | None = None,
) -> Check:
    """Compare (rows, ...) with a reference; the last axis is time if ``over_time``. Raises BundleError.

    The measure "max" is the largest |y - reference| / max(floor, |reference|). The measure "mean" is
    sum |y - reference| / sum |reference| of the worst row. A value that is not finite has an infinite error.
    ``at`` locates the worst value; over time, that of the first step above the limit of "max". ``step`` is
    that of values without a time axis.
    """
    if y.shape != reference.shape:
        raise BundleError(f"an output has shape {y.shape}, expected {reference.shape} as in the reference")
    expected, size = reference.astype(np.float64), np.abs(reference.astype(np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(y.astype(np.float64) - expected)
        difference = np.where(np.isfinite(difference), difference, np.inf)
        each = difference / np.maximum(size, floor)
        if limit.measure == "max":
            error, off = float(each.max()), each > limit.value
        else:
            rows = tuple(range(1, y.ndim))
            # A floor other than 1 is the scale of a sum; the sum itself may be close to 0.
            total = (size if floor == 1 else np.maximum(size, floor)).sum(rows)
            by_row = difference.sum(rows) / np.where(total > 0, total, 1)
            error = float(by_row.max())
            off = np.zeros(y.shape, bool)
            off[by_row > limit.value] = True
    if over_time and limit.measure == "max" and off.any():
        first = int(np.argmax(off.reshape(-1, off.shape[-1]).any(0)))
        masked = np.where(np.arange(y.shape[-1]) == first, each, -1)
    else:
        masked = np.where(off, each, -1) if off.any() else each
    where = [int(i) for i in np.unravel_index(int(masked.argmax()), masked.shape)]
    value, right = y[tuple(where)].item(), reference[tuple(where)].item()
    at = Place(
        row=where[0],
        index=tuple(where[1:-1] if over_time else where[1:]),
        value=value if np.isfinite(value) else repr(value),  # JSON has neither NaN nor infinity
        reference=right,
        step=where[-1] if over_time else step,
    )
    return Check(
        name=name,
        tensor=tensor,
        passed=y.size > 0 and error <= limit.value,
        error=error if np.isfinite(error) else None,
        measure=limit.measure,
        limit=limit.value,
        values=int(y.size),
        at=at,
    )


class Checker:
    """Runs every check of a kit by one backend. The report takes ``checks`` and ``notes``.

    ``way`` has the options of the bundle's streams and full graph that select the backend.
    """

    def __init__(self, kit: Kit, way: dict[str, Any]) -> None:
        self._kit, self._way, self._bundle = kit, way, kit.bundle
        self.checks: list[Check] = []
        self.notes: list[str] = []

    def run_files(self) -> None:
        """Record a failed check for each changed graph. The other checks show the effect of the change."""
        for name, message in self._kit.changed.items():
            self._add(Check("files", name, passed=False, message=message))
        if not self._kit.changed:
            count = len(self._kit.description.files)
            self._add(Check("files", f"all {count}", passed=True, message="are unchanged"))

    def run(self, precision: str, what: str) -> None:
        """Check a precision. ``what`` names what runs its streams, such as "taps engine"."""
        kit, spec, limit = self._kit, self._bundle.manifest.graph("step", precision), LIMITS[precision]
        golden, output = kit.golden, spec.outputs[0].name
        for number, case in enumerate(kit.description.cases[precision]):
            stream = self._bundle.stream(len(case.streams), precision=precision, **self._way)
            key = f"{precision}/{number}/"
            states = {k.removeprefix(key): v for k, v in kit.states.items() if k.startswith(key)}
            reference = assemble(golden.stepwise, case.streams, case.steps)
            for in_chunks in (False, True):
                name = f"{precision} {what}, {case.name}{', in chunks' if in_chunks else ''}"
                run = partial(roll, stream, case, golden.inputs, in_chunks=in_chunks)
                if (y := self._finite(name, output, run)) is None:
                    continue
                if case.outputs:
                    self._add(compare(f"{name}, every step", output, y, reference, limit, over_time=True))
                self._states(f"{name}, state at the end", stream, states, spec, case, limit, case.steps - 1)
        self._agree(f"{precision} {what}, one step against ONNX Runtime on the CPU", stream, precision, case)
        sequences = kit.description.full[precision]
        full = self._bundle.full(precision=precision, **self._way)
        for sequence in sequences:
            self._whole(full, precision, sequence)
        if not sequences:  # the window is shorter than every sequence whose ranges were measured
            self._note(f"{precision} full graph: skipped, the kit has no reference for its sequence lengths")

    def _finite(self, name: str, output: str, run: Callable[[], NDArray[Any]]) -> NDArray[Any] | None:
        """What ``run`` returns. None, and a failed check, if it is not finite."""
        try:
            return run()
        except OverflowedError as error:
            message = f"is not finite: {printable(str(error))}"
            self._add(Check(name, output, passed=False, message=message))
            return None

    def _states(
        self,
        name: str,
        stream: Stream,
        reference: dict[str, NDArray[Any]],
        spec: GraphSpec,
        case: Case,
        limit: Limit,
        step: int,
    ) -> None:
        """Compare every state of a stream after a step."""
        states, passed = stream.save_state().arrays, []
        # Causes come before effects: the position, then the queues, then the sums.
        for state in sorted(spec.states, key=lambda state: (state.dtype != "int64", state.scale is None)):
            tensor = state.input
            if tensor not in reference:
                raise BundleError(f"{self._kit.folder}: has no {tensor} of {name}; {KIT.remedy}")
            floor = float(case.sums.get(tensor, 1))
            if limit.measure == "max":
                # Each value of a state sums activations of any size, and their rounding errors.
                floor = max(floor, float(np.abs(reference[tensor]).max()))
            # The int64 state is the position, an exact count.
            within = Limit(0.0) if state.dtype == "int64" else limit
            check = compare(name, tensor, states[tensor], reference[tensor], within, floor=floor, step=step)
            passed.append(check.passed)
            self._add(check, quiet=True)
        mark = "✓" if all(passed) else "x"
        print(f"-[{mark}] {name}: {sum(passed)} of {len(passed)} states", flush=True)

    def _whole(self, full: FullGraph, precision: str, case: SequenceCase) -> None:
        """Compare the full graph on whole sequences."""
        golden, steps = self._kit.golden, case.steps
        output = self._bundle.manifest.graph("full", precision).outputs[0]
        name = f"{precision} full graph, {len(golden.inputs)} rows of {steps} steps"
        x = np.ascontiguousarray(golden.inputs[..., :steps])
        if (y := self._finite(name, output.name, partial(full, x))) is None:
            return
        reference = golden.full if case.reference == "full" else golden.stepwise[..., steps - 1]
        assert reference is not None  # that of a file is known
        over_time = "time" in output.shape
        if over_time:
            reference = reference[..., :steps]
        limit, last = LIMITS[precision], steps - 1
        self._add(compare(name, output.name, y, reference, limit, over_time=over_time, step=last))

    def _agree(self, name: str, stream: Stream, precision: str, case: Case) -> None:
        """Compare one more step with ONNX Runtime on the CPU, from the same states."""
        if self._way.get("provider") == "cpu":
            return
        rows = np.arange(stream.batch) % len(self._kit.golden.inputs)
        x = np.ascontiguousarray(self._kit.golden.inputs[rows][..., 0])
        try:
            other = self._bundle.stream(stream.batch, backend="onnxruntime", precision=precision)
            other.load_state(stream.save_state())
            mine, theirs = stream.step(x), other.step(x)
        except MultiresError as error:
            self._note(f"{name}: skipped, {error}")
            return
        spec, limit = self._bundle.manifest.graph("step", precision), LIMITS[precision]
        self._add(compare(name, spec.outputs[0].name, mine, theirs, limit, step=case.steps))
        self._states(f"{name}, state", stream, other.save_state().arrays, spec, case, limit, case.steps)

    def _add(self, check: Check, quiet: bool = False) -> None:
        self.checks.append(check)
        if not (quiet and check.passed):
            print(check.line(), flush=True)

    def _note(self, text: str) -> None:
        text = printable(text)
        print(f"-[ ] {text}")
        self.notes.append(text)
