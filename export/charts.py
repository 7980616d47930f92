"""The charts of the report as inline SVG: errors over time with matplotlib, histograms without."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.palette import LIGHT, plot_style, themed
from multires_edge.calibration.table import TensorRange
from multires_edge.format.comparison import Check

_PLOTTED_POINTS = 400
_WIDTH, _HEIGHT = 176, 56


def error_chart(checks: list[Check]) -> str:
    """The error of each check over time, one panel per precision. A point is the maximum of its interval."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    panels: dict[str, list[Check]] = {}
    for check in checks:
        panels.setdefault(check.precision, []).append(check)
    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        axes: Any = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
        for panel, (precision, drawn) in zip(axes, panels.items(), strict=False):
            _draw_errors(panel, precision, drawn)
        axes[0].set_ylim(1e-10, None)
        axes[0].set_ylabel("error / max(1, |reference|)")
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, fontsize=8, ncols=3, loc="outside lower center", frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return themed(svg[svg.index("<svg") :])


def _draw_errors(panel: Any, precision: str, drawn: list[Check]) -> None:
    for check in drawn:
        steps, errors = _thinned(np.asarray(check.curve))
        # A logarithmic axis has no zero. Steps that were not compared are zero too.
        name = check.name.replace(f"{precision}: ", "", 1)
        panel.plot(steps, np.where(errors > 0, errors, np.nan), linewidth=0.8, label=name)
    if drawn[0].limit.measure == "max":
        panel.axhline(drawn[0].limit.value, color=LIGHT.bad, linestyle="--", linewidth=1, label="limit")
    panel.set_title(precision, fontsize=10)
    panel.set_yscale("log")
    panel.set_xlabel("step")
    panel.grid()


def _thinned(curve: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    stride = -(-len(curve) // _PLOTTED_POINTS)
    starts = np.arange(0, len(curve), stride)
    return starts, np.maximum.reduceat(curve, starts)


def histogram_chart(values: TensorRange) -> str:
    """Magnitudes from 0 to the last bin that is not empty, counts on a log axis, and the thresholds.

    The report's style sheet colours ``counts`` and ``cut``, the band from the smallest to the largest
    threshold of the channels.
    """
    counts = np.asarray(values.histogram.counts)
    bins = int(np.flatnonzero(counts)[-1]) + 1
    tallest = math.log1p(float(counts.max()))
    heights = _HEIGHT * np.log1p(counts[:bins].astype(np.float64)) / tallest
    step = _WIDTH / bins
    outline = "".join(f"V{_HEIGHT - h:.1f}h{step:.2f}" for h in heights)
    end = values.histogram.range * bins / len(counts)
    low, high = values.limits
    left, right = (min(threshold / end, 1.0) * _WIDTH for threshold in (low, high))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="histogram of magnitudes up to {end:.3g}, thresholds {low:.3g} to {high:.3g}">'
        f'<path d="M0 {_HEIGHT}{outline}V{_HEIGHT}z" class="counts"/>'
        f'<path d="M{left:.1f} 0H{right:.1f}V{_HEIGHT}H{left:.1f}z" class="cut"/></svg>'
    )
