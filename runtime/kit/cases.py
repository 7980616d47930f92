"""The cases that a kit checks: streams assembled from recorded streams, and their states at the end.

The reference of every output is the bundle's ``golden.npz``, computed by PyTorch in float64. It covers
restarted rows too: a restart repeats a recorded stream from its beginning. The native engine computes the
reference states; its outputs must first agree with the same ``golden.npz``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError
from multires_edge.format.comparison import Check, Limit
from multires_edge.format.golden import Golden
from multires_edge.format.pooling import Pooling
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.kit.description import Case, SequenceCase, Streams
from multires_edge.runtime.stream import Stream

# Two steps read only taps of delay 1. If one state is not fed back, only that state is wrong after them.
# Exceptions: the first queue and the position also disturb other states, but are compared first.
_FIRST_STEPS = 2
_ODD_LENGTH = 37


def stream_cases(
    rows: int, steps: int, pooling: Pooling | None, sums: Sequence[str], limit: Limit
) -> tuple[Case, ...]:
    """The cases for ``rows`` recorded streams of ``steps`` steps. ``sums`` are states that sum over steps.

    Outputs are not compared by a mean error over two steps, which is not meaningful.
    """
    first = min(_FIRST_STEPS, steps)
    other = 1 % rows
    cases: list[tuple[str, int, Streams]] = [
        (f"first {first} steps", first, tuple(((0, row),) for row in range(rows))),
        ("one whole stream", steps, (((0, 0),),)),
    ]
    early, late = steps // 3, 2 * steps // 3
    if 0 < early < late:
        restarted = (((0, 0),), ((0, other), (early, 0)), ((0, 0), (late, other)))
        cases.append((f"rows restarted at steps {early} and {late}", steps, restarted))
    return tuple(
        Case(
            name,
            length,
            streams,
            sums=dict.fromkeys(sums, length if pooling is None else pooling.seen(length)),
            outputs=limit.measure == "max" or length > _FIRST_STEPS,
        )
        for name, length, streams in cases
    )


def sequence_cases(
    golden: Golden, steps: int, pooling: Pooling | None, *, per_step: bool
) -> tuple[SequenceCase, ...]:
    """The sequence lengths to compare the full graph at, each with the recorded outputs to use.

    ``per_step`` says whether it has an output at every step. A module of the user's own without that pools
    over everything, whatever its pooling is.
    """
    cases = []
    for length in sorted({min(_ODD_LENGTH, steps), steps}):
        if golden.full is not None and (per_step or length == golden.inputs.shape[-1]):
            cases.append(SequenceCase(length, "full"))
        elif pooling is None or pooling.equals_full(length):
            cases.append(SequenceCase(length, "stepwise"))
    return tuple(cases)


def assemble(recorded: NDArray[Any], schedule: Sequence[Sequence[Sequence[int]]], steps: int) -> NDArray[Any]:
    """The streams (batch, ..., steps) of a case from recorded streams (rows, ..., time)."""
    streams = np.empty((len(schedule), *recorded.shape[1:-1], steps), recorded.dtype)
    for stream, parts in zip(streams, schedule, strict=True):
        for (start, row), (stop, _) in pairwise([*parts, (steps, 0)]):
            stream[..., start:stop] = recorded[row, ..., : stop - start]
    return streams


def roll(stream: Stream, case: Case, recorded: NDArray[Any], *, in_chunks: bool) -> NDArray[Any]:
    """Run the streams of a case, step by step or in chunks. Returns the outputs (batch, d_output, steps)."""
    x = assemble(recorded, case.streams, case.steps)
    restarts: dict[int, list[int]] = {0: list(range(len(case.streams))), case.steps: []}
    for row, parts in enumerate(case.streams):
        for start, _ in parts[1:]:
            restarts.setdefault(start, []).append(row)
    outputs = []
    for start, stop in pairwise(sorted(restarts)):
        stream.reset(restarts[start])
        if in_chunks:
            outputs.append(stream.run(x[..., start:stop]))
        else:
            outputs += [
                stream.step(np.ascontiguousarray(x[..., t]))[..., np.newaxis] for t in range(start, stop)
            ]
    return np.concatenate(outputs, axis=-1)


def reference_states(bundle: Bundle, golden: Golden, precision: str, case: Case) -> dict[str, NDArray[Any]]:
    """The states at the end of a case, by name. Raises BundleError if the outputs on the way are wrong."""
    stream = bundle.stream(len(case.streams), precision=precision)
    outputs = roll(stream, case, golden.inputs, in_chunks=True)
    check = Check(f"{precision}: {case.name}", "step", "", precision)
    check.compare(outputs, assemble(golden.stepwise, case.streams, case.steps), over_time=True)
    if case.outputs and not check.passed:
        raise BundleError(
            f"{bundle.path}: fails its own reference on this machine ({check.line()[5:]}); "
            "run multires-edge verify"
        )
    return stream.save_state().arrays
