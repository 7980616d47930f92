"""An interpreter of PTX: every thread of a launch, on numpy, without a GPU.

Registers are arrays with a value for each thread, and an instruction runs for all threads that are there.
Where threads part, those with the smaller program counter run first, so that they meet again behind a branch.
A thread waits at a barrier for its block, and at a shuffle for its warp. What is not known, or no kernel may
do, raises PtxError: reads and writes outside of allocations, addresses that are not aligned, and barriers
that not all threads reach.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.runtime.backends.cuda.ptx.memory import Memory
from tests.runtime.backends.cuda.ptx.text import Array, Instruction, Kernel, Module, PtxError, parse
from tests.runtime.backends.cuda.ptx.values import (
    ELEMENTWISE,
    FLOATING,
    INTEGRAL,
    SHIFTS,
    TYPES,
    Elementwise,
    chosen,
    comparison,
    conversion,
    immediate,
    wide_product,
)

Lanes = Any  # the threads that run: their numbers (n,), or slice(None) for all
Run = Callable[[Lanes], None]
WARP = 32
_ALL = slice(None)
_ADDRESS = re.compile(r"\[([%\w]+)(?:\+(-?\d+))?\]")
_MOST_INSTRUCTIONS = 10_000_000  # of a launch: it would not end


class Interpreter:
    """A module of PTX and the global memory of its device.

    ``apart`` runs each warp on its own from barrier to barrier: "up" from the first on, "down" from the last.
    A missing barrier then shows, which it may not if all warps run side by side. After a launch, ``visited``
    has the lines that ran.
    """

    def __init__(self, text: str, capacity: int = 1 << 21, apart: str = "") -> None:
        self.module: Module = parse(text)
        self.memory = Memory(0x7F00_0000_0000, capacity)
        self.apart = apart
        self.visited: set[int] = set()

    def launch(
        self, kernel: str, grid: Sequence[int], block: Sequence[int], arguments: Iterable[bytes]
    ) -> None:
        """Run a kernel; arguments are as bytes. ``grid`` may have two dimensions, ``block`` one."""
        launch = _Launch(self.module, self.module.kernels[kernel], self.memory, grid, block, list(arguments))
        with np.errstate(all="ignore"):
            launch.run(self.apart)
        self.visited |= launch.visited


def _nothing(_: Lanes) -> None:
    pass


class _Launch:
    """A kernel on all threads of its grid: ``_at`` is the program counter of each."""

    def __init__(
        self,
        module: Module,
        kernel: Kernel,
        memory: Memory,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: list[bytes],
    ) -> None:
        (self._threads, *others), blocks = block, math.prod(grid)
        if math.prod(others) != 1 or math.prod(grid[2:]) != 1 or self._threads % WARP:
            raise PtxError(f"a grid {grid} of blocks {block}")
        if self._threads > kernel.most_threads:
            raise PtxError(f"{self._threads} threads in a block, at most {kernel.most_threads} are possible")
        self._kernel, self._count = kernel, blocks * self._threads
        lane = np.arange(self._count)
        self._block = lane // self._threads
        special = {
            "%tid.x": lane % self._threads,
            "%ntid.x": np.full(self._count, self._threads),
            "%ctaid.x": self._block % grid[0],
            "%ctaid.y": self._block // grid[0],
        }
        self._registers = {name: value.astype(np.uint32) for name, value in special.items()}
        for prefix, (kind, count) in kernel.registers.items():
            size = TYPES[kind].itemsize * self._count
            content = 0 if kind == "pred" else 255  # what nobody wrote is NaN
            for i in range(count):
                self._registers[f"{prefix}{i}"] = np.full(size, content, np.uint8).view(TYPES[kind])
        self._symbols: dict[str, int] = {}
        self._spaces = {"global": memory}
        self._place("const", 0x1000_0000, module.constants, 1)
        self._place("shared", 0x2000_0000, kernel.shared, blocks)
        self._pass(arguments)
        self._syncs: dict[int, int] = {}  # how many threads meet at an instruction
        self._branches: dict[int, tuple[NDArray[Any] | None, int]] = {}  # the predicate, and the target
        self._ends: set[int] = set()
        self._code = [self._translate(i, instruction) for i, instruction in enumerate(kernel.code)]
        self._at = np.zeros(self._count, np.int64)
        self._runs = np.ones(self._count, bool)
        self._ended = np.zeros(self._count, bool)
        self._left = _MOST_INSTRUCTIONS
        self._visited = np.zeros(len(self._code), bool)

    def _place(self, space: str, base: int, arrays: list[Array], copies: int) -> None:
        capacity = -(-sum(array.size + array.align + 16 for array in arrays) // 256) * 256 + 256
        memory = self._spaces[space] = Memory(base, capacity, copies)
        for array in arrays:
            address = self._symbols[array.name] = memory.allocate(array.size, array.align)
            if space == "const":
                content = array.content.ljust(array.size, b"\0")
                memory.view(address, array.size)[...] = np.frombuffer(content, np.uint8)

    def _pass(self, arguments: list[bytes]) -> None:
        parameters = self._kernel.parameters
        if [len(argument) for argument in arguments] != [parameter.size for parameter in parameters]:
            raise PtxError(f"arguments of {[len(argument) for argument in arguments]} bytes for {parameters}")
        memory = self._spaces["param"] = Memory(0x3000_0000, 4096)
        for parameter, argument in zip(parameters, arguments, strict=True):
            address = self._symbols[parameter.name] = memory.allocate(parameter.size, parameter.align)
            memory.view(address, parameter.size)[...] = np.frombuffer(argument, np.uint8)

    @property
    def visited(self) -> set[int]:
        """The lines of the text that ran."""
        return {self._kernel.code[i].line for i in np.flatnonzero(self._visited)}

    # What runs.

    def run(self, apart: str) -> None:
        everyone = np.arange(self._count)
        warps = everyone % self._threads // WARP  # those of other blocks share nothing
        units = [everyone[warps == warp] for warp in range(self._threads // WARP)] if apart else [everyone]
        while not self._ended.all():
            for unit in reversed(units) if apart == "down" else units:
                while (here := unit[self._runs[unit]]).size:
                    self._run_lowest(here)
            self._release()

    def _run_lowest(self, lanes: NDArray[Any]) -> None:
        """Run the threads with the smallest program counter, until they meet others or part."""
        at = self._at[lanes]
        lowest = int(at.min())
        there = at == lowest
        rest = at[~there]
        self._run_from(lowest, lanes[there], int(rest.min()) if rest.size else len(self._code))

    def _run_from(self, at: int, group: NDArray[Any], limit: int) -> None:
        code, lanes = self._code, _ALL if group.size == self._count else group
        try:
            while at < limit:
                self._visited[at] = True
                self._left -= 1
                if self._left < 0:
                    raise PtxError("it does not end")
                if at in self._branches:
                    jumps, target = self._jumps(at, group)
                    if jumps.any() and not jumps.all():
                        self._at[group] = np.where(jumps, target, at + 1)
                        return
                    at = target if jumps[0] else at + 1
                elif at in self._ends:
                    self._runs[group], self._ended[group] = False, True
                    break
                elif at in self._syncs and not self._meets(group, self._syncs[at]).all():
                    self._runs[group] = False
                    break
                else:
                    code[at](lanes)
                    at += 1
        except PtxError as error:
            instruction = self._kernel.code[at]
            raise PtxError(f"line {instruction.line}: {instruction.text}: {error}") from None
        self._at[group] = at

    def _jumps(self, at: int, group: NDArray[Any]) -> tuple[NDArray[Any], int]:
        """Which threads take a branch, and where it leads."""
        predicate, target = self._branches[at]
        if predicate is None:
            return np.ones(group.size, bool), target
        return predicate[group] != self._kernel.code[at].negated, target

    def _meets(self, lanes: NDArray[Any], size: int) -> NDArray[Any]:
        """Which threads are there with all others of their ``size``."""
        return np.asarray((np.bincount(lanes // size) == size)[lanes // size])

    def _release(self) -> None:
        """Let those go on who have waited for each other. Raises PtxError if there are none."""
        waiting = np.flatnonzero(~self._ended)
        gone = not waiting.size
        for at in np.unique(self._at[waiting]).tolist():
            lanes = waiting[self._at[waiting] == at]
            lanes = lanes[self._meets(lanes, self._syncs[at])]
            if lanes.size:
                self._code[at](lanes)
                self._at[lanes] += 1
                self._runs[lanes] = gone = True
        if not gone:
            instruction = self._kernel.code[int(self._at[waiting[0]])]
            raise PtxError(f"line {instruction.line}: {instruction.text}: not all threads come here")

    # From an instruction to what runs.

    def _register(self, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        """A register as values of a type that may be smaller: its low bytes."""
        array = self._registers[name]
        if (array.dtype.kind == "b") != (dtype.kind == "b") or dtype.itemsize > array.itemsize:
            raise PtxError(f"{name} does not have {dtype}")
        return array.view(dtype)[:: array.itemsize // dtype.itemsize]

    def _operand(self, text: str, kind: str) -> NDArray[Any]:
        dtype = TYPES[kind]
        if text in self._registers:
            return self._register(text, dtype)
        if text in self._symbols:
            return np.full(self._count, self._symbols[text], dtype)
        if re.fullmatch(r"-?\d+|0f[0-9A-F]{8}", text):
            return np.repeat(immediate(text, dtype), self._count)
        raise PtxError(f"no operand {text}")

    def _target(self, name: str, kind: str) -> NDArray[Any]:
        """A register to be written; a smaller type is extended to all of it, by its sign."""
        array, dtype = self._registers[name], TYPES[kind]
        if dtype.itemsize < array.itemsize and dtype.kind in "iu":
            return array.view(f"{dtype.kind}{array.itemsize}")
        return self._register(name, dtype)

    def _translate(self, i: int, instruction: Instruction) -> Run:
        try:
            return self._translated(i, instruction)
        except (PtxError, KeyError, ValueError) as error:
            raise PtxError(f"line {instruction.line}: {instruction.text}: not known ({error})") from None

    def _translated(self, i: int, instruction: Instruction) -> Run:
        operands, (name, *_) = instruction.operands, instruction.opcode.split(".")
        if name == "bra" and instruction.opcode in ("bra", "bra.uni"):
            guard = self._register(instruction.guard, TYPES["pred"]) if instruction.guard else None
            self._branches[i] = guard, self._kernel.labels[operands[0]]
            return _nothing
        if instruction.guard:
            raise PtxError("a predicate")
        if instruction.opcode == "ret":
            self._ends.add(i)
            return _nothing
        if instruction.opcode == "bar.sync" and operands == ("0",):
            self._syncs[i] = self._threads
            return _nothing
        if instruction.opcode == "shfl.sync.bfly.b32":
            self._syncs[i] = WARP
            return self._shuffle(*operands)
        if name in ("ld", "st"):
            return self._move(instruction)
        return self._compute(instruction)

    def _compute(self, instruction: Instruction) -> Run:
        """An instruction that every thread runs for itself."""
        (to, *operands), (opcode, _, kind) = instruction.operands, instruction.opcode.rpartition(".")
        name, _, detail = opcode.partition(".")
        kinds, result = [kind] * len(operands), kind
        work: Elementwise
        if name == "setp":
            work, result = comparison(detail), "pred"
        elif name == "selp" and not detail:
            work, kinds[2] = chosen, "pred"
        elif name == "cvt":
            work, result = conversion(f"{detail}.{kind}"), detail.rpartition(".")[2]
        elif opcode == "mul.wide":
            work, result = wide_product(kind), f"{kind[0]}64"
        elif opcode in SHIFTS:
            work, kinds[1] = SHIFTS[opcode], "u32"
        else:
            work = ELEMENTWISE[opcode]
            if kind == "f16" or opcode in (INTEGRAL if kind == "f32" else FLOATING):
                raise PtxError(f"of {kind}")
        target = self._target(to, result)
        sources = [self._operand(text, each) for text, each in zip(operands, kinds, strict=True)]

        def run(lanes: Lanes) -> None:
            target[lanes] = work(*[source[lanes] for source in sources])

        return run

    def _move(self, instruction: Instruction) -> Run:
        """A read or write of memory."""
        name, space, *words, kind = instruction.opcode.split(".")
        cells, place = instruction.operands if name == "ld" else instruction.operands[::-1]
        registers = cells.strip("{}").split(", ")
        if words not in ([], [f"v{len(registers)}"]):
            raise PtxError(".".join(words))
        match = _ADDRESS.fullmatch(place)
        if match is None:
            raise PtxError(place)
        addresses = self._operand(match[1], "u64")
        offset, count = np.uint64(int(match[2] or 0) % 2**64), len(registers)
        memory, dtype = self._spaces[space], TYPES[kind]
        copies = self._block if space == "shared" else np.zeros_like(self._block)
        if name == "st" and space in ("const", "param"):
            raise PtxError(f"a write to {space}")
        arrays = [
            self._target(each, kind) if name == "ld" else self._operand(each, kind) for each in registers
        ]

        def run(lanes: Lanes) -> None:
            values, first = memory.cells(addresses[lanes] + offset, dtype, count, copies[lanes])
            for k, array in enumerate(arrays):
                if name == "ld":
                    array[lanes] = values[first + k]
                else:
                    values[first + k] = array[lanes]

        return run

    def _shuffle(self, to: str, value: str, mask: str, clamp: str, members: str) -> Run:
        """Each thread gets the value of that of its warp whose number differs in the bits of ``mask``."""
        name, _, found = to.partition("|")
        target, arrived = self._target(name, "b32"), self._target(found, "pred")
        source, bits = self._operand(value, "b32"), self._operand(mask, "u32")
        last, whole = self._operand(clamp, "u32"), self._operand(members, "u32")

        def run(lanes: Lanes) -> None:
            parts = (last[lanes] != WARP - 1) | (whole[lanes] != 0xFFFFFFFF) | (bits[lanes] >= WARP)
            if parts.any():
                raise PtxError("only whole warps")
            numbers = np.arange(self._count)[lanes]
            target[lanes] = source[numbers ^ bits[lanes]]
            arrived[lanes] = True

        return run
