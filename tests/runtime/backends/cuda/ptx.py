"""PTX as a library for the driver without a GPU: translated to C++, by the functions of ptx.h.

Every thread of a launch runs. What no kernel may do ends the launch: reads and writes outside of allocations,
addresses that are not aligned, barriers that not all threads reach.
"""

from __future__ import annotations

import ctypes
import functools
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.runtime.backends.cuda.compiled import HERE
from tests.runtime.backends.device.fake_driver import build_driver
from tests.runtime.cpp.programs import cxx, run

_ARRAY = re.compile(r"\.(const|shared) \.align (\d+) \.b8 (\w+)\[(\d+)\](?: = (\{.*\}))?;")
_PARAMETER = re.compile(r"\.param \.(?:u(\d+)(?: \.ptr \.align \d+)?|align (\d+) \.b8) (\w+)(?:\[(\d+)\])?,?")
_REGISTERS = re.compile(r"\.reg \.(\w+) %([a-z]+)<(\d+)>;")
_INSTRUCTION = re.compile(r"(?:@(!?)(%p\d+) )?([a-z][\w.:]*)(?: (.*))?;")
_OPERAND = re.compile(r"\{[^}]*\}|[^,\s]+")
_SPECIAL = {
    "%tid.x": "thread_index()", "%ntid.x": "block_x",
    "%ctaid.x": "block_index() % grid_x", "%ctaid.y": "block_index() / grid_x",
}  # fmt: skip
_OPTIONS = (
    "-std=c++20", "-O0", "-w", "-fwrapv", "-frounding-math", "-ffp-contract=off", "-fno-strict-aliasing",
    "-fvisibility=hidden", "-fPIC", f"-I{HERE}",
)  # fmt: skip


class PtxError(Exception):
    """PTX that is not known."""


@functools.cache
def compile_ptx(text: str, *changed: str) -> bytes:
    """A module of PTX as a library. Raises PtxError if it is not known.

    ``changed`` are the same text with other instructions in some lines. The library's ``multires_change`` is
    the number of that which runs, from 1 on: one compilation serves all of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "module.cpp"), Path(folder, "module")
        source.write_text(translate(text, *changed))
        command: list[str | Path] = [
            cxx(),
            *_OPTIONS,
            "-shared",
            "-include",
            f"{_header().name}/ptx.h",
            source,
            "-o",
            library,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PtxError(f"not known: {done.stderr}")
        return library.read_bytes()


@functools.cache
def _header() -> tempfile.TemporaryDirectory[str]:
    """A folder with ptx.h as the compiler reads it fastest: it is longer than a module."""
    folder = tempfile.TemporaryDirectory()
    run(cxx(), *_OPTIONS, "-x", "c++-header", HERE / "ptx.h", "-o", f"{folder.name}/ptx.h.gch")
    return folder


def visited(lines: int) -> set[int]:
    """Which lines ran of the text that was loaded last, counted from 1."""
    seen = _variable("multires_seen", ctypes.c_uint8 * (lines + 1))
    return {number for number, ran in enumerate(seen) if ran}


def run_changed(number: int) -> None:
    """Let a changed text run in place of that which was loaded last."""
    _variable("multires_change", ctypes.c_int).value = number


def _variable(name: str, kind: Any) -> Any:
    address = ctypes.CDLL(str(build_driver() / "libcuda.so.1")).fake_variable
    address.restype = ctypes.c_void_p
    return kind.from_address(address(name.encode()))


def translate(*texts: str) -> str:
    """The modules of :func:`compile_ptx` in C++. The texts have a statement in each line, as NVRTC writes."""
    rows = [[_stripped(line) for line in row] for row in zip(*(t.splitlines() for t in texts), strict=True)]
    module = [f"unsigned char multires_seen[{len(rows) + 1}];"]
    constants: list[str] = []
    kernels: list[_Kernel] = []
    for number, (line, *changed) in enumerate(rows, 1):
        try:
            if match := re.fullmatch(r"\.visible \.entry (\w+)\(", line):
                kernels.append(_Kernel(match[1], constants))
            elif line == "}":
                module += kernels[-1].lines()
            elif kernels and not kernels[-1].done:
                kernels[-1].add(number, line, changed)
            elif match := _ARRAY.fullmatch(line):
                module.append(_array(match, "const"))
                constants.append(match[3])
            elif line and not re.match(r"\.(version|target|address_size|global) ", line):
                raise PtxError("no statement")
        except (PtxError, KeyError, ValueError) as error:
            raise PtxError(f"line {number}: {line}: not known ({error})") from None
    entries = ", ".join(kernel.entry() for kernel in kernels)
    names = ", ".join(f'"{kernel.name}"' for kernel in kernels)
    module.append(f"const std::vector<Entry> entries = {{{entries}}};")
    return "\n".join([*module, f"const char* const multires_kernels[] = {{{names}, nullptr}};", ""])


def _stripped(line: str) -> str:
    return " ".join(line.partition("//")[0].split())


def _array(match: re.Match[str], kind: str) -> str:
    return f"alignas({match[2]}) static {kind} unsigned char {match[3]}[{match[4]}]{match[5] or '{}'};"


class _Kernel:
    """A kernel as a function of C++. ``constants`` are the names of the module's arrays."""

    def __init__(self, name: str, constants: list[str]) -> None:
        self.name, self.done = name, False
        self._arrays = {"const": constants, "shared": [], "param": []}
        self._parameters: list[tuple[int, int]] = []  # offsets and sizes
        self._registers: dict[str, int] = {}
        self._most_threads = 1024
        self._head: list[str] = []
        self._code: list[str] = []

    def entry(self) -> str:
        """An Entry of ptx.h."""
        parameters = ", ".join(f"{{{offset}, {size}}}" for offset, size in self._parameters)
        return f'{{"{self.name}", kernel_{self.name}, {self._most_threads}, {{{parameters}}}}}'

    def lines(self) -> list[str]:
        """The function."""
        self.done = True
        spaces = []
        for space, names in self._arrays.items():
            arrays = ", ".join(f"Array{{{name}, sizeof {name}}}" for name in names)
            spaces += [f"static const Arrays space_{space}{{{arrays}}};"] if names else []
        spoiled = " ".join(f"spoil({name});" for name in self._arrays["shared"])
        start = f"if (Fibers::self().is_first()) {{ {spoiled} }}"
        return [f"static void kernel_{self.name}() {{", *self._head, *spaces, start, *self._code, "}"]

    def add(self, number: int, line: str, changed: Sequence[str]) -> None:
        """Add a line between the name and the end."""
        if match := _INSTRUCTION.fullmatch(line):
            statement = self._statement(match)
            for change, other in enumerate(changed, 1):
                if other != line:
                    instead = _INSTRUCTION.fullmatch(other)
                    it = self._statement(instead) if instead else ""
                    statement = f"if (multires_change == {change}) {{ {it} }} else {{ {statement} }}"
            self._code.append(f"line = {number}, multires_seen[{number}] = 1; {statement}")
        elif match := re.fullmatch(r"\$(\w+):", line):
            self._code.append(f"{match[1]}:;")
        elif match := _PARAMETER.fullmatch(line):
            size = int(match[4] or int(match[1] or 8) // 8)
            end, align = sum(self._parameters[-1]) if self._parameters else 0, int(match[2] or size)
            offset = -(-end // align) * align
            self._parameters.append((offset, size))
            self._arrays["param"].append(match[3])
            self._head.append(f"auto& {match[3]} = parameter<{size}>({offset});")
        elif match := _REGISTERS.fullmatch(line):
            self._registers[match[2]] = int(match[3])
            self._head.append(f"{match[1]} {match[2]}[{match[3]}]; spoil({match[2]});")
        elif match := _ARRAY.fullmatch(line):
            self._arrays["shared"].append(match[3])
            self._head.append(_array(match, ""))
        elif match := re.fullmatch(r"\.maxntid (\d+)(?:, 1, 1)?", line):
            self._most_threads = int(match[1])
        elif line not in ("", "(", ")", "{") and not re.match(r"\.(minnctapersm|pragma) ", line):
            raise PtxError(line)

    def _statement(self, match: re.Match[str]) -> str:
        """An instruction in C++."""
        negated, guard, opcode, _ = match.groups()
        operands = _OPERAND.findall(match[4] or "")
        name, *kinds = opcode.split(".")
        if opcode in ("bra", "bra.uni"):
            condition = f"{negated}{self._operand(guard, 'pred')}" if guard else "true"
            return f"if ({condition}) {{ jumped(); goto {operands[0].removeprefix('$')}; }}"
        if guard:
            raise PtxError("a predicate")
        if opcode == "ret":
            return "return;"
        if opcode == "bar.sync" and operands == ["0"]:
            return "bar_sync();"
        if opcode == "shfl.sync.bfly.b32":
            (to, found), values = operands[0].split("|"), operands[1:]
            given = ", ".join(self._operand(text, "u32") for text in values)
            return f"shfl_bfly({self._register(to)}, {self._register(found)}, {given});"
        if name in ("ld", "st"):
            return self._move(name, kinds, operands)
        (to, *sources), kind = operands, kinds.pop()
        template = kind
        types = [kind] * len(sources)
        if name in ("shl", "shr"):
            types[1] = "u32"
        elif name == "selp":
            types[2] = "pred"
        elif name == "cvt":
            template = f"{kinds.pop()}, {kind}"
        given = ", ".join(self._operand(text, each) for text, each in zip(sources, types, strict=True))
        return f"put({self._register(to)}, op_{'_'.join([name, *kinds])}<{template}>({given}));"

    def _move(self, name: str, kinds: list[str], operands: list[str]) -> str:
        """A read or write of memory."""
        space, *words, kind = kinds
        cells, place = operands if name == "ld" else operands[::-1]
        registers = cells.strip("{}").split(", ")
        match = re.fullmatch(r"\[([%\w]+)(?:\+(-?\d+))?\]", place)
        if match is None or words not in ([], [f"v{len(registers)}"]):
            raise PtxError(place)
        if name == "st" and space not in ("global", "shared"):
            raise PtxError(f"a write to {space}")
        address = f"{self._operand(match[1], 'u64')} + {match[2] or 0}"
        moves = (
            f"put({self._register(each)}, at[{i}]);"
            if name == "ld"
            else f"at[{i}] = {self._operand(each, kind)};"
            for i, each in enumerate(registers)
        )
        return (
            f"{{ auto* at = cells<{kind}, {len(registers)}>(space_{space}, {address}); {' '.join(moves)} }}"
        )

    def _register(self, text: str) -> str:
        match = re.fullmatch(r"%([a-z]+)(\d+)", text)
        if match is None or int(match[2]) >= self._registers.get(match[1], 0):
            raise PtxError(f"no register {text}")
        return f"{match[1]}[{match[2]}]"

    def _operand(self, text: str, kind: str) -> str:
        """A value of a type."""
        if text in _SPECIAL:
            return f"as<{kind}>(u32({_SPECIAL[text]}))"
        if text.startswith("%"):
            return f"as<{kind}>({self._register(text)})"
        if re.fullmatch(r"-?\d+|0f[0-9A-F]{8}", text):
            bits = int(text[2:], 16) if text.startswith("0f") else int(text) % 2**64
            return f"bool({bits})" if kind == "pred" else f"as<{kind}>(u64{{{bits}u}})"
        return f"as<{kind}>(u64({text}))"
