"""Checkpoints whose pickles lie about sizes or take forever: each is refused before PyTorch acts on it."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from multires_edge.base.errors import CheckpointError
from multires_edge.models import load_checkpoint
from multires_edge.models.network import MultiresNet
from multires_edge.models.pickle_check import PickleError, check_checkpoint
from multires_edge.models.unpickling import load_pickle
from tests.conftest import SMALL, random_net, variant
from tests.hostile import within


@dataclass
class Storage:
    """What a pickle says of a storage."""

    count: int
    key: str = "0"
    kind: Any = torch.FloatStorage


@dataclass
class Tensor:
    """What a pickle says of a tensor."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    storage: Storage = field(default_factory=lambda: Storage(4))
    offset: int = 0

    def __reduce__(self) -> Any:
        arguments: tuple[Any, ...] = (self.storage, self.offset, self.size, self.stride, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return ("storage", obj.kind, obj.key, "cpu", obj.count) if isinstance(obj, Storage) else None


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def archive(pickle: bytes, records: dict[str, bytes] | None = None, method: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        packed.writestr("archive/data.pkl", pickle)
        packed.writestr("archive/byteorder", "little")
        for name, content in ({"data/0": bytes(16)} if records is None else records).items():
            packed.writestr(f"archive/{name}", content)
        packed.writestr("archive/version", "3\n")
    return file.getvalue()


class Key:
    """A dictionary whose key is a tuple of tuples of tuples: its hash visits 2^60 of them."""

    def __reduce__(self) -> Any:
        key: Any = (0,)
        for _ in range(60):
            key = (key, key)
        return OrderedDict, (), None, None, iter([(key, 1)])


class Counted:
    """The same, hashed by a constructor."""

    def __reduce__(self) -> Any:
        key: Any = (0,)
        for _ in range(60):
            key = (key, key)
        return OrderedDict, ([(key, 1)],)


RIGHT = archive(pickled({"a": Tensor((2, 2), (2, 1))}))
HOSTILE = {
    "more values than its record": archive(pickled({"a": Tensor((1000,), (1,), Storage(1000))})),
    "values and no record": archive(pickled({"a": Tensor((4,), (1,), Storage(4, "1"))})),
    "less than no values": archive(pickled({"a": Tensor((4,), (1,), Storage(-4))})),
    "more values than memory": archive(pickled({"a": Tensor((1 << 50,), (1,), Storage(1 << 50))})),
    "wider values": archive(pickled({"a": Tensor((4,), (1,), Storage(4, kind=torch.DoubleStorage))})),
    "strides beyond its storage": archive(pickled({"a": Tensor((2, 2), (100, 1))})),
    "an offset beyond its storage": archive(pickled({"a": Tensor((4,), (1,), offset=1)})),
    "a negative offset": archive(pickled({"a": Tensor((4,), (1,), offset=-1)})),
    "a negative stride": archive(pickled({"a": Tensor((4,), (-1,), offset=3)})),
    "a negative size": archive(pickled({"a": Tensor((-4,), (1,))})),
    "a record that unpacks to a hundred times its size": archive(
        pickled({}), {"data/0": bytes(80 << 20)}, zipfile.ZIP_DEFLATED
    ),
    "records that differ in case": archive(pickled({}), {"data/a": b"1", "data/A": b"22"}),
    "a key whose hash takes forever": archive(pickled(Key())),
    "pairs whose hash takes forever": archive(pickled(Counted())),
    "a text of four gigabytes": archive(b"\x80\2X\xff\xff\xff\xff."),
    "nothing to remove": archive(b"\x80\2t."),
    "a memory of nothing": archive(b"\x80\2h\5."),
    "an instruction of later protocols": archive(pickle.dumps({}, protocol=4)),
    "no end": archive(b"\x80\2}"),
    "no pickle": archive(b""),
    "an old file with more values than it has": pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    + pickle.dumps(1001, protocol=2)
    + pickle.dumps({"little_endian": True}, protocol=2)
    + pickled({"a": Tensor((1 << 30,), (1,), Storage(1 << 30))})
    + pickle.dumps(["0"], protocol=2)
    + bytes(24),
}


DEEP = {
    "lists in lists in lists": archive(b"\x80\2" + b"]" * 200_000 + b"a" * 199_999 + b"."),
    "tuples in tuples in tuples": archive(b"\x80\2)" + b"\x85" * 200_000 + b"."),
    "a list that contains itself": archive(b"\x80\2]q\0h\0a."),
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.slow
def test_deep(kind: str, tmp_path: Path) -> None:
    (tmp_path / "ckpt.pth").write_bytes(DEEP[kind])
    with within(10), pytest.raises(CheckpointError) as refusal:
        load_checkpoint(tmp_path / "ckpt.pth")
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile(kind: str, tmp_path: Path) -> None:
    (tmp_path / "ckpt.pth").write_bytes(HOSTILE[kind])
    with within(10), pytest.raises(CheckpointError) as refusal:
        load_pickle(tmp_path / "ckpt.pth")
    assert str(refusal.value).isprintable()


def test_right(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pth").write_bytes(RIGHT)
    assert torch.equal(load_pickle(tmp_path / "ckpt.pth")["a"], torch.zeros(2, 2))


def test_values_that_are_repeated(tmp_path: Path) -> None:
    """A network of terabytes in a file of kilobytes: views whose strides are 0."""
    with torch.device("meta"):
        state = MultiresNet(variant(d_model=1 << 20)).state_dict()
    torch.save(
        {name: torch.zeros(1).expand(like.shape) for name, like in state.items()}, tmp_path / "ckpt.pth"
    )
    (tmp_path / "args.txt").write_text("")
    with within(10), pytest.raises(CheckpointError, match=r"its tensors have .* bytes, but the file has"):
        load_checkpoint(tmp_path / "ckpt.pth")


def forms() -> Iterator[bytes]:
    """What PyTorch writes of a network and its optimizer."""
    net = random_net(SMALL)
    net.requires_grad_(True)
    optimizer = torch.optim.AdamW(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "half": torch.ones(3).bfloat16()}
    state |= {
        "view": torch.arange(10)[2:7:2],
        "none": torch.zeros(0),
        "more": [(1, (2.5, None)), {"a": True}],
    }
    for new in (True, False):
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=new)
        yield file.getvalue()


@pytest.mark.parametrize("content", list(forms()), ids=["archive", "old"])
def test_what_pytorch_writes_is_taken(content: bytes) -> None:
    check_checkpoint(content)


def test_a_tuple_is_weighed_by_what_its_hash_visits() -> None:
    wide = b"\x80\2(" + b"K\0" * 999 + b"tq\0"
    for instruction in (b"(" + b"h\0" * 1100 + b"t", b"(" + b"h\0" * 900 + b"t"):
        content = archive(wide + instruction + b".")
        if len(instruction) > 2000:
            with pytest.raises(PickleError, match="a tuple of more than 1,000,000 parts"):
                check_checkpoint(content)
        else:
            check_checkpoint(content)


def test_every_instruction_is_known_or_refused() -> None:
    """Each instruction alone does what PyTorch's reader would do, or is an error in words."""
    for opcode in pickletools.opcodes:
        with pytest.raises(PickleError):
            check_checkpoint(archive(b"\x80\2" + opcode.code.encode("latin-1")))
