"""``report.html``: parity, graphs and states for people, in one file without links."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx

from multires_edge.base import palette
from multires_edge.export.charts import error_chart, histogram_chart
from multires_edge.export.picture import duration, network_picture
from multires_edge.export.quantization import Quantization
from multires_edge.format.comparison import Check
from multires_edge.format.config import ModelConfig
from multires_edge.format.manifest import Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.parity import Parity

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class GraphStatistics:
    """Nodes by operator, number of weights and their bytes, and bytes of the file."""

    operators: dict[str, int]
    constants: int
    constant_bytes: int
    file_bytes: int

    @classmethod
    def of(cls, model: onnx.ModelProto, file_bytes: int) -> GraphStatistics:
        operators = Counter(node.op_type for node in model.graph.node)
        ordered = dict(sorted(operators.items(), key=lambda item: (-item[1], item[0])))
        sizes = [len(tensor.raw_data) for tensor in model.graph.initializer]
        return cls(ordered, len(sizes), sum(sizes), file_bytes)


class Proved(Protocol):
    """The proof of a network, of either kind."""

    checks: list[Check]
    data: str
    n_parameters: int

    @property
    def basis(self) -> str: ...
    @property
    def passed(self) -> bool: ...
    def parity(self) -> Parity: ...


def write_report(
    path: Path,
    manifest: Manifest,
    proof: Proved,
    statistics: dict[str, GraphStatistics],
    quantization: Quantization | None = None,
) -> None:
    """Write the report of a bundle; ``statistics`` are those of its graphs by file name."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("multires_edge.export", ""),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = isinstance(manifest.network, ModuleConfig)
    states = manifest.graph("step", "fp32").states
    rate = manifest.preprocessing.sampling_rate if manifest.preprocessing else None
    page = environment.get_template("report.html.j2").render(
        manifest=manifest.to_json(),
        palette=palette.css(),
        picture=network_picture(manifest),
        duration=lambda steps: duration(steps, rate),
        descriptions=(manifest.about and manifest.about.label_descriptions) or {},
        preprocessing=manifest.preprocessing.rows() if manifest.preprocessing else [],
        proof=proof,
        module=manifest.network if own else None,
        config=None if own else manifest.model,
        parity=proof.parity(),
        statistics=statistics,
        opsets={name: spec.opset for name, spec in manifest.graph_files().items()},
        states=states,
        state_bytes={precision: spec.state_bytes for precision, spec in manifest.graphs["step"].items()},
        minimum_bytes=0 if own else minimum_state_bytes(manifest.model),
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
