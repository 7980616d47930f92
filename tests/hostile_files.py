"""Files with hostile bytes in them: generated, and used in a process of their own, which may crash or hang.

    python -m tests.hostile_files USE SUFFIX FOLDER FIRST

uses the files 0, 1, ... of a folder from the number FIRST on, and prints a line before and after each.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import io
import json
import os
import random
import resource
import selectors
import struct
import subprocess
import sys
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from multires_edge.base.errors import MultiresError
from tests.conftest import ROOT
from tests.hostile import ONE_LINE, hostile_documents

_SECONDS = 60  # none of the files is large
_ADDRESSES = 12 << 30  # torch alone maps gigabytes
_LEAK = 300 << 20  # far more than one file, and than what libraries keep


def damaged(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """A copy with one to three changes of its bytes, and what was changed."""
    data, changes = bytearray(content), []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        where, size = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 8, 100))
        match draw.randrange(8):
            case 0:
                del data[where:]
                changes.append(f"cut at {where}")
            case 1:
                data[where : where + size] = draw.randbytes(size)
                changes.append(f"{size} random bytes at {where}")
            case 2:
                data[where : where + size] = draw.choice((b"\0", b"\xff", b"\x7f")) * size
                changes.append(f"{size} equal bytes at {where}")
            case 3:
                del data[where : where + size]
                changes.append(f"{size} bytes removed at {where}")
            case 4:
                data[where:where] = draw.randbytes(size)
                changes.append(f"{size} bytes added at {where}")
            case 5:
                other = draw.randrange(len(data) + 1)
                data[where : where + size] = data[other : other + size]
                changes.append(f"{size} bytes of {other} at {where}")
            case 6:
                number = draw.choice((-1, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, 0))
                data[where : where + 8] = struct.pack("<Q", number & (1 << 64) - 1)
                changes.append(f"{number} at {where}")
            case _:
                for _ in range(draw.randrange(1, 9)):
                    if data:
                        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
                changes.append("bits flipped")
    return "; ".join(changes), bytes(data)


def hostile_safetensors(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Copies of a safetensors file with another header, or with other bytes."""
    draw = random.Random(seed)
    size = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    for change, entry in hostile_documents([header], count // 2, seed):
        text = json.dumps(entry).encode()
        text += b" " * (-len(text) % 8)
        yield change, struct.pack("<Q", len(text)) + text + data
    for _ in range(count - count // 2):
        if draw.random() < 0.5:  # the values alone
            change, values = damaged(data, draw)
            yield change, content[: 8 + size] + values
        else:
            yield damaged(content, draw)


def hostile_zip(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Copies of a zip archive, with other members of right checksums, or with other bytes."""
    draw = random.Random(seed)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(count):
        if draw.random() < 0.3:
            yield damaged(content, draw)
            continue
        # Two of three times what names the others: a pickle or a header.
        names = [name for name in members if name.endswith((".pkl", ".json"))] or list(members)
        name = draw.choice(names if draw.random() < 0.67 else list(members))
        change, data = damaged(members[name], draw)
        changed = members | {name: data}
        match draw.randrange(8):
            case 0:
                del changed[name]
                change = "removed"
            case 1:
                changed[f"{name}0"] = changed.pop(name)
                change = "renamed"
            case 2:
                changed[name] = bytes(20 << 20)
                change = "20 MB of zeros"
        packed = io.BytesIO()
        method = zipfile.ZIP_DEFLATED if draw.random() < 0.2 else zipfile.ZIP_STORED
        with zipfile.ZipFile(packed, "w", method) as archive:
            for member, data in changed.items():
                archive.writestr(member, data)
        yield f"{name}: {change}", packed.getvalue()


def hostile_onnx(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Copies of a graph with other fields, which protobuf can parse, or with other bytes."""
    import onnx

    draw = random.Random(seed)
    for _ in range(count):
        if draw.random() < 0.2:
            yield damaged(content, draw)
            continue
        model = onnx.ModelProto.FromString(content)
        changes = [_change_field(model, draw) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
        yield "; ".join(changes), model.SerializeToString()


def _change_field(model: Any, draw: random.Random) -> str:
    """Change one field of a message somewhere in a message."""
    places = list(_fields(model))
    # Kinds of fields first: there are far more names than, say, types of tensors.
    kinds = sorted({(type(message).__name__, field.name) for message, field in places})
    kind = draw.choice(kinds)
    message, field = draw.choice([p for p in places if (type(p[0]).__name__, p[1].name) == kind])
    value, what = getattr(message, field.name), ".".join(kind)
    if isinstance(value, int | float | str | bytes):
        other = _other_value(value, model, draw)
        try:
            setattr(message, field.name, other)
        except (TypeError, ValueError):  # not within the field's type
            message.ClearField(field.name)
        return f"{what} = {other!r:.60}"
    if not hasattr(value, "append"):  # a message
        message.ClearField(field.name)
        return f"{what} removed"
    where = draw.randrange(len(value))
    match draw.randrange(3):
        case 0:
            del value[where]
            return f"{what}[{where}] removed"
        case 1:
            value.append(value[where])
            return f"{what}[{where}] repeated"
        case _:
            items = list(value)
            draw.shuffle(items)
            if field.message_type is None:
                items[where] = _other_value(items[where], model, draw)
            message.ClearField(field.name)
            with contextlib.suppress(TypeError, ValueError):
                getattr(message, field.name).extend(items)
            return f"{what} reordered"


def _fields(message: Any) -> Iterator[tuple[Any, Any]]:
    """Every field below a message that is there."""
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is not None:
            for item in value if hasattr(value, "append") else [value]:
                yield from _fields(item)


def _other_value(value: Any, model: Any, draw: random.Random) -> Any:
    if isinstance(value, bytes):
        return damaged(value, draw)[1] if len(value) < 1 << 16 else value[: len(value) // 2]
    if isinstance(value, str):
        names = [name for node in model.graph.node for name in (*node.input, *node.output, node.op_type)]
        return draw.choice([*names, "", "Loop", "\x1b[31m", "x" * 5000])
    if isinstance(value, float):
        return draw.choice((float("nan"), float("inf"), 0.0, -value, 1e30))
    return draw.choice(
        (value + 1, value - 1, -value, 0, 1 << 31, (1 << 31) - 1, (1 << 63) - 1, -1 << 63, 10, 1)
    )


class Trial:
    """Files in a folder, and what became of them."""

    def __init__(self, use: Callable[[Path], object], folder: Path, suffix: str = "") -> None:
        self._use, self._folder, self._suffix = f"{use.__module__}:{use.__qualname__}", folder, suffix
        self._changes: list[str] = []
        self.taken = self.refused = 0
        self.wrong: list[str] = []

    def add(self, files: Iterable[tuple[str, bytes]]) -> None:
        for change, content in files:
            (self._folder / f"{len(self._changes)}{self._suffix}").write_bytes(content)
            self._changes.append(change)

    def run(self) -> None:
        """Use every file. Fails for each that is not taken, or refused by a MultiresError of one line."""
        first = 0
        while first < len(self._changes):
            first = self._run_from(first)
        assert not self.wrong, f"{len(self.wrong)} of {len(self._changes)} files:\n" + "\n".join(
            self.wrong[:20]
        )

    def _run_from(self, first: int) -> int:
        """Use the files in a process until one crashes it or hangs. Returns the number after this one."""
        command = [
            sys.executable,
            "-m",
            "tests.hostile_files",
            self._use,
            self._suffix,
            str(self._folder),
            str(first),
        ]
        said = self._folder / "stderr"
        current, ended = first, False
        with (
            said.open("wb") as stderr,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT) as process,
        ):
            for line in _lines(process):
                what, _, rest = line.partition(" ")
                if what == "begin":
                    current, ended = int(rest), False
                elif what == "leaked":
                    self.wrong.append(f"memory grew by {int(rest):,} bytes")
                else:
                    ended = True
                    self.taken += what == "taken"
                    self.refused += what == "refused"
                    if what == "wrong":
                        self._note(current, json.loads(rest))
            if process.poll() is None and not ended:
                process.kill()
                self._note(current, "hangs")
            elif process.wait() or not ended:
                self._note(
                    current, f"exit code {process.returncode}\n{said.read_text(errors='replace')[-1500:]}"
                )
        return current + 1

    def _note(self, number: int, what: str) -> None:
        self.wrong.append(f"{number}: {self._changes[number]}\n{what}")


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines of a process, until it ends or says nothing for too long."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        rest = b""
        while selector.select(_SECONDS) and (piece := os.read(process.stdout.fileno(), 1 << 16)):
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line.decode() for line in lines)


def main(use: str, suffix: str, folder: str, first: str) -> None:
    """Use files one after another."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    module, _, name = use.partition(":")
    function: Any = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    number, at_first = int(first), None
    while (path := Path(folder) / f"{number}{suffix}").exists():
        print("begin", number, flush=True)
        try:
            function(path)
        except MultiresError as error:
            right = ONE_LINE.check(str(error)) is None
            print("refused" if right else f"wrong {json.dumps(repr(error))}", flush=True)
        except Exception:
            print("wrong", json.dumps(traceback.format_exc(limit=-8)), flush=True)
        else:
            print("taken", flush=True)
        number += 1
        if number == int(first) + 40:
            at_first = resident()
    if at_first is not None and resident() > at_first + _LEAK:
        print("leaked", resident() - at_first, flush=True)


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(*sys.argv[1:])
