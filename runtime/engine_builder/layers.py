"""The layers of an engine as text, with the precision of each.

The network is strongly typed, so the ONNX graph sets the precision of each layer. Only the built engine knows
which layers were fused into one kernel; only the device can read it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def network_layers(network: Any) -> str:
    """One line per layer of a parsed network: name, kind, type and shape of its outputs."""
    rows = []
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        outputs = [layer.get_output(j) for j in range(layer.num_outputs)]
        kinds = ", ".join(f"{_word(tensor.dtype)} {_shape(tensor.shape)}" for tensor in outputs)
        rows.append((str(i), layer.name, _word(layer.type), kinds))
    return "The network, as parsed. -1 is a dynamic size.\n\n" + _table(rows)


def engine_layers(trt: Any, engine: Any) -> str:
    """One line per layer of a built engine, by TensorRT's inspector. Needs the device."""
    inspector = engine.create_engine_inspector()
    entry = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    rows = []
    for i, layer in enumerate(entry.get("Layers", [])):
        if isinstance(layer, str):  # without detailed profiling verbosity
            rows.append((str(i), layer, "", ""))
            continue
        formats = ", ".join(
            str(output.get("Format/Datatype", output.get("DataType", "")))
            for output in layer.get("Outputs", [])
        )
        rows.append((str(i), layer.get("Name", ""), layer.get("LayerType", ""), formats))
    return "The engine, as built.\n\n" + _table(rows)


def in_place_updates(trt: Any, network: Any) -> dict[str, str]:
    """The network's in-place cache updates: input tensor to output tensor."""
    kind = getattr(trt.LayerType, "KV_CACHE_UPDATE", None)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    return {
        layer.get_input(0).name: layer.get_output(0).name
        for layer in layers
        if kind is not None and layer.type == kind
    }


def _word(value: Any) -> str:
    return str(value).rsplit(".", 1)[-1].lower()


def _shape(shape: Any) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ")"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return "no layers\n"
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"
