"""Small networks of every kind, as weights files for the C++ test programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from multires_edge.export.folding import fold
from multires_edge.export.graphs.pooling import Pooling
from multires_edge.export.native import native_weights
from multires_edge.models.card import Card
from tests.conftest import as_double, random_inputs, random_net, variant

NETWORKS: dict[str, tuple[dict[str, Any], Pooling]] = {
    "fading": ({"depth": 6, "d_model": 20}, Pooling()),
    "uniform": ({"tree_select": "uniform", "memory_size": 20, "kernel_size": 4, "depth": 5}, Pooling()),
    "tokens-windowed": ({"encoder": "token", "norm": "batch", "kernel_size": 3}, Pooling(7)),
    "autoregressive": ({"task": "autoregressive", "d_model": 33, "d_output": 70}, Pooling()),
}
BATCH, STEPS = 3, 150
# Names that the header of a weights file must escape.
CARD = Card({"labels": ['N"', "\N{MICRO SIGN}", "\N{MUSICAL SYMBOL G CLEF}\n"]})


def write_weights(name: str, folder: Path) -> Path:
    changes, pooling = NETWORKS[name]
    path = folder / f"{name}.safetensors"
    path.write_bytes(native_weights(fold(random_net(variant(**changes))), pooling, CARD))
    return path


def write_case(name: str, folder: Path) -> Path:
    """Inputs and their float64 outputs at every step, as reference_test.cpp reads them."""
    changes, pooling = NETWORKS[name]
    net = random_net(variant(**changes)).double()
    inputs = random_inputs(net.config, BATCH, STEPS, seed=6)
    expected = net.stepwise(as_double(inputs), pooling.window).numpy()
    path = folder / f"{name}.case"
    path.write_bytes(
        b"".join(
            np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
            for array in (
                np.array([BATCH, STEPS]),
                np.moveaxis(inputs, -1, 0),
                np.moveaxis(expected, -1, 0).astype(np.float64),
            )
        )
    )
    return path
