"""Ranges of tensors, measured on real data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multires_edge.calibration.measure import calibrate
    from multires_edge.calibration.table import CalibrationTable

__all__ = ["CalibrationTable", "calibrate"]

_HOMES = {
    "CalibrationTable": "multires_edge.calibration.table",
    "calibrate": "multires_edge.calibration.measure",
}


def __getattr__(name: str) -> Any:
    # The command line imports this package, and must not wait for numpy.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
