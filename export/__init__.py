"""From a checkpoint to a proven bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multires_edge.base.lazy import lazy_names

if TYPE_CHECKING:
    from multires_edge.export.bundle import ExportResult, ParityError, export_bundle
    from multires_edge.export.module import export_module
    from multires_edge.export.options import ExportOptions, Int8Options
    from multires_edge.export.trace.module import ModuleParityError, ModuleResult

__all__ = [
    "ExportOptions",
    "ExportResult",
    "Int8Options",
    "ModuleParityError",
    "ModuleResult",
    "ParityError",
    "export_bundle",
    "export_module",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ExportOptions": "export.options",
        "ExportResult": "export.bundle",
        "Int8Options": "export.options",
        "ModuleParityError": "export.trace.module",
        "ModuleResult": "export.trace.module",
        "ParityError": "export.bundle",
        "export_bundle": "export.bundle",
        "export_module": "export.module",
    },
)
