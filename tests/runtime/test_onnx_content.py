"""Graphs with what no export writes are refused before ONNX Runtime sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from multires_edge.base.errors import BundleError
from multires_edge.format.targets import FORMS
from multires_edge.runtime import open_bundle
from multires_edge.runtime.onnx_content import OnnxContentError, check_onnx
from tests.conftest import random_net, variant
from tests.export.every_graph import INT8_QUEUES, KINDS, every_graph
from tests.forged import replace_file


def outside(name: str = "secret") -> TensorProto:
    """A tensor whose data is in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[1, 32])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("offset", "0"), ("length", "32")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def inside(name: str = "constant") -> TensorProto:
    return onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), name)


def model(graph: onnx.GraphProto | None = None) -> onnx.ModelProto:
    graph = graph or helper.make_graph(
        [helper.make_node("Add", ["x", "constant"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [inside()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def attribute(**fields: Any) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(onnx.AttributeProto(name="value", **fields))
    return node


def sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=tensor, indices=inside(), dims=[3])


def within_a_node(node: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    return lambda m: m.graph.node.append(node)


SUBGRAPH = helper.make_graph([], "body", [], [], [outside()])
PLACES: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "an initializer": lambda m: m.graph.initializer.append(outside()),
    "a sparse initializer": lambda m: m.graph.sparse_initializer.append(sparse(outside())),
    "a constant": within_a_node(attribute(t=outside(), type=onnx.AttributeProto.TENSOR)),
    "a list of constants": within_a_node(attribute(tensors=[inside(), outside()])),
    "a sparse constant": within_a_node(attribute(sparse_tensor=sparse(outside()))),
    "a list of sparse constants": within_a_node(attribute(sparse_tensors=[sparse(outside())])),
    "the body of a loop": within_a_node(attribute(g=SUBGRAPH)),
    "a branch": within_a_node(attribute(graphs=[SUBGRAPH])),
    "a function": lambda m: m.functions.add(name="f", node=[attribute(t=outside())]),
    "a default of a function": lambda m: m.functions.add(
        name="f", attribute_proto=[onnx.AttributeProto(name="a", t=outside())]
    ),
    "the initialization of training": lambda m: m.training_info.add(initialization=SUBGRAPH),
    "a step of training": lambda m: m.training_info.add(algorithm=SUBGRAPH),
    "a place without the mark": lambda m: m.graph.initializer.append(
        TensorProto(name="a", external_data=[onnx.StringStringEntryProto(key="location", value="a")])
    ),
    "a mark without a place": lambda m: m.graph.initializer.append(
        TensorProto(name="a", data_location=TensorProto.EXTERNAL)
    ),
}
OTHERS: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "a loop": within_a_node(attribute(g=helper.make_graph([], "body", [], []))),
    "a function": lambda m: m.functions.add(name="f"),
    "a contributed operator": within_a_node(helper.make_node("EPContext", [], ["c"], domain="com.microsoft")),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_in_another_file(place: str) -> None:
    changed = model()
    PLACES[place](changed)
    with pytest.raises(OnnxContentError, match="which no export writes"):
        check_onnx(changed.SerializeToString())


@pytest.mark.parametrize("other", OTHERS)
def test_what_exports_never_write(other: str) -> None:
    changed = model()
    OTHERS[other](changed)
    with pytest.raises(OnnxContentError, match="which no export writes"):
        check_onnx(changed.SerializeToString())


@pytest.mark.parametrize("graph", ["full", "step"])
def test_a_bundle_with_such_a_graph(graph: str, bundle: Path) -> None:
    changed = onnx.load(bundle / f"{graph}.onnx")
    changed.graph.initializer.append(outside())
    replace_file(bundle, f"{graph}.onnx", changed.SerializeToString())
    opened = open_bundle(bundle)
    with pytest.raises(BundleError, match=rf"{graph}\.onnx: has a tensor in another file, which no export"):
        opened.full(provider="cpu") if graph == "full" else opened.stream(backend="onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_graph_of_exports_is_taken(kind: str, form: str, tmp_path: Path) -> None:
    changes, pooling = KINDS[kind]
    for precision in ("fp32", "fp16", "int8", INT8_QUEUES):
        for graph in every_graph(
            random_net(variant(**changes)), pooling, precision, FORMS[form], tmp_path
        ).values():
            check_onnx(graph.SerializeToString())


def refused(message: Message) -> bool:
    """What the walk looks for, found by protobuf's own reflection."""
    name = type(message).__name__
    if name in ("SparseTensorProto", "FunctionProto", "TrainingInfoProto"):
        return True
    if name == "TensorProto" and (message.external_data or message.data_location):
        return True
    if name == "NodeProto" and message.domain not in ("", "ai.onnx"):
        return True
    for field, value in message.ListFields():
        if field.message_type is not None:
            items = [value] if isinstance(value, Message) else value
            if name == "AttributeProto" and field.message_type.name == "GraphProto":
                return True
            if any(refused(item) for item in items):
                return True
    return False


def taken(content: bytes) -> bool:
    try:
        check_onnx(content)
    except OnnxContentError as error:
        assert str(error).isprintable()
        return False
    return True


@given(
    places=st.lists(st.sampled_from([*PLACES.values(), *OTHERS.values()]), max_size=2),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=3),
    cut=st.none() | st.integers(0, 1 << 20),
)
def test_the_walk_never_sees_less_than_protobuf(
    places: list[Callable[[onnx.ModelProto], Any]], flips: list[tuple[int, int]], cut: int | None
) -> None:
    changed = model()
    for place in places:
        place(changed)
    content = bytearray(changed.SerializeToString())
    for where, value in flips:
        content[where % len(content)] = value
    if cut is not None:
        del content[cut % (len(content) + 1) :]
    try:
        parsed = onnx.ModelProto.FromString(bytes(content))
    except DecodeError:
        return  # ONNX Runtime cannot load it either
    if refused(parsed):
        assert not taken(bytes(content))
    if not flips and cut is None:
        assert taken(bytes(content)) == (not refused(parsed))


@given(st.binary(max_size=60))
def test_any_bytes(content: bytes) -> None:
    taken(content)


def varint(value: int, size: int = 0) -> bytes:
    """A number, with zeros in front up to a size that protobuf also takes."""
    digits: list[int] = []
    while value or not digits or len(digits) < size:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits[:-1], digits[-1] & 0x7F])


def field(number: int, wire: int, value: bytes, size: int = 0) -> bytes:
    length = varint(len(value), size) if wire == 2 else b""
    return varint(number << 3 | wire, size) + length + value


class TestOtherWaysToWriteIt:
    """Protobuf takes several encodings of the same message."""

    def wrapped(self, tensor: bytes, size: int = 0) -> bytes:
        return bytes(model().SerializeToString()) + field(7, 2, field(5, 2, tensor, size), size)

    def test_numbers_with_zeros_in_front(self) -> None:
        content = self.wrapped(field(14, 0, varint(1, 5), 5), 5)
        assert onnx.ModelProto.FromString(content).graph.initializer[1].data_location == 1
        assert not taken(content)

    def test_a_mark_that_is_given_twice(self) -> None:
        assert not taken(self.wrapped(field(14, 0, b"\1") + field(14, 0, b"\0")))
        assert not taken(self.wrapped(field(14, 0, b"\0") + field(14, 0, b"\1")))

    def test_a_graph_in_pieces(self) -> None:
        """A message that comes twice is merged."""
        assert not taken(self.wrapped(b"\x0a\0" + field(13, 2, b"")))
        assert taken(self.wrapped(field(14, 0, b"\0")))

    @pytest.mark.parametrize("wire", [1, 3, 4, 5, 6, 7])
    def test_other_wire_types(self, wire: int) -> None:
        assert not taken(field(7, wire, b"\0" * 8))

    def test_lengths_that_lie(self) -> None:
        for size in (5, 1 << 31, 1 << 40, 1 << 63):
            assert not taken(varint(7 << 3 | 2) + varint(size) + b"abc")
        assert not taken(b"\x80" * 20)

    def test_many_nested_messages_need_no_recursion(self) -> None:
        content = b""
        for _ in range(5000):
            content = field(6, 2, content)
        assert not taken(field(7, 2, field(1, 2, field(5, 2, content))))


def test_a_large_graph_is_skipped_by_its_lengths() -> None:
    """The walk reads no weights: it calls nothing for each of their bytes."""
    changed = model()
    changed.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1 << 24, np.float32), "large"))
    content = Counted(changed.SerializeToString())
    check_onnx(content)
    assert content.reads < 2000


class Counted(bytes):
    """Bytes that count how many of them are read."""

    reads = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.reads += 1 if isinstance(found, int) else len(found)
        return found


@pytest.mark.slow
def test_very_many_fields() -> None:
    with pytest.raises(OnnxContentError, match="more than 2,000,000 fields"):
        check_onnx(field(3, 0, b"\0") * 2_000_001)
