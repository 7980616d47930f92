"""Running bundles: what a device installs. Never imports torch or the exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multires_edge.runtime.bundle import Bundle, open_bundle
    from multires_edge.runtime.ecg.streams import EcgStream, EcgStreams
    from multires_edge.runtime.errors import MultiresError
    from multires_edge.runtime.evaluation import evaluate
    from multires_edge.runtime.full import FullGraph
    from multires_edge.runtime.sampling import PixelSampler, sample
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
    "Bundle": "bundle",
    "EcgStream": "ecg.streams",
    "EcgStreams": "ecg.streams",
    "FullGraph": "full",
    "MultiresError": "errors",
    "PixelSampler": "sampling",
    "Stream": "stream",
    "StreamState": "state",
    "evaluate": "evaluation",
    "open_bundle": "bundle",
    "sample": "sampling",
}


def __getattr__(name: str) -> Any:
    # numpy and ONNX Runtime wait until something needs them: a command's --help does not.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
