"""The PTX that ships, as C++ on this host: the ring kernels against numpy, steps against float64."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends import _native
from multires_edge.runtime.backends.tensorrt import rings
from multires_edge.runtime.backends.tensorrt.host import HostDevice
from tests.conftest import random_inputs, within_limit
from tests.runtime.backends.cuda.compiled import nvrtc_of, plan_of, stepper_on
from tests.runtime.backends.cuda.ptx import compile_ptx, run_changed, visited
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.test_rings import roll
from tests.runtime.cpp.networks import NETWORKS, Network, expected_outputs

RINGS = rings.PTX.read_text()
BATCH, BEFORE, LAUNCHES = 3, 40, (2, 3)  # steps: on the native engine, and of each launch
_TINY = {"d_model": 24, "n_layers": 1, "depth": 3, "pooling": "none"}
TINY = {
    "tiny": Network(_TINY),
    "tiny-int8": Network({**_TINY, "norm": "batch"}, precision="int8", limit=5e-3),
    # Its outputs, and so the sums of a block, exceed shared memory.
    "tiny-global": Network({**_TINY, "d_model": 4, "d_output": 12300}),
    "tiny-int8-queues": Network({**_TINY, "pooling": "mean"}, precision="int8", limit=5e-3, queues="int8"),
}
KINDS = (
    *("uniform", "tokens-windowed", "autoregressive", "group-before", "plain-int8", "untied-int8-queues"),
    *("per-step", "softmax", "windows", "float16", "int8"),
)

States = dict[str, NDArray[Any]]


def rolled(row_bytes: int, *changed: str, change: int = 0) -> bool:
    """Whether the ring kernels do what numpy does, up to positions of more than 32 bits."""
    pushed = np.random.default_rng(row_bytes).integers(0, 256, (8, 4, 2, row_bytes), np.uint8)
    case = ([[1], [2, 5]], row_bytes, pushed, np.array([0, 7, 2**31 - 3, 2**62]))
    with patch.object(rings, "read_ptx", lambda: compile_ptx(RINGS, *changed)):
        device = rings.RingDevice()
    run_changed(change)
    pairs = zip(roll(device, *case), roll(HostDevice(), *case), strict=True)
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


class TestRings:
    @pytest.mark.usefixtures("driver")
    def test_they_move_what_numpy_moves(self) -> None:
        """In words of every size, fewer and more of them than threads in a block: every instruction runs."""
        lines, ran = RINGS.splitlines(), set[int]()
        for row_bytes in (16, 12, 6, 5, 16 * 300, 257):
            assert rolled(row_bytes), row_bytes
            ran |= visited(len(lines))
        assert ran == {number for number, line in enumerate(lines, 1) if re.match(r"\s+[@a-z]", line)}

    def test_changed_instructions_are_found(self, driver: FakeCuda) -> None:
        changes = {
            "sub.s32": "add.s32",  # the delay
            "shr.s32": "shr.u32",  # of a slot before the first
            "rem.s64": "min.s64",  # of a position of more than 32 bits
            "mul.lo.s64": "add.s64",
            "%rd40, 1;": "%rd40, 2;",  # the next position
            "%tid.x": "%ctaid.x",
        }
        changed = [RINGS.replace(was, becomes) for was, becomes in changes.items()]
        assert rolled(16, *changed)
        for change, was in enumerate(changes, 1):
            assert fails(partial(rolled, 16, *changed, change=change)), was
            driver.refuse("", 0)


class Steps:
    """A network's kernel as PTX, on streams that ran on the native engine before."""

    def __init__(self, network: Network, cuda: int = 12) -> None:
        self._compiler = nvrtc_of(cuda)
        self.network, self._weights = network, network.weights()
        inputs = random_inputs(network.random().config, BATCH, BEFORE + sum(LAUNCHES), seed=6)
        self.expected = expected_outputs(network, inputs)[..., BEFORE:]  # in float64
        native = _native.State(_native.Model(self._weights), BATCH)
        before, self._samples = np.split(np.ascontiguousarray(np.moveaxis(inputs, -1, 0)), [BEFORE])
        self._before, self.after = (self._run_native(native, part) for part in (before, self._samples))

    def plan(self, rows: int = 2) -> _native.CudaPlan:
        """That of blocks of at most ``rows`` streams."""
        return plan_of(self._weights, rows)

    @functools.cached_property
    def text(self) -> str:
        """The PTX for two streams in a block, or for one if two do not fit."""
        return self.plan().compile_ptx(self._compiler)[1].decode()

    def _run_native(self, native: _native.State, samples: NDArray[Any]) -> States:
        """The states after samples (steps, BATCH, ...)."""
        native.run(samples, np.empty((len(samples), *self.expected.shape[:2]), np.float32))
        return {name: part.copy() for name, part in native.parts().items()}

    def run(
        self, *changed: str, change: int = 0, rows: int = 2, seed: int = 0
    ) -> tuple[NDArray[Any], States]:
        """The outputs (BATCH, d_output, steps), and the states after them, in an order of the threads."""
        plan = self.plan(rows)
        text = self.text if rows == 2 else plan.compile_ptx(self._compiler)[1].decode()
        stepper = stepper_on(self._weights, plan, compile_ptx(text, *changed), BATCH, seed)
        run_changed(change)
        stepper.write_state(self._before)
        outputs = [stepper.run(part) for part in np.split(self._samples, LAUNCHES[:1])]
        return np.moveaxis(np.concatenate(outputs), 0, -1), stepper.read_state()

    def right(self, *changed: str, change: int = 0, seed: int = 0) -> bool:
        """Whether outputs and states are in the limit."""
        outputs, states = self.run(*changed, change=change, seed=seed)
        if not within_limit(outputs, self.expected, self.network.limit):
            return False
        # A sum is of two numbers: the second is what the first is too large to represent.
        sums = [np.abs(array).max() for name, array in self.after.items() if name.startswith("pool_sum")]
        return all(
            self._near(states[name], array, max(1, *sums) if name.startswith("pool_") and sums else 1)
            for name, array in self.after.items()
        )

    def _near(self, state: NDArray[Any], other: NDArray[Any], scale: float) -> bool:
        """Values in the limit; of int8, the same level or the next one."""
        if state.dtype == np.int8:
            return bool(np.abs(state.astype(int) - other).max() <= 1)
        return within_limit(state, other, scale * self.network.limit)


@functools.cache
def steps_of(network: str) -> Steps:
    return Steps((TINY | NETWORKS)[network])


def fails(right: Callable[[], bool]) -> bool:
    """Whether a result is wrong, or its kernel does what it may not."""
    try:
        return not right()
    except BackendError as error:
        assert "CUDA_ERROR_ILLEGAL_ADDRESS" in str(error)
        return True


@pytest.mark.parametrize("name", [*TINY, *(pytest.param(name, marks=pytest.mark.slow) for name in KINDS)])
def test_steps_of_every_kind(name: str) -> None:
    """The outputs, by the network in float64, and the states, by those of the native engine."""
    steps = steps_of(name)
    assert (steps.plan().scratch > 0) == (name == "tiny-global")
    assert steps.right()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8"])
def test_blocks_and_orders_of_warps_change_not_a_bit(name: str) -> None:
    steps = steps_of(name)
    outputs, states = steps.run()
    for rows, seed in ((2, 1), (1, 2), (4, 3)):
        others, left = steps.run(rows=rows, seed=seed)
        assert np.array_equal(others, outputs)
        assert all(np.array_equal(left[name], state) for name, state in states.items())


def test_by_the_compiler_of_cuda_13() -> None:
    assert Steps(NETWORKS["float16"], 13).right()


CHANGES = [
    (r"add\.f32", "sub.f32"),
    (r"(ld\.global\.\S*f32.*\[%rd\d+).*\]", r"\1+1024]"),  # a weight or a state
    (r"(ld\.shared\S*\s.*\[%rd\d+).*\]", r"\1+16]"),
    (r"(st\.(?:global|shared)\S*\s+\[%rd\d+)[^]]*\]", r"\1+32]"),
    (r"fma\.rn\.f32(.*), %f\d+;", r"fma.rn.f32\1, 0f3F800000;"),
    (r".*bar\.sync.*", ""),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "tiny-int8"])
def test_changed_instructions_are_found(name: str) -> None:
    """All but a few, which do not matter to the result: a sum with 0, or an error far below the limit.

    A missing barrier is found if the warps that it keeps apart share values, which a small network does not
    everywhere.
    """
    steps = steps_of(name)
    assert steps.right()
    lines = steps.text.splitlines()
    ran, changed = sorted(visited(len(lines))), dict[str, str]()
    for pattern, replacement in CHANGES:
        able = [line for line in ran if re.search(pattern, lines[line - 1])]
        assert able, pattern
        for line in able if replacement == "" else able[:: -(-len(able) // 4)]:
            instead = re.sub(pattern, replacement, lines[line - 1])
            changed[f"line {line}: {instead}"] = "\n".join([*lines[: line - 1], instead, *lines[line:], ""])
    found = {
        what: any(
            fails(partial(steps.right, *changed.values(), change=number, seed=seed)) for seed in range(3)
        )
        for number, what in enumerate(changed, 1)
    }
    barriers = [what for what in changed if what.endswith(": ")]
    assert sum(found[what] for what in barriers) >= len(barriers) / 2
    others = [what for what in changed if what not in barriers]
    assert sum(found[what] for what in others) >= 0.9 * len(others), [
        what for what in others if not found[what]
    ]
