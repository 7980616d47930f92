"""Plan an int8 export: the parts to quantize, their ranges, and their description in the bundle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from multires_edge.calibration.measure import calibrate
from multires_edge.calibration.table import CalibrationTable, TensorRange
from multires_edge.export.accuracy_budget import Budget, Build, Effect, keep_within
from multires_edge.export.folding import FoldedNetwork
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.options import Int8Options
from multires_edge.export.precision.int8 import input_ranges, quantizable, quantize, weight_noise_db
from multires_edge.format.card import Card
from multires_edge.format.fields import plain
from multires_edge.format.manifest import QuantizationSpec
from multires_edge.format.targets import GraphForm
from multires_edge.runtime.evaluation.recordings import load_data

if TYPE_CHECKING:
    from multires_edge.models.network import MultiresNet


@dataclass(frozen=True)
class QuantizedWeight:
    """One weight of the network and its input; or the queues, which have no weight.

    ``type`` is "int8" or "float32". ``weight_sqnr_db`` is the ratio of signal to quantization noise of the
    weight, infinite if int8 represents it exactly. ``ranges`` are those of its input, empty for filters.
    ``alone`` is the effect of quantizing this weight alone, if it was measured.
    """

    name: str
    type: str
    weight_sqnr_db: float | None
    ranges: list[TensorRange]
    alone: Effect | None

    @property
    def range(self) -> TensorRange | None:
        """The range of the input, if it is one tensor."""
        return self.ranges[0] if len(self.ranges) == 1 else None

    @property
    def input_sqnr_db(self) -> float | None:
        """The smallest ratio of the rounded tensors; None if no tensor is rounded."""
        return min((each.sqnr_db for each in self.ranges), default=None)

    def to_json(self) -> dict[str, Any]:
        weight_db = self.weight_sqnr_db
        # JSON has no infinity.
        known = weight_db is not None and math.isfinite(weight_db)
        entry: dict[str, Any] = {"type": self.type, "weight_sqnr_db": weight_db if known else None}
        if self.range is not None:
            entry |= {"input_thresholds": list(self.range.limits)}
        if self.input_sqnr_db is not None:
            entry |= {"input_sqnr_db": self.input_sqnr_db}
        if self.alone is not None:
            entry |= {"alone": self.alone.to_json()}
        return entry


def plan_int8(
    options: Int8Options,
    net: MultiresNet,
    folded: FoldedNetwork,
    card: Card | None,
    form: GraphForm,
    progress: Callable[[str], None],
) -> Quantization | None:
    """Read or make the table, and choose the weights to keep in float32; None if no ranges are given."""
    names = quantizable(net.config, options.parts)
    data = None
    if options.table is not None:
        table = CalibrationTable.read(options.table)
        table.check_network(net)
    elif options.data is not None:
        data = load_data(options.data, net.config, card)
        table = calibrate(net, data, options.method, progress=progress)
    else:
        return None
    budget = None
    if options.max_drop is not None:
        if options.budget_data is not None:
            data = load_data(options.budget_data, net.config, card)
        assert data is not None
        labels = card.labels if card else None
        build = full_graphs(folded, table, form, lengths=data.lengths is not None)
        budget = keep_within(
            build, net.config, data, options.max_drop, names, labels=labels, progress=progress
        )
    quantized = quantize(folded, table, names)
    weights = [
        QuantizedWeight(
            name,
            "float32" if budget and name in budget.keep else "int8",
            weight_noise_db(folded, quantized, name),
            [table.tensors[read] for read in input_ranges(net.config, name)],
            budget.alone[name] if budget else None,
        )
        for name in names
    ]
    return Quantization(table, weights, budget)


def full_graphs(folded: FoldedNetwork, table: CalibrationTable, form: GraphForm, *, lengths: bool) -> Build:
    """Makes the full graphs of mixtures of int8 and float32."""

    def build(names: set[str] | None) -> onnx.ModelProto:
        network = folded if names is None else quantize(folded, table, names)
        return build_full_graph(network, form, lengths=lengths)

    return build


@dataclass(frozen=True)
class Quantization:
    """The weights of the quantized parts, in int8 or kept in float32, in the order of the network."""

    table: CalibrationTable
    weights: list[QuantizedWeight]
    budget: Budget | None

    @property
    def names(self) -> set[str]:
        """The weights in int8."""
        return {weight.name for weight in self.weights if weight.type == "int8"}

    def apply(self, network: FoldedNetwork) -> FoldedNetwork:
        """The quantized network."""
        return quantize(network, self.table, self.names)

    @property
    def spec(self) -> QuantizationSpec:
        """For the manifest."""
        return QuantizationSpec(
            self.table.record_steps, {weight.name: weight.type for weight in self.weights}
        )

    def to_json(self) -> dict[str, Any]:
        """For parity.json."""
        return {
            "method": plain(self.table.method),
            "tensors": {weight.name: weight.to_json() for weight in self.weights},
            "budget": None if self.budget is None else self.budget.to_json(),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Rows of a table for a terminal. The first is the header."""
        rows: list[tuple[str, ...]] = [("weight", "type", "weight dB", "input dB")]
        if self.budget:
            rows = [(*rows[0], "own error", *(("own drop",) if self.budget.reference is not None else ()))]
        for weight in self.weights:
            decibels = (weight.weight_sqnr_db, weight.input_sqnr_db)
            row = [weight.name, weight.type, *("" if db is None else f"{db:.1f}" for db in decibels)]
            if self.budget and weight.alone:
                row.append(f"{weight.alone.error:.2e}")
                if self.budget.reference is not None:
                    row.append(f"{weight.alone.drop:+.5f}")
            rows.append(tuple(row))
        return rows
