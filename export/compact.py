"""What a graph's file can do without where bytes are what it is for.

The float32 graph is the one to read in a viewer: it has the shape of every value and says of every node
what it does. Graphs of other precisions have the same values under the same names, so they carry no
inferred shapes, and say what a node does once for all of its kind. Neither changes what is computed.
"""

from __future__ import annotations

import re

import onnx


def compact(model: onnx.ModelProto) -> None:
    """Drop inferred shapes and repeated descriptions, in place."""
    del model.graph.value_info[:]
    said: set[str] = set()
    for node in model.graph.node:
        kind = re.sub(r"\d+", "", node.doc_string)
        if kind in said:
            node.ClearField("doc_string")
        said.add(kind)
