"""What a kit checks: recorded streams put together in several ways, and the states that they end with.

The reference of every output is the bundle's ``golden.npz``, PyTorch's in float64. Restarted rows need
no more: from a restart on, a stream is a recorded one from its beginning. The reference of the states is
the native engine, after what it put out on the way was held against the same ``golden.npz``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError
from multires_edge.format.comparison import LIMITS, Check, Limit
from multires_edge.format.golden import Golden
from multires_edge.format.pooling import window_of
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.kit.device.kit import assemble

# Only taps of delay 1 are read within two steps. So a state that is not fed back is the only one that is
# off after them, but for the first queue and the position, which come first.
_FIRST_STEPS = 2
_ODD_LENGTH = 37


@dataclass(frozen=True)
class Case:
    """Streams to roll: ``streams`` has, for each row of the batch, (step, recorded row) of its restarts."""

    name: str
    steps: int
    streams: tuple[tuple[tuple[int, int], ...], ...]

    def to_json(self, pool: str | None, states: list[str], limit: Limit) -> dict[str, Any]:
        """As kit.json has it.

        ``sums`` are the states that add up steps, and how many at most; ``outputs`` says whether the
        outputs are compared: a mean over two steps would say nothing.
        """
        window = window_of(pool) or self.steps
        sums = {name: min(self.steps, window) for name in states if name.startswith("pool_")}
        outputs = limit.measure == "max" or self.steps > _FIRST_STEPS
        return {
            "name": self.name,
            "steps": self.steps,
            "streams": self.streams,
            "sums": sums,
            "outputs": outputs,
        }


def stream_cases(rows: int, steps: int) -> list[Case]:
    """Cases for so many recorded rows and steps."""
    first = min(_FIRST_STEPS, steps)
    other = 1 % rows
    cases = [
        Case(f"first {first} steps", first, tuple(((0, row),) for row in range(rows))),
        Case("one whole stream", steps, (((0, 0),),)),
    ]
    early, late = steps // 3, 2 * steps // 3
    if 0 < early < late:
        restarted = (((0, 0),), ((0, other), (early, 0)), ((0, 0), (late, other)))
        cases.append(Case(f"rows restarted at steps {early} and {late}", steps, restarted))
    return cases


def sequence_cases(golden: Golden, steps: int, pool: str | None) -> list[dict[str, Any]]:
    """Lengths at which the full graph is compared, and which recorded outputs are its reference."""
    cases = []
    for length in sorted({min(_ODD_LENGTH, steps), steps}):
        if golden.full is not None and (pool is None or length == golden.inputs.shape[-1]):
            cases.append({"steps": length, "reference": "full"})
        # A stream's logits are the full graph's, until its window is shorter than the sequence.
        elif pool == "cumulative" or (pool is not None and int(pool.removeprefix("window:")) >= length):
            cases.append({"steps": length, "reference": "stepwise"})
    return cases


def reference_states(bundle: Bundle, golden: Golden, precision: str, case: Case) -> dict[str, NDArray[Any]]:
    """The states that a case ends with, by the step graph's inputs. Raises BundleError if it fails here."""
    x = assemble(golden.inputs, case.streams, case.steps)
    stream = bundle.stream(len(case.streams), precision=precision)
    restarts = sorted({(step, row) for row, parts in enumerate(case.streams) for step, _ in parts[1:]})
    outputs, before = [], 0
    for step, row in restarts:
        if step > before:
            outputs.append(stream.run(x[..., before:step]))
        stream.reset(rows=[row])
        before = step
    outputs.append(stream.run(x[..., before:]))
    check = Check(f"{precision}: {case.name}", "step", "", LIMITS[precision])
    reference = assemble(golden.stepwise, case.streams, case.steps)
    check.compare(np.concatenate(outputs, axis=-1), reference, over_time=True)
    if case.to_json(None, [], LIMITS[precision])["outputs"] and not check.passed:
        raise BundleError(
            f"{bundle.path}: fails its own reference on this machine ({check.line()[5:]}); "
            "multires-edge verify says more"
        )
    return stream.save_state().arrays
