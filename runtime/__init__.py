"""Run bundles. A device installs this part; it imports neither torch nor the exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multires_edge.base.errors import MultiresError
    from multires_edge.runtime.bundle import Bundle, open_bundle
    from multires_edge.runtime.ecg.streams import EcgStream, EcgStreams
    from multires_edge.runtime.evaluation.evaluate import evaluate
    from multires_edge.runtime.full import FullGraph
    from multires_edge.runtime.images.sampling import PixelSampler, sample
    from multires_edge.runtime.state import StreamState
    from multires_edge.runtime.stream import Stream

__all__ = [
    "Bundle",
    "EcgStream",
    "EcgStreams",
    "FullGraph",
    "MultiresError",
    "PixelSampler",
    "Stream",
    "StreamState",
    "evaluate",
    "open_bundle",
    "sample",
]

_HOMES = {
    "Bundle": "runtime.bundle",
    "EcgStream": "runtime.ecg.streams",
    "EcgStreams": "runtime.ecg.streams",
    "FullGraph": "runtime.full",
    "MultiresError": "base.errors",
    "PixelSampler": "runtime.images.sampling",
    "Stream": "runtime.stream",
    "StreamState": "runtime.state",
    "evaluate": "runtime.evaluation.evaluate",
    "open_bundle": "runtime.bundle",
    "sample": "runtime.images.sampling",
}


def __getattr__(name: str) -> Any:
    # Import numpy and ONNX Runtime only when needed: --help of a command answers faster without them.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"multires_edge.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
