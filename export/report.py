"""``report.html``: parity, graphs and states for people, in one file without links."""

from __future__ import annotations

from pathlib import Path

from multires_edge.export.charts import error_chart, histogram_chart
from multires_edge.export.parity import Proof
from multires_edge.export.quantization import Quantization
from multires_edge.export.statistics import GraphStatistics
from multires_edge.format.config import ModelConfig
from multires_edge.format.manifest import Manifest


def write_report(
    path: Path,
    manifest: Manifest,
    proof: Proof,
    statistics: dict[str, GraphStatistics],
    folder: Path,
    quantization: Quantization | None = None,
) -> None:
    """Write the report of a bundle whose graphs are in ``folder``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("multires_edge.export", ""),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    config = manifest.model
    states = manifest.graph("step", "fp32").states
    page = environment.get_template("report.html.j2").render(
        manifest=manifest.to_json(),
        preprocessing=manifest.preprocessing.rows() if manifest.preprocessing else [],
        proof=proof,
        config=config,
        statistics=statistics,
        opsets={name: spec.opset for name, spec in manifest.graph_files().items()},
        sizes={name: (folder / name).stat().st_size for name in statistics},
        states=states,
        state_bytes={precision: spec.state_bytes for precision, spec in manifest.graphs["step"].items()},
        minimum_bytes=minimum_state_bytes(config),
        error_chart=error_chart([check for check in proof.checks if check.curve]),
        quantization=quantization,
        histograms={
            weight.name: histogram_chart(weight.range)
            for weight in (quantization.weights if quantization else [])
            if weight.range is not None
        },
    )
    path.write_text(page, encoding="utf-8")


def minimum_state_bytes(config: ModelConfig) -> int:
    """The minimum state of an exact float32 stream: every past step of every queue, once."""
    return sum(config.history()) * config.n_layers * config.d_model * 4
