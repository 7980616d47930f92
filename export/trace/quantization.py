"""Plan int8 for a traced network: the products to quantize, their ranges, and what a budget allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from multires_edge.calibration.measure import measured
from multires_edge.calibration.table import CalibratedNetwork, CalibrationTable, network_digest
from multires_edge.calibration.tensors import Collect
from multires_edge.export.accuracy_budget import keep_within
from multires_edge.export.options import Int8Options
from multires_edge.export.quantization import Quantization, QuantizedWeight
from multires_edge.export.trace.observing import Observer
from multires_edge.export.trace.products import Product, in_int8, products_of, quantizable, weight_noise_db
from multires_edge.export.trace.program import Program
from multires_edge.export.trace.whole_graph import build_whole_graph
from multires_edge.format.module import ModuleConfig
from multires_edge.format.targets import GraphForm
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.named_records import by_name
from multires_edge.runtime.evaluation.recordings import load_data


def plan_int8(
    options: Int8Options,
    net: nn.Module,
    program: Program,
    config: ModuleConfig,
    form: GraphForm,
    progress: Callable[[str], None],
) -> Quantization | None:
    """Read or make the table, and choose the weights to keep in float32; None if no ranges are given."""
    if options.table is None and options.data is None:
        return None
    products = products_of(program)
    chosen = quantizable(products, tuple(options.parts))
    data = None
    if options.table is not None:
        table = CalibrationTable.read(options.table)
        table.check_weights(net)
        table.check_tensors({each.tensor: each.channels for each in products})
    else:
        assert options.data is not None
        data = load_data(options.data, config)
        table = _measured(net, program, products, config, data, form, options.method, progress)
    budget = None
    if options.max_drop is not None:
        if options.budget_data is not None:
            data = load_data(options.budget_data, config)
        assert data is not None

        def build(names: set[str] | None) -> onnx.ModelProto:
            if names is None:
                return build_whole_graph(program, form)
            rounded, precision = in_int8(program, products, table, names)
            return build_whole_graph(rounded, form, precision)

        names = [each.name for each in chosen]
        budget = keep_within(build, config, data, options.max_drop, names, progress=progress)
    weights = [
        QuantizedWeight(
            each.name,
            "float32" if budget and each.name in budget.keep else "int8",
            weight_noise_db(each, table.tensors[each.tensor].scales),
            [table.tensors[each.tensor]],
            budget.alone[each.name] if budget else None,
        )
        for each in chosen
    ]
    return Quantization(table, weights, budget)


def _measured(
    net: nn.Module,
    program: Program,
    products: list[Product],
    config: ModuleConfig,
    data: Dataset,
    form: GraphForm,
    method: str,
    progress: Callable[[str], None],
) -> CalibrationTable:
    """The ranges of the inputs of all products on data."""
    observe = Observer(program, form, {each.source for each in products})
    over_all = [each for each in products if program.layouts[each.source].axis is None]

    def on_record(row: int, collect: Collect) -> None:
        inputs = by_name(config, data.inputs[row : row + 1])
        steps = data.inputs.shape[-1] if data.lengths is None else int(data.lengths[row])
        whole = observe({name: _first(array, steps) for name, array in inputs.items()})
        for each in products:
            collect(each.tensor, _by_channel(each, whole[each.source]))
        # A stream has a value over all steps from its first step on; with every prefix, the many long ones
        # would dominate.
        for k in range((steps - 1).bit_length() if over_all else 0):
            part = observe({name: _first(array, 1 << k) for name, array in inputs.items()})
            for each in over_all:
                collect(each.tensor, _by_channel(each, part[each.source]))

    network = CalibratedNetwork(network_digest(net), config)
    tensors = {each.tensor: each.channels for each in products}
    return measured(network, tensors, data, on_record, method, progress=progress)


def _first(array: NDArray[Any], steps: int) -> NDArray[Any]:
    return np.ascontiguousarray(array[..., :steps])


def _by_channel(product: Product, array: NDArray[Any]) -> NDArray[np.float32]:
    """The values of the input of a product, (channels, n)."""
    return np.ascontiguousarray(np.moveaxis(array, product.axis, 0).reshape(product.channels, -1))
