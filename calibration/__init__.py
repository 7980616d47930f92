"""Ranges of tensors, measured on real data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multires_edge.base.lazy import lazy_names

if TYPE_CHECKING:
    from multires_edge.calibration.measure import calibrate
    from multires_edge.calibration.table import CalibrationTable

__all__ = ["CalibrationTable", "calibrate"]

__getattr__, __dir__ = lazy_names(
    __name__, {"CalibrationTable": "calibration.table", "calibrate": "calibration.measure"}
)
