"""The PTX that ships, executed by an interpreter: the ring kernels against numpy, steps against float64."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.format.specs import FileSpec, GraphSpec, TensorSpec
from multires_edge.runtime.backends import _native
from multires_edge.runtime.backends.cuda.planned import PlannedStepper
from multires_edge.runtime.backends.cuda.plans import StreamPlan
from multires_edge.runtime.backends.native import OWN_WINDOW
from multires_edge.runtime.backends.tensorrt import rings
from multires_edge.runtime.backends.tensorrt.host import HostDevice
from multires_edge.runtime.engine_builder.kernels import plan_window
from tests.conftest import random_inputs, within_limit
from tests.runtime.backends.cuda.compiled import nvrtc_of
from tests.runtime.backends.cuda.ptx.device import InterpretedDevice
from tests.runtime.backends.cuda.ptx.interpreter import Interpreter
from tests.runtime.backends.cuda.ptx.text import PtxError
from tests.runtime.backends.tensorrt.test_rings import roll
from tests.runtime.cpp.networks import NETWORKS, Network, expected_outputs

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


class InterpretedRings(rings.RingDevice, InterpretedDevice):
    """The device of the TensorRT backend; its kernels run in the interpreter."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__()


def rolled(text: str, row_bytes: int) -> tuple[Interpreter, bool]:
    """Whether the ring kernels of a text do what numpy does, up to positions of more than 32 bits."""
    pushed = np.random.default_rng(row_bytes).integers(0, 256, (8, 4, 2, row_bytes), np.uint8)
    case = ([[1], [2, 5]], row_bytes, pushed, np.array([0, 7, 2**31 - 3, 2**62]))
    device = InterpretedRings(text)
    pairs = zip(roll(device, *case), roll(HostDevice(), *case), strict=True)
    return device.interpreter, all(np.array_equal(ours, theirs) for ours, theirs in pairs)


class TestRings:
    def test_they_move_what_numpy_moves(self) -> None:
        """In words of every size, fewer and more of them than threads in a block: every instruction runs."""
        visited: set[int] = set()
        for row_bytes in (16, 12, 6, 5, 16 * 300, 257):
            interpreter, equal = rolled(rings.PTX.read_text(), row_bytes)
            assert equal, row_bytes
            visited |= interpreter.visited
        kernels = interpreter.module.kernels
        assert set(kernels) == set(rings.kernel_names())
        assert visited == {instruction.line for kernel in kernels.values() for instruction in kernel.code}

    @pytest.mark.parametrize(
        ("was", "becomes"),
        [
            ("sub.s32", "add.s32"),  # the delay
            ("shr.s32", "shr.u32"),  # of a slot before the first
            ("rem.s64", "min.s64"),  # of a position of more than 32 bits
            ("mul.lo.s64", "add.s64"),
            ("%rd40, 1;", "%rd40, 2;"),  # the next position
            ("%tid.x", "%ctaid.x"),
        ],
    )
    def test_a_changed_instruction_is_found(self, was: str, becomes: str) -> None:
        text = rings.PTX.read_text()
        assert was in text
        assert fails(lambda: rolled(text.replace(was, becomes), 16)[1])


class Steps:
    """A network's kernel, as a bundle carries it, on streams that ran on the native engine before."""

    def __init__(self, network: Network, cuda: int = 12) -> None:
        self._compiler = nvrtc_of(cuda)
        self.network, config = network, network.random().config
        weights = network.weights()
        self._model = _native.Model(weights)
        self._weights = np.frombuffer(_native.CudaPlan(self._model, 1).weights, np.uint8)
        inputs = random_inputs(config, BATCH, BEFORE + sum(LAUNCHES), seed=6)
        self.expected = expected_outputs(network, inputs)[..., BEFORE:]  # in float64
        sample, output = ("batch", *inputs.shape[1:-1]), ("batch", self.expected.shape[1])
        self._spec = GraphSpec(
            "", "", 24, (TensorSpec("x", inputs.dtype.name, sample),), (TensorSpec("y", "float32", output),)
        )
        native = _native.State(self._model, BATCH)
        before, self._samples = np.split(np.ascontiguousarray(np.moveaxis(inputs, -1, 0)), [BEFORE])
        self._before, self.after = (self._run_native(native, part) for part in (before, self._samples))
        self._plans: dict[int, tuple[StreamPlan, str]] = {}

    @property
    def text(self) -> str:
        """The PTX for two streams in a block, or for one if two do not fit."""
        return self._planned(2)[1]

    @property
    def scratch(self) -> int:
        """The bytes of global memory that a block uses."""
        return self._planned(2)[0].kernels[-1].scratch

    def _planned(self, rows: int) -> tuple[StreamPlan, str]:
        """The plan and the PTX for blocks of at most ``rows`` streams."""
        if rows not in self._plans:
            texts: list[str] = []

            def write(name: str, content: bytes) -> FileSpec:
                texts.append(content.decode())
                return FileSpec(name, "")

            plan = plan_window(self._model, OWN_WINDOW, self._compiler, write, (1, rows))
            self._plans[rows] = plan, texts[-1]
        return self._plans[rows]

    def _run_native(self, native: _native.State, samples: NDArray[Any]) -> States:
        """The states after samples (steps, BATCH, ...)."""
        native.run(samples, np.empty((len(samples), *self.expected.shape[:2]), np.float32))
        return {name: part.copy() for name, part in native.parts().items()}

    def run(self, text: str = "", apart: str = "", rows: int = 2) -> tuple[set[int], NDArray[Any], States]:
        """The lines that ran, the outputs (BATCH, d_output, steps), and the states after them."""
        plan, own = self._planned(rows)
        device, n_tokens = InterpretedDevice(), self.network.random().config.n_tokens
        device.apart = apart
        stepper = PlannedStepper(
            device, plan, plan.kernels[-1], (text or own).encode(), self._weights, self._spec, BATCH, n_tokens
        )
        stepper.write_state(self._before)
        outputs = [stepper.run(part) for part in np.split(self._samples, LAUNCHES[:1])]
        return device.interpreter.visited, np.moveaxis(np.concatenate(outputs), 0, -1), stepper.read_state()

    def right(self, text: str = "", apart: str = "") -> bool:
        """Whether outputs and states are in the limit."""
        _, outputs, states = self.run(text, apart)
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
    except PtxError as error:
        assert "not known" not in str(error)  # the change must be one that the interpreter can run
        return True


def changed(text: str, line: int, pattern: str, replacement: str) -> str:
    """A text with a change in one line, counted from 1."""
    lines = text.splitlines()
    lines[line - 1] = re.sub(pattern, replacement, lines[line - 1])
    return "\n".join(lines)


@pytest.mark.parametrize("name", [*TINY, *(pytest.param(name, marks=pytest.mark.slow) for name in KINDS)])
def test_steps_of_every_kind(name: str) -> None:
    """The outputs, by the network in float64, and the states, by those of the native engine."""
    steps = steps_of(name)
    assert (steps.scratch > 0) == (name == "tiny-global")
    assert steps.right()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rms-before", "int8"])
def test_blocks_and_orders_of_warps_change_not_a_bit(name: str) -> None:
    steps = steps_of(name)
    _, outputs, states = steps.run()
    for apart, rows in (("up", 2), ("down", 1), ("down", 4)):
        _, others, left = steps.run(apart=apart, rows=rows)
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
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "tiny-int8"])
def test_changed_instructions_are_found(name: str) -> None:
    """All but a few, which do not matter to the result: a sum with 0, or an error far below the limit."""
    steps = steps_of(name)
    visited, lines = sorted(steps.run()[0]), steps.text.splitlines()
    found = {}
    for pattern, replacement in CHANGES:
        able = [line for line in visited if re.search(pattern, lines[line - 1])]
        assert able, pattern
        for line in able[:: -(-len(able) // 4)]:
            text = changed(steps.text, line, pattern, replacement)
            found[line, lines[line - 1]] = fails(functools.partial(steps.right, text))
    assert sum(found.values()) >= 0.9 * len(found), [line for line in found if not found[line]]


@pytest.mark.slow
def test_a_removed_barrier_is_found() -> None:
    """If the warps that it keeps apart share values, which a small network does not everywhere."""
    steps = steps_of("tiny")
    lines = steps.text.splitlines()
    barriers = [line for line in steps.run()[0] if "bar.sync" in lines[line - 1]]
    found = [
        any(fails(functools.partial(steps.right, text, apart)) for apart in ("down", "up"))
        for text in (changed(steps.text, line, ".*", "") for line in barriers)
    ]
    assert sum(found) >= len(barriers) / 2
