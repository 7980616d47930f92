"""What a bundle's ONNX file may contain: only what exports write, and nothing that reads other files.

ONNX Runtime before 1.24 reads tensors from any path that a graph names, and a loop in a graph may never end.
So a graph is walked before it is loaded. The walk needs no onnx package. It knows the fields of onnx.proto
that lead to a tensor, and skips all others by their lengths: its time depends on the number of fields and not
on their sizes.

A field may come several times. A parser of protobuf then takes the last value, or merges the messages. The
walk refuses the graph for any of them, so it never sees less than the parser.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_FIELDS = 2_000_000  # a graph has some dozens per operator
_MAX_BYTES = (1 << 31) - 1  # of a message; of protobuf

# The messages inside a message, by the numbers of their fields in onnx.proto.
_INNER = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
}
_REFUSED = {
    "model": {20: "training information", 25: "a function"},
    "graph": {15: "a sparse tensor"},
    "node": {},
    "attribute": {6: "a graph within a graph", 11: "a graph within a graph", 22: "a sparse tensor",
                  23: "a sparse tensor"},
    "tensor": {13: "a tensor in another file"},
}  # fmt: skip
_DOMAIN = 7  # of a node
_DATA_LOCATION = 14  # of a tensor; 0 is in the graph


class OnnxContentError(ValueError):
    """A graph that no export writes."""


def check_onnx(content: bytes) -> None:
    """Raise OnnxContentError for a graph that is damaged, or has something that exports never write.

    Refused are tensors in other files, graphs within graphs (loops and branches), functions, sparse tensors,
    training information, and operators outside of the ONNX standard.
    """
    fields_left = _MAX_FIELDS
    messages = [("model", 0, len(content))]
    while messages:
        kind, start, end = messages.pop()
        inner, refused = _INNER[kind], _REFUSED[kind]
        for number, wire, first, last in _fields(content, start, end):
            fields_left -= 1
            if fields_left < 0:
                raise OnnxContentError(f"has more than {_MAX_FIELDS:,} fields, which no export writes")
            if number in refused:
                raise OnnxContentError(f"has {refused[number]}, which no export writes")
            if number in inner:
                if wire != _BYTES:
                    raise _damaged(f"a {inner[number]} of wire type {wire}")
                messages.append((inner[number], first, last))
            elif kind == "tensor" and number == _DATA_LOCATION:
                if wire != _VARINT or any(byte & 0x7F for byte in content[first:last]):
                    raise OnnxContentError("has a tensor in another file, which no export writes")
            elif kind == "node" and number == _DOMAIN and content[first:last] not in (b"", b"ai.onnx"):
                raise OnnxContentError("has an operator outside of the ONNX standard, which no export writes")


def _fields(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field of a message: number, wire type, and where its value begins and ends."""
    while at < end:
        tag, at = _varint(content, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >> 32:
            raise _damaged(f"a field with number {number}")
        first = at
        if wire == _VARINT:
            _, at = _varint(content, at, end)
        elif wire == _BYTES:
            size, first = _varint(content, at, end)
            if size > _MAX_BYTES:
                raise _damaged("a field of more than 2 GiB")
            at = first + size
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise _damaged(f"a field of wire type {wire}")
        if at > end:
            raise _damaged("a field that is longer than its message")
        yield number, wire, first, at


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of at most 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _damaged("a number without an end")


def _damaged(what: str) -> OnnxContentError:
    return OnnxContentError(f"is damaged or not an ONNX graph: it has {what}")
