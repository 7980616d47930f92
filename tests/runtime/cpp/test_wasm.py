"""The engine in WebAssembly: every kind of network, in node."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.export.native_weights import native_weights
from multires_edge.export.web.compiler import GROUP, compile_module
from multires_edge.runtime.backends.native import load_engine
from tests.conftest import random_inputs, variant
from tests.export.web.harness import node, run_node
from tests.runtime.cpp.networks import CARD, NETWORKS, Network, expected_outputs

pytestmark = pytest.mark.slow

STEPS = 150
EXPORTS = """
MULTIRES_EXPORT(network_new) multires_state* network_new(int number) {
  static const multires::Network* const networks[] = {NAMES};
  return multires::new_stream(*networks[number], MULTIRES_DEFAULT_WINDOW);
}
MULTIRES_EXPORT(network_tokens)
multires_status network_tokens(multires_state* state, const int64_t* tokens, int32_t steps, float* y) {
  return multires_run_tokens(state, tokens, steps, y);
}
"""


def inputs_of(network: Network) -> NDArray[Any]:
    """(1, d_input, steps), or tokens (1, steps)."""
    return random_inputs(variant(**network.changes), 1, STEPS, seed=6)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module with all networks. A page's module has one."""
    node()
    text = "multires::kNetwork"
    sources = ['#include "exports.h"\n#include "wasm_stream.h"\n']
    for i, network in enumerate(NETWORKS.values()):
        content = native_weights(network.folded(), network.pooling, CARD, network.precision)
        source = load_engine().network_source(content, GROUP)[0]
        if i:  # the first is the network of the module's own functions
            source = re.sub(r"\b(kNetwork|kArenaBytes|g_arena)\b", rf"\g<1>{i}", source)
            text += f", &multires::kNetwork{i}"
        sources.append(re.sub(r"\bkArray", f"kArray{i}x", source))
    path = tmp_path_factory.mktemp("wasm") / "networks.wasm"
    compile_module("".join(sources) + EXPORTS.replace("NAMES", f"&{text}"), {}, path)
    return path


def test_networks(module: Path, tmp_path: Path) -> None:
    cases = []
    for i, network in enumerate(NETWORKS.values()):
        config, x = variant(**network.changes), tmp_path / f"{i}.x"
        inputs_of(network)[0].T.tofile(x)
        cases.append({"x": str(x), "tokens": config.encoder == "token", "outputs": config.d_output})
    found = run_node("networks.mjs", module, STEPS, given=cases)
    for (name, network), outputs in zip(NETWORKS.items(), found, strict=True):
        expected = expected_outputs(network, inputs_of(network))[0].astype(np.float64).T
        for y in outputs.values():  # many steps at once, in two parts, and one by one
            error = np.abs(np.reshape(y, expected.shape) - expected) / np.maximum(1, np.abs(expected))
            assert error.max() <= network.limit, name
        assert len({json.dumps(y) for y in outputs.values()}) == 1, name  # the same to the last bit


def test_it_needs_nothing_of_its_host(module: Path) -> None:
    assert run_node("imports.mjs", module) == []
