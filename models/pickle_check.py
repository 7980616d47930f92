"""Check what a checkpoint's pickles ask PyTorch to do, before PyTorch does it.

PyTorch refuses pickles that run code. It does not compare the sizes that a pickle names with the file: it
reads beyond a record that is too short, and allocates whatever a pickle asks for. Keys of dictionaries may be
tuples of tuples whose hash takes forever. So the pickles are interpreted here first, with symbols in place of
objects.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from multires_edge.format.fields import shortened

MAX_EXPANSION = 20  # of an archive that was compressed again; weights hardly shrink
_FREE_EXPANSION = 1 << 26
_MAX_WEIGHT = 1_000_000  # of a tuple
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file that is no archive
_LEGACY_PICKLES = 4  # after it: protocol, facts about the machine, the object, the keys of the storages

# The dtypes of storages by their classes in `torch`.
_ITEM_SIZES = {
    "Byte": 1, "Char": 1, "Bool": 1, "QInt8": 1, "QUInt8": 1, "QUInt4x2": 1, "QUInt2x4": 1, "Untyped": 1,
    "Short": 2, "Half": 2, "BFloat16": 2, "Int": 4, "Float": 4, "QInt32": 4, "Long": 8, "Double": 8,
    "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip


class PickleError(ValueError):
    """A pickle that asks for more than its file has, or that no training writes."""


def check_checkpoint(content: bytes) -> None:
    """Raise PickleError for a checkpoint that lies about sizes, or is damaged.

    ``content`` is an archive of a pickle and its storages, or five pickles with the storages after them.
    """
    if content[:4] == b"PK\3\4":
        _check_archive(content)
        return
    file = io.BytesIO(content)
    if _interpret(file, lambda _: 0) != _MAGIC:
        return  # PyTorch says what it is
    for _ in range(_LEGACY_PICKLES):
        _interpret(file, lambda _: len(content))


def _check_archive(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            records = archive.infolist()
            _check_records(records, len(content))
            top = records[0].filename.partition("/")[0] if records else ""
            program = archive.read(f"{top}/data.pkl")
    except PickleError:
        raise
    except Exception as error:  # zipfile fails in many ways
        raise PickleError(f"its archive is truncated or damaged ({shortened(str(error))})") from error
    sizes = {record.filename: record.file_size for record in records}
    _interpret(io.BytesIO(program), lambda key: sizes.get(f"{top}/data/{key}", 0))


def _check_records(records: list[zipfile.ZipInfo], size: int) -> None:
    unpacked = sum(record.file_size for record in records)
    if unpacked > max(_FREE_EXPANSION, MAX_EXPANSION * size):
        raise PickleError(f"unpacked it has {unpacked:,} bytes, but the file has {size:,}")
    # PyTorch does not tell capital letters from small ones.
    if len({record.filename.lower() for record in records}) < len(records):
        raise PickleError("two records of its archive have the same name")


@dataclass(frozen=True, slots=True)
class _Symbol:
    """An object of a pickle that is no constant. ``weight`` is the number of objects that its hash visits.

    ``name`` is that of a class or function. ``items`` are those of a tuple.
    """

    name: str = ""
    items: tuple[Any, ...] | None = None
    weight: int = 1


_MARK = _Symbol("mark")


class _Machine:
    """Interprets a pickle. Contents of lists and dictionaries are forgotten, for they have no hash."""

    def __init__(self, size_of: Callable[[str], int]) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._size_of = size_of
        self.result: Any = None

    def apply(self, instruction: str, argument: Any) -> None:
        """The effect of one instruction."""
        effect = _EFFECTS.get(instruction)
        if effect is not None:
            effect(self, argument)
        elif isinstance(argument, int | float | str | bytes):
            self._stack.append(argument)
        else:
            raise PickleError(f"its pickle has the instruction {instruction}, which PyTorch does not write")

    def stop(self) -> None:
        self.result = self._stack.pop()

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def drop(self, count: int) -> None:
        for _ in range(count):
            self._stack.pop()

    def to_mark(self) -> list[Any]:
        """Remove everything down to the last mark, and return it."""
        items: list[Any] = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def forget(self) -> None:
        """The items of a list or a dictionary."""
        self.to_mark()

    def remember(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    def recall(self, number: int) -> None:
        self._stack.append(self._memo[number])

    def name(self, name: str) -> None:
        """A class or function."""
        self._stack.append(_Symbol(name))

    def tuple_of(self, items: list[Any]) -> None:
        weight = 1 + sum(map(_weight, items))
        if weight > _MAX_WEIGHT:
            raise PickleError(f"its pickle has a tuple of more than {_MAX_WEIGHT:,} parts")
        self._stack.append(_Symbol(items=tuple(items), weight=weight))

    def last_as_tuple(self, count: int) -> None:
        self.tuple_of([self._stack.pop() for _ in range(count)][::-1])

    def call(self) -> None:
        arguments = self._stack.pop()
        self._stack[-1] = _Symbol(weight=_weight(arguments))

    def storage(self) -> None:
        """Check the size of a storage: ('storage', class, key, device, number of values, ...)."""
        identity = self._stack.pop()
        match identity.items if isinstance(identity, _Symbol) else None:
            case (_, _Symbol(name=name), str(key), _, int(count), *_):
                kind = name.rpartition(" ")[2].removesuffix("Storage")
                size, most = count * _ITEM_SIZES.get(kind, 1), self._size_of(key)
                if not 0 <= size <= most:
                    raise PickleError(f"its tensor {key!r:.60} has {size:,} bytes, its file {most:,} for it")
            case _:
                raise PickleError("its pickle names a storage in a way that PyTorch does not write")
        self._stack.append(_Symbol())


# Instructions that are not here push their argument, a constant.
_EFFECTS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _, __: None,
    "STOP": lambda machine, _: machine.stop(),
    "MARK": lambda machine, _: machine.push(_MARK),
    "GLOBAL": _Machine.name,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "EMPTY_TUPLE": lambda machine, _: machine.tuple_of([]),
    "TUPLE": lambda machine, _: machine.tuple_of(machine.to_mark()),
    "TUPLE1": lambda machine, _: machine.last_as_tuple(1),
    "TUPLE2": lambda machine, _: machine.last_as_tuple(2),
    "TUPLE3": lambda machine, _: machine.last_as_tuple(3),
    "EMPTY_LIST": lambda machine, _: machine.push(_Symbol()),
    "EMPTY_DICT": lambda machine, _: machine.push(_Symbol()),
    "EMPTY_SET": lambda machine, _: machine.push(_Symbol()),
    "APPEND": lambda machine, _: machine.drop(1),
    "APPENDS": lambda machine, _: machine.forget(),
    "SETITEM": lambda machine, _: machine.drop(2),
    "SETITEMS": lambda machine, _: machine.forget(),
    "BUILD": lambda machine, _: machine.drop(1),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.call(),
    "BINPERSID": lambda machine, _: machine.storage(),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
}


def _interpret(file: io.BytesIO, size_of: Callable[[str], int]) -> Any:
    """The object of one pickle. ``size_of`` gives the bytes of a storage by its key."""
    machine = _Machine(size_of)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.apply(opcode.name, argument)
        return machine.result
    except PickleError:
        raise
    except (IndexError, KeyError, ValueError) as error:
        raise PickleError(f"its pickle is damaged ({type(error).__name__})") from error


def _weight(value: Any) -> int:
    return value.weight if isinstance(value, _Symbol) else 1
