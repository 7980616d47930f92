"""Compare every output of every step, and every state at the end, with the recorded reference."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from .agreement import Skipped, agreement
from .files import KitError
from .kit import Graph, Kit, assemble
from .runners import Backend, FullRunner, StepRunner


def compare(
    y: NDArray[Any], reference: NDArray[Any], limit: dict[str, Any], *, floor: float, over_time: bool
) -> dict[str, Any]:
    """Compare (rows, ...) with a reference; the last axis is time if ``over_time``. Raises KitError.

    The measure "max" is the largest |y - reference| / max(floor, |reference|). The measure "mean" is
    sum |y - reference| / sum |reference| of the worst row. A value that is not finite has an infinite error.
    ``at`` locates the worst value; over time, that of the first step above the limit of "max".
    """
    if y.shape != reference.shape:
        raise KitError(f"an output has shape {y.shape}, expected {reference.shape} as in the reference")
    expected, size = reference.astype(np.float64), np.abs(reference.astype(np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(y.astype(np.float64) - expected)
        difference = np.where(np.isfinite(difference), difference, np.inf)
        each = difference / np.maximum(size, floor)
        if limit["measure"] == "max":
            error, off = float(each.max()), each > limit["value"]
        else:
            rows = tuple(range(1, y.ndim))
            # A floor other than 1 is the scale of a sum; the sum itself may be close to 0.
            total = (size if floor == 1 else np.maximum(size, floor)).sum(rows)
            by_row = difference.sum(rows) / np.where(total > 0, total, 1)
            error = float(by_row.max())
            off = np.zeros(y.shape, bool)
            off[by_row > limit["value"]] = True
    if over_time and limit["measure"] == "max" and off.any():
        step = int(np.argmax(off.reshape(-1, off.shape[-1]).any(0)))
        masked = np.where(np.arange(y.shape[-1]) == step, each, -1)
    else:
        masked = np.where(off, each, -1) if off.any() else each
    where = [int(i) for i in np.unravel_index(int(masked.argmax()), masked.shape)]
    at: dict[str, Any] = {"row": where[0], "index": where[1:-1] if over_time else where[1:]}
    if over_time:
        at["step"] = where[-1]
    # JSON has neither NaN nor infinity.
    value, right = y[tuple(where)].item(), reference[tuple(where)].item()
    at["value"], at["reference"] = value if np.isfinite(value) else repr(value), right
    return {
        "passed": y.size > 0 and error <= limit["value"],
        "error": error if np.isfinite(error) else None,
        "measure": limit["measure"],
        "limit": limit["value"],
        "values": int(y.size),
        "at": at,
    }


def line(check: dict[str, Any]) -> str:
    """One line of text about a check. A failed check names the tensor, step and row."""
    head = f"-[{'✓' if check['passed'] else 'x'}] {check['name']}: {check['tensor']}"
    if "message" in check:
        return f"{head} {check['message']}"
    error = "not finite" if check["error"] is None else f"{check['measure']} error {check['error']:.1e}"
    tail = f"{error} (limit {check['limit']:.0e})"
    if check["passed"]:
        return f"{head}, {tail}"
    at = check["at"]
    if at is None:
        return f"{head} is off, {tail}"
    place = f"step {at['step']}, row {at['row']}"
    return f"{head} is off at {place}, {at['index']}: {at['value']}, expected {at['reference']:.8g}, {tail}"


_EXACT = {"value": 0.0, "measure": "max"}


class Checker:
    """Runs every check of a kit on one backend. The report takes ``checks`` and ``notes``."""

    def __init__(self, kit: Kit, backend: Backend) -> None:
        self._kit, self._backend = kit, backend
        self.checks: list[dict[str, Any]] = []
        self.notes: list[str] = []

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check["passed"] for check in self.checks)

    def run_files(self) -> None:
        """Record a failed check for each changed graph. The other checks show the effect of the change."""
        for name, message in self._kit.changed.items():
            self._add("files", name, {"passed": False, "message": message})
        if not self._kit.changed:
            count = len(self._kit.entry["files"])
            self._add("files", f"all {count}", {"passed": True, "message": "are unchanged"})

    def run(self, precision: str) -> None:
        """Check the graphs of a precision."""
        step, full = (Graph(self._kit, kind, precision) for kind in ("step", "full"))
        for i, case in enumerate(self._kit.entry["cases"][precision]):
            with contextlib.closing(self._backend.step_runner(step, len(case["streams"]))) as runner:
                self._roll(step, runner, i, case, f"{precision} step graph, {case['name']}")
                if runner.capture():
                    self._roll(step, runner, i, case, f"{precision} step graph by CUDA graph, {case['name']}")
                if i == len(self._kit.entry["cases"][precision]) - 1:
                    self._agree(step, runner)
        runner_of_all, whole = self._backend.full_runner(full), self._kit.entry["full"][precision]
        for case in whole:
            self._whole(full, runner_of_all, case)
        if not whole:  # the window is shorter than every sequence whose ranges were measured
            self._note(f"{precision} full graph: skipped, the kit has no reference for its sequence lengths")

    def _add(self, name: str, tensor: str, result: dict[str, Any], quiet: bool = False) -> None:
        check = {"name": name, "tensor": tensor, **result}
        self.checks.append(check)
        if not (quiet and check["passed"]):
            print(line(check), flush=True)

    def _roll(self, graph: Graph, runner: StepRunner, number: int, case: dict[str, Any], name: str) -> None:
        """Step through recorded streams. Compare every output, and every state at the end."""
        schedule, steps = case["streams"], case["steps"]
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
        if case["outputs"]:
            y, reference = np.stack(outputs, axis=-1), assemble(self._kit.stepwise, schedule, steps)
            result = compare(y, reference, graph.limit, floor=1, over_time=True)
            self._add(f"{name}, every step", graph.output["name"], result)
        states, passed = runner.read(), []
        # Causes come before effects: the position, then the queues, then the sums.
        for state in sorted(
            graph.states, key=lambda state: (state["dtype"] != "int64", "scale" not in state)
        ):
            tensor = state["input"]
            key = f"{graph.precision}/{number}/{tensor}"
            if key not in self._kit.states:
                raise KitError(f"{self._kit.folder / 'states.npz'}: has no {key}; unpack the kit again")
            # The int64 state is the position, an exact count.
            limit = _EXACT if state["dtype"] == "int64" else graph.limit
            reference, floor = self._kit.states[key], float(case["sums"].get(tensor, 1))
            if limit["measure"] == "max":
                # Each value of a state sums activations of any size, and their rounding errors.
                floor = max(floor, float(np.abs(reference).max()))
            result = compare(states[tensor], reference, limit, floor=floor, over_time=False)
            result["at"]["step"] = steps - 1
            passed.append(result["passed"])
            self._add(f"{name}, state at the end", tensor, result, quiet=True)
        self._summary(name, passed, "states at the end")

    def _whole(self, graph: Graph, runner: FullRunner, case: dict[str, Any]) -> None:
        """Compare the full graph on whole sequences."""
        steps = case["steps"]
        x = np.ascontiguousarray(self._kit.inputs[..., :steps])
        feeds = {graph.input["name"]: x}
        if len(graph.inputs) > 1:
            feeds["lengths"] = np.full(len(x), steps, np.int64)
        y = runner.run(feeds)
        over_time = "time" in graph.output["shape"]
        if over_time:
            reference = self._kit.full[..., :steps]
        else:
            reference = self._kit.full if case["reference"] == "full" else self._kit.stepwise[..., steps - 1]
        result = compare(y, reference, graph.limit, floor=1, over_time=over_time)
        result["at"].setdefault("step", steps - 1)
        name = f"{graph.precision} full graph, {len(x)} rows of {steps} steps"
        self._add(name, graph.output["name"], result)

    def _agree(self, graph: Graph, runner: StepRunner) -> None:
        """Compare one more step with ONNX Runtime, from the states at the end of the last case."""
        name = f"{graph.precision} step graph, one step against ONNX Runtime by polygraphy"
        sums = self._kit.entry["cases"][graph.precision][-1]["sums"]
        try:
            results = agreement(graph, runner, self._kit.inputs, sums)
        except Skipped as reason:
            self._note(f"{name}: skipped, {reason}")
            return
        for tensor, result in results.items():
            self._add(name, tensor, result, quiet=True)
        self._summary(name, [result["passed"] for result in results.values()], "tensors agree")

    def _note(self, text: str) -> None:
        print(f"-[ ] {text}")
        self.notes.append(text)

    def _summary(self, name: str, passed: Sequence[bool], what: str) -> None:
        print(f"-[{'✓' if all(passed) else 'x'}] {name}: {sum(passed)} of {len(passed)} {what}", flush=True)
