"""The report's charts show what they are given."""

from __future__ import annotations

import re

import numpy as np
import pytest

from multires_edge.calibration.table import Histogram, TensorRange
from multires_edge.export.charts import error_chart, histogram_chart
from multires_edge.format.comparison import LIMITS, Check


def values(thresholds: list[float], counts: np.ndarray) -> TensorRange:
    histogram = Histogram(4.0, tuple(counts.tolist()))
    return TensorRange(tuple(thresholds), 3.0, int(counts.sum()), 30.0, histogram)


@pytest.mark.parametrize(("threshold", "x"), [(1.5, 88.0), (3.0, 176.0), (3.9, 176.0)])
def test_the_thresholds_stand_where_they_cut(threshold: float, x: float) -> None:
    """Bins up to 4, of which those up to 3 hold anything: the picture ends at 3."""
    counts = np.zeros(64, np.int64)
    counts[:48] = np.arange(48, 0, -1)
    svg = histogram_chart(values([threshold, 0.75, threshold], counts))
    least, largest = (float(edge) for edge in re.findall(r"M([\d.]+) 0H([\d.]+)V", svg)[0])
    assert [least, largest] == pytest.approx([44, x], abs=0.1)
    heights = [56 - float(y) for y in re.findall(r"V([\d.]+)h", svg)]
    assert len(heights) == 48 and heights == sorted(heights, reverse=True)
    assert heights[0] == pytest.approx(56, abs=0.1) and heights[-1] > 0
    assert len(svg) < 2000


def test_errors_have_a_panel_a_precision() -> None:
    checks = []
    names = {"step graph": "fp32", "fp16: step graph": "fp16", "opset17, fp16: step graph": "fp16"}
    for name, precision in (names | {"int8: step graph": "int8"}).items():
        check = Check(name, "step", "", precision)
        check.compare(np.full((1, 1, 50), 1.001), np.ones((1, 1, 50)), over_time=True)
        checks.append(check)
    svg = error_chart(checks)
    assert [len(re.findall(f">{precision}</text>", svg)) for precision in LIMITS] == [1, 1, 1]
    assert len(re.findall(">step graph</text>", svg)) == 1, "one legend"
    colours = re.findall(r"#[0-9a-f]{6}", svg)
    assert colours and len(colours) == len(re.findall(r"var\(--[a-z0-9-]+,#[0-9a-f]{6}\)", svg))
    assert svg.startswith("<svg") and error_chart([]).startswith("<svg")
