"""Reads XML into a tree. No entity is expanded, nothing outside the file is read, and the size is bounded."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from multires_edge.runtime.ecg.sources.recordings.record import Damaged

_ELEMENTS_MOST, _DEPTH_MOST = 1_000_000, 100
_SEPARATOR = "}"


def read_tree(data: bytes) -> Element:
    """The root element. Names have no namespaces. Raises Damaged."""
    builder, open_elements, count = TreeBuilder(), 0, 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal open_elements, count
        open_elements, count = open_elements + 1, count + 1
        if open_elements > _DEPTH_MOST or count > _ELEMENTS_MOST:
            raise Damaged("too many elements")
        builder.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal open_elements
        open_elements -= 1
        builder.end(_local(name))

    def refuse(*_: Any) -> None:
        raise Damaged("a definition of an entity, which is not read")

    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Damaged(f"no XML from line {error.lineno} on") from None
    return builder.close()


def _local(name: str) -> str:
    return name.rpartition(_SEPARATOR)[2]


def text_of(element: Element, path: str, default: str = "") -> str:
    """The text of an element below, without blanks around it."""
    found = element.find(path)
    return default if found is None or found.text is None else found.text.strip()


def number_of(text: str | None, what: str) -> float:
    """A number, with a decimal point or comma. Raises Damaged."""
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e15:
        raise Damaged(f"the {what} is no number")
    return value
