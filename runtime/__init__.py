"""Run bundles. A device installs this part; it imports neither torch nor the exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multires_edge.base.lazy import lazy_names

if TYPE_CHECKING:
    from multires_edge.base.errors import MultiresError
    from multires_edge.runtime.bundle import Bundle, open_bundle
    from multires_edge.runtime.ecg.stream import EcgStream
    from multires_edge.runtime.ecg.streams import EcgStreams
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Bundle": "runtime.bundle",
        "EcgStream": "runtime.ecg.stream",
        "EcgStreams": "runtime.ecg.streams",
        "FullGraph": "runtime.full",
        "MultiresError": "base.errors",
        "PixelSampler": "runtime.images.sampling",
        "Stream": "runtime.stream",
        "StreamState": "runtime.state",
        "evaluate": "runtime.evaluation.evaluate",
        "open_bundle": "runtime.bundle",
        "sample": "runtime.images.sampling",
    },
)
