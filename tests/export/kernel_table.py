"""The kernels that TensorRT-RTX builds, as it writes them to its log. A process has a single log.

python -m tests.export.kernel_table PRECISION    # prints them as JSON, by kind of graph
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from multires_edge.format.pooling import Cumulative
from multires_edge.format.targets import TARGETS
from multires_edge.runtime.backends.tensorrt import api
from multires_edge.runtime.engine_builder import build
from tests.conftest import random_net, variant
from tests.export.every_graph import unproven_bundle

# The paper's size.
NETWORK = variant(d_model=128, n_layers=6, depth=10, kernel_size=2, d_input=12, d_output=5)
_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[.*?\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName"
)
_TENSOR = re.compile(r"Name: (.*?), Dimensions: .*?, Datatype: (\w+)")


def kernels(precision: str, kind: str, folder: Path) -> list[dict[str, Any]]:
    """Each kernel's name, type, and the types of its inputs and outputs by name."""
    rtx, lines = api.load_api("tensorrt_rtx").module, list[str]()

    class Verbose(rtx.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            rtx.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            lines.extend(text.splitlines())

    bundle = unproven_bundle(random_net(NETWORK), Cumulative(), precision, TARGETS["rtx"].form, folder)
    log = api.log_of("tensorrt_rtx")
    with patch.object(log, "logger", Verbose()), patch.object(build, "log_of", lambda _: log):
        builder = build.Builder.here("rtx", ["8.6"])
        builder.build(builder.plan(bundle, kind, precision))
    found = [layer.groupdict() for layer in map(_LAYER.match, lines) if layer]
    for layer in found:
        layer |= {part: dict(_TENSOR.findall(layer[part])) for part in ("inputs", "outputs")}
    return [layer for layer in found if layer["type"] != "shape_call"]  # it computes sizes on the CPU


if __name__ == "__main__":
    table = {}
    for graph in ("step", "taps"):
        with tempfile.TemporaryDirectory() as temporary:
            table[graph] = kernels(sys.argv[1], graph, Path(temporary))
    sys.stdout.write(json.dumps(table))
