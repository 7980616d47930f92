"""``report.html``: parity, graphs and states for a person, in one file that needs no network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.parity import Proof
from multires_edge.export.statistics import GraphStatistics
from multires_edge.models.config import ModelConfig
from multires_edge.runtime.comparison import LIMITS, Check
from multires_edge.runtime.manifest import Manifest

_PLOTTED_POINTS = 600


def write_report(
    path: Path,
    manifest: Manifest,
    proof: Proof,
    statistics: dict[str, GraphStatistics],
    folder: Path,
) -> None:
    """Render the report of a bundle whose graphs lie in ``folder``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("multires_edge.export", ""),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    config = ModelConfig.from_json(manifest.model)
    states = manifest.graph("step", "fp32").states
    page = environment.get_template("report.html.j2").render(
        manifest=manifest,
        proof=proof,
        config=config,
        statistics=statistics,
        sizes={name: (folder / name).stat().st_size for name in statistics},
        states=states,
        state_bytes=sum(state.row_bytes for state in states),
        minimum_bytes=minimum_state_bytes(config),
        # Other precisions are orders of magnitude away, and have their rows in the table.
        error_plot=_error_plot(
            [check for check in proof.checks if check.curve and check.limit == LIMITS["fp32"]]
        ),
    )
    path.write_text(page, encoding="utf-8")


def minimum_state_bytes(config: ModelConfig) -> int:
    """What any exact float32 stream must remember of the past: every step of every queue, once."""
    return sum(config.history()) * config.n_layers * config.d_model * 4


def _error_plot(checks: list[Check]) -> str:
    """Error over time of each check, as inline SVG; each point is the largest of its stretch."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes: Any = figure.subplots()
    for check in checks:
        steps, errors = _thinned(np.asarray(check.curve))
        # Zero has no place on a logarithmic axis; it also stands for steps that were not compared.
        axes.plot(steps, np.where(errors > 0, errors, np.nan), linewidth=1, label=check.name)
    if checks:
        axes.axhline(checks[0].limit.value, color="#b00020", linestyle="--", linewidth=1, label="limit")
        axes.legend(fontsize=8, ncols=2, loc="lower right")
    axes.set_yscale("log")
    axes.set_ylim(1e-10, None)
    axes.set_xlabel("step")
    axes.set_ylabel("error / max(1, |reference|)")
    axes.grid(alpha=0.3)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "multires-edge"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def _thinned(curve: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    stride = -(-len(curve) // _PLOTTED_POINTS)
    starts = np.arange(0, len(curve), stride)
    return starts, np.maximum.reduceat(curve, starts)
