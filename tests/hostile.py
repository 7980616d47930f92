"""Documents with hostile values in them."""

from __future__ import annotations

from typing import Any


def put(entry: Any, path: str, value: Any) -> Any:
    """Set the value at a path such as ``graphs.step.fp32.states.0.shape``; returns the document."""
    *parents, last = path.split(".")
    node = entry
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[int(last) if isinstance(node, list) else last] = value
    return entry
