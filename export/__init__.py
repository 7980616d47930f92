"""From a checkpoint to a proven bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multires_edge.export.bundle import ExportResult, ParityError, export_bundle

__all__ = ["ExportResult", "ParityError", "export_bundle"]


def __getattr__(name: str) -> Any:
    # torch and onnx take seconds to import, and a command's --help needs neither.
    if name in __all__:
        from multires_edge.export import bundle

        return getattr(bundle, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
