"""PTX as text: the kernels of a module with their instructions, and its constants."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ARRAY = re.compile(r"\.(const|shared) \.align (\d+) \.b8 (\w+)\[(\d+)\](?: = \{(.*)\})?;")
_PARAMETER = re.compile(r"\.param \.(?:u(\d+)(?: \.ptr \.align \d+)?|align (\d+) \.b8) (\w+)(?:\[(\d+)\])?,?")
_REGISTERS = re.compile(r"\.reg \.(pred|b16|b32|b64|f32)\s+(%\w+)<(\d+)>;")
_LABEL = re.compile(r"(\$\w+):")
_INSTRUCTION = re.compile(r"(?:@(!?)(%p\d+) )?([a-z][\w.:]*)(?:\s+(.*))?;")
_OPERAND = re.compile(r"\{[^}]*\}|[^,\s]+")


class PtxError(Exception):
    """PTX that the interpreter does not know, or that does what no kernel may do."""


@dataclass(frozen=True)
class Array:
    """Bytes with a name; ``content`` is empty where they have no values yet."""

    name: str
    align: int
    size: int
    content: bytes


@dataclass(frozen=True)
class Parameter:
    name: str
    align: int
    size: int


@dataclass(frozen=True)
class Instruction:
    """``operands`` are as they are written; vectors keep their braces."""

    line: int
    text: str
    opcode: str
    operands: tuple[str, ...]
    guard: str = ""  # the predicate that it depends on
    negated: bool = False


@dataclass
class Kernel:
    """``labels`` has the index of the instruction behind each label; ``registers`` the count by prefix."""

    name: str
    parameters: list[Parameter] = field(default_factory=list)
    registers: dict[str, tuple[str, int]] = field(default_factory=dict)
    shared: list[Array] = field(default_factory=list)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    most_threads: int = 1024


@dataclass
class Module:
    kernels: dict[str, Kernel] = field(default_factory=dict)
    constants: list[Array] = field(default_factory=list)


def parse(text: str) -> Module:
    """The module of a text as NVRTC writes it, with a statement in each line. Raises PtxError for others."""
    module, kernel = Module(), None
    for number, written in enumerate(text.splitlines(), 1):
        line = " ".join(written.partition("//")[0].split())
        if match := re.fullmatch(r"\.visible \.entry (\w+)\(", line):
            kernel = module.kernels[match[1]] = Kernel(match[1])
        elif line == "}":
            kernel = None
        elif kernel is not None:
            _add(kernel, number, line)
        elif match := _ARRAY.fullmatch(line):
            module.constants.append(_array(match))
        elif line and not re.match(r"\.(version|target|address_size|global) ", line):
            raise PtxError(f"line {number}: {line}")
    return module


def _add(kernel: Kernel, number: int, line: str) -> None:
    """Add a line between the name and the end of a kernel."""
    if match := _INSTRUCTION.fullmatch(line):
        operands = tuple(_OPERAND.findall(match[4] or ""))
        kernel.code.append(Instruction(number, line, match[3], operands, match[2] or "", match[1] == "!"))
    elif match := _LABEL.fullmatch(line):
        kernel.labels[match[1]] = len(kernel.code)
    elif match := _PARAMETER.fullmatch(line):
        size = int(match[4] or int(match[1] or 8) // 8)
        kernel.parameters.append(Parameter(match[3], int(match[2] or size), size))
    elif match := _REGISTERS.fullmatch(line):
        kernel.registers[match[2]] = match[1], int(match[3])
    elif match := _ARRAY.fullmatch(line):
        kernel.shared.append(_array(match))
    elif match := re.fullmatch(r"\.maxntid (\d+)(?:, 1, 1)?", line):
        kernel.most_threads = int(match[1])
    elif line not in ("", "(", ")", "{") and not re.match(r"\.(minnctapersm|pragma) ", line):
        raise PtxError(f"line {number}: {line}")


def _array(match: re.Match[str]) -> Array:
    size = int(match[4])
    content = bytes(int(value) for value in match[5].split(",")).ljust(size, b"\0") if match[5] else b""
    return Array(match[3], int(match[2]), size, content)
