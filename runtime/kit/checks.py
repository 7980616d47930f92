"""Compare every output of every step, and every state at the end, with the recorded reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError, MultiresError, OverflowedError
from multires_edge.format.comparison import LIMITS, Limit
from multires_edge.format.fields import printable
from multires_edge.runtime.full import FullGraph
from multires_edge.runtime.kit.cases import assemble, roll
from multires_edge.runtime.kit.description import Case, SequenceCase
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


_EXACT = Limit(0.0, "max")


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
        for number, case in enumerate(self._kit.description.cases[precision]):
            name = f"{precision} {what}, {case.name}"
            stream = self._bundle.stream(len(case.streams), precision=precision, **self._way)
            key = f"{precision}/{number}/"
            states = {k.removeprefix(key): v for k, v in self._kit.states.items() if k.startswith(key)}
            self._roll(stream, precision, case, name, states, in_chunks=False)
            self._roll(stream, precision, case, f"{name}, in chunks", states, in_chunks=True)
        self._agree(stream, precision, case, f"{precision} {what}, one step against ONNX Runtime on the CPU")
        sequences = self._kit.description.full[precision]
        full = self._bundle.full(precision=precision, **self._way)
        for sequence in sequences:
            self._whole(full, precision, sequence)
        if not sequences:  # the window is shorter than every sequence whose ranges were measured
            self._note(f"{precision} full graph: skipped, the kit has no reference for its sequence lengths")

    def _roll(
        self,
        stream: Stream,
        precision: str,
        case: Case,
        name: str,
        states: dict[str, NDArray[Any]],
        *,
        in_chunks: bool,
    ) -> None:
        """Run the streams of a case. Compare every output, and every state at the end."""
        try:
            y = roll(stream, case, self._kit.golden.inputs, in_chunks=in_chunks)
        except OverflowedError as error:
            self._not_finite(name, precision, "step", error)
            return
        if case.outputs:
            reference = assemble(self._kit.golden.stepwise, case.streams, case.steps)
            self._compare(f"{name}, every step", precision, "step", y, reference, over_time=True)
        self._compare_states(stream, precision, case, states, name, "state at the end", case.steps - 1)

    def _compare_states(
        self,
        stream: Stream,
        precision: str,
        case: Case,
        reference: dict[str, NDArray[Any]],
        name: str,
        which: str,
        step: int,
    ) -> None:
        states, passed = stream.save_state().arrays, []
        specs = self._bundle.manifest.graph("step", precision).states
        # Causes come before effects: the position, then the queues, then the sums.
        for spec in sorted(specs, key=lambda spec: (spec.dtype != "int64", spec.scale is None)):
            tensor = spec.input
            if tensor not in reference:
                raise BundleError(f"{self._kit.folder}: has no {tensor} of {name}; unpack the kit again")
            # The int64 state is the position, an exact count.
            limit = _EXACT if spec.dtype == "int64" else LIMITS[precision]
            floor = float(case.sums.get(tensor, 1))
            if limit.measure == "max":
                # Each value of a state sums activations of any size, and their rounding errors.
                floor = max(floor, float(np.abs(reference[tensor]).max()))
            check = compare(
                f"{name}, {which}", tensor, states[tensor], reference[tensor], limit, floor=floor, step=step
            )
            passed.append(check.passed)
            self._add(check, quiet=True)
        mark = "✓" if all(passed) else "x"
        print(f"-[{mark}] {name}: {sum(passed)} of {len(passed)} states {which[6:] or 'agree'}", flush=True)

    def _whole(self, full: FullGraph, precision: str, case: SequenceCase) -> None:
        """Compare the full graph on whole sequences."""
        golden, steps = self._kit.golden, case.steps
        name = f"{precision} full graph, {len(golden.inputs)} rows of {steps} steps"
        try:
            y = full(np.ascontiguousarray(golden.inputs[..., :steps]))
        except OverflowedError as error:
            self._not_finite(name, precision, "full", error)
            return
        reference = golden.full if case.reference == "full" else golden.stepwise[..., steps - 1]
        assert reference is not None  # that of a file is known
        over_time = "time" in self._bundle.manifest.graph("full", precision).outputs[0].shape
        if over_time:
            reference = reference[..., :steps]
        self._compare(name, precision, "full", y, reference, over_time=over_time, step=steps - 1)

    def _agree(self, stream: Stream, precision: str, case: Case, name: str) -> None:
        """Compare one more step with ONNX Runtime, from the same states."""
        if self._way["backend"] == "onnxruntime":
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
        self._compare(name, precision, "step", mine, theirs, step=case.steps)
        self._compare_states(stream, precision, case, other.save_state().arrays, name, "state", case.steps)

    def _compare(
        self,
        name: str,
        precision: str,
        kind: str,
        y: NDArray[Any],
        reference: NDArray[Any],
        *,
        over_time: bool = False,
        step: int | None = None,
    ) -> None:
        tensor = self._bundle.manifest.graph(kind, precision).outputs[0].name
        limit = LIMITS[precision]
        self._add(compare(name, tensor, y, reference, limit, over_time=over_time, step=step))

    def _not_finite(self, name: str, precision: str, kind: str, error: OverflowedError) -> None:
        tensor = self._bundle.manifest.graph(kind, precision).outputs[0].name
        self._add(Check(name, tensor, passed=False, message=f"is not finite: {printable(str(error))}"))

    def _add(self, check: Check, quiet: bool = False) -> None:
        self.checks.append(check)
        if not (quiet and check.passed):
            print(check.line(), flush=True)

    def _note(self, text: str) -> None:
        text = printable(text)
        print(f"-[ ] {text}")
        self.notes.append(text)
