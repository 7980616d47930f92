"""Compare every output of every step, and every state at the end, with the recorded reference."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from multires_edge.format.fields import printable

from .agreement import Skipped, agreement
from .description import Case, Limit, SequenceCase
from .files import KitError
from .kit import Graph, Kit, assemble
from .report import Check, Place
from .runners import Backend, FullRunner, StepRunner


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
    """Compare (rows, ...) with a reference; the last axis is time if ``over_time``. Raises KitError.

    The measure "max" is the largest |y - reference| / max(floor, |reference|). The measure "mean" is
    sum |y - reference| / sum |reference| of the worst row. A value that is not finite has an infinite error.
    ``at`` locates the worst value; over time, that of the first step above the limit of "max". ``step`` is
    that of values without a time axis.
    """
    if y.shape != reference.shape:
        raise KitError(f"an output has shape {y.shape}, expected {reference.shape} as in the reference")
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


_EXACT = Limit(0.0, "max")


class Checker:
    """Runs every check of a kit on one backend. The report takes ``checks`` and ``notes``."""

    def __init__(self, kit: Kit, backend: Backend) -> None:
        self._kit, self._backend = kit, backend
        self.checks: list[Check] = []
        self.notes: list[str] = []

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def run_files(self) -> None:
        """Record a failed check for each changed graph. The other checks show the effect of the change."""
        for name, message in self._kit.changed.items():
            self._add(Check("files", name, passed=False, message=message))
        if not self._kit.changed:
            count = len(self._kit.description.files)
            self._add(Check("files", f"all {count}", passed=True, message="are unchanged"))

    def run(self, precision: str) -> None:
        """Check the graphs of a precision."""
        step, full = (Graph(self._kit, kind, precision) for kind in ("step", "full"))
        cases = self._kit.description.cases[precision]
        for i, case in enumerate(cases):
            with contextlib.closing(self._backend.step_runner(step, len(case.streams))) as runner:
                self._roll(step, runner, i, case, f"{precision} step graph, {case.name}")
                if runner.capture():
                    self._roll(step, runner, i, case, f"{precision} step graph by CUDA graph, {case.name}")
                if i == len(cases) - 1:
                    self._agree(step, runner, case)
        runner_of_all, whole = self._backend.full_runner(full), self._kit.description.full[precision]
        for sequence in whole:
            self._whole(full, runner_of_all, sequence)
        if not whole:  # the window is shorter than every sequence whose ranges were measured
            self._note(f"{precision} full graph: skipped, the kit has no reference for its sequence lengths")

    def _add(self, check: Check, quiet: bool = False) -> None:
        self.checks.append(check)
        if not (quiet and check.passed):
            print(check.line(), flush=True)

    def _roll(self, graph: Graph, runner: StepRunner, number: int, case: Case, name: str) -> None:
        """Step through recorded streams. Compare every output, and every state at the end."""
        schedule, steps = case.streams, case.steps
        x = assemble(self._kit.inputs, schedule, steps)
        restarts: dict[int, list[int]] = {}
        for row, parts in enumerate(schedule):
            for start, _ in parts[1:]:
                restarts.setdefault(start, []).append(row)
        runner.reset()
        outputs = []
        for t in range(steps):
            if t in restarts:
                runner.reset(restarts[t])
            outputs.append(runner.step(np.ascontiguousarray(x[..., t])))
        if case.outputs:
            y, reference = np.stack(outputs, axis=-1), assemble(self._kit.stepwise, schedule, steps)
            every = f"{name}, every step"
            self._add(compare(every, graph.output.name, y, reference, graph.limit, over_time=True))
        states, passed = runner.read(), []
        # Causes come before effects: the position, then the queues, then the sums.
        for state in sorted(graph.states, key=lambda state: (state.dtype != "int64", state.scale is None)):
            tensor = state.input
            key = f"{graph.precision}/{number}/{tensor}"
            if key not in self._kit.states:
                raise KitError(f"{self._kit.folder / 'states.npz'}: has no {key}; unpack the kit again")
            # The int64 state is the position, an exact count.
            limit = _EXACT if state.dtype == "int64" else graph.limit
            reference, floor = self._kit.states[key], float(case.sums.get(tensor, 1))
            if limit.measure == "max":
                # Each value of a state sums activations of any size, and their rounding errors.
                floor = max(floor, float(np.abs(reference).max()))
            at_end = f"{name}, state at the end"
            check = compare(at_end, tensor, states[tensor], reference, limit, floor=floor, step=steps - 1)
            passed.append(check.passed)
            self._add(check, quiet=True)
        self._summary(name, passed, "states at the end")

    def _whole(self, graph: Graph, runner: FullRunner, case: SequenceCase) -> None:
        """Compare the full graph on whole sequences."""
        steps = case.steps
        x = np.ascontiguousarray(self._kit.inputs[..., :steps])
        feeds = {graph.input.name: x}
        if len(graph.inputs) > 1:
            feeds["lengths"] = np.full(len(x), steps, np.int64)
        y = runner.run(feeds)
        over_time = "time" in graph.output.shape
        if over_time:
            reference = self._kit.full[..., :steps]
        else:
            reference = self._kit.full if case.reference == "full" else self._kit.stepwise[..., steps - 1]
        name = f"{graph.precision} full graph, {len(x)} rows of {steps} steps"
        limit, last = graph.limit, steps - 1
        self._add(compare(name, graph.output.name, y, reference, limit, over_time=over_time, step=last))

    def _agree(self, graph: Graph, runner: StepRunner, case: Case) -> None:
        """Compare one more step with ONNX Runtime, from the states at the end of a case."""
        name = f"{graph.precision} step graph, one step against ONNX Runtime by polygraphy"
        try:
            checks = agreement(name, graph, runner, self._kit.inputs, case.sums)
        except Skipped as reason:
            self._note(f"{name}: skipped, {reason}")
            return
        for check in checks:
            self._add(check, quiet=True)
        self._summary(name, [check.passed for check in checks], "tensors agree")

    def _note(self, text: str) -> None:
        text = printable(text)
        print(f"-[ ] {text}")
        self.notes.append(text)

    def _summary(self, name: str, passed: Sequence[bool], what: str) -> None:
        print(f"-[{'✓' if all(passed) else 'x'}] {name}: {sum(passed)} of {len(passed)} {what}", flush=True)
