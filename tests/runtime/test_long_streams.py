"""Errors do not compound: a stream that has run for a million steps is as exact as a young one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from multires_edge.export.native_weights import native_weights
from multires_edge.format.card import read_card
from multires_edge.format.pooling import Cumulative, Pooling, Window
from multires_edge.models.loading import load_checkpoint
from multires_edge.models.network import MultiresNet
from multires_edge.runtime.backends import _native
from multires_edge.runtime.evaluation.recordings import load_data
from tests.conftest import DEMO, native_model, random_inputs, random_net, variant
from tests.runtime.backends.test_native import run
from tests.runtime.backends.test_native_queues import network_in

pytestmark = pytest.mark.slow

PRECISIONS = ("fp32", "fp16", "int8")
STORED = [(weights, queues) for weights in PRECISIONS for queues in ("float32", "float16", "int8")]
MILLION = 1_000_000
WINDOW = 250


def outputs(
    net: MultiresNet, stored: tuple[str, str], inputs: NDArray[np.float32], folder: Path, pooling: Pooling
) -> NDArray[np.float32]:
    """One native stream from zeros over inputs (1, d_input, time): (d_output, time)."""
    weights, queues = stored
    file = folder / "weights.safetensors"
    file.write_bytes(native_weights(network_in(weights, queues, net), pooling, precision=weights))
    state = _native.State(native_model(file), 1, pooling.window or 0)
    y: NDArray[np.float32] = run(state, inputs, net.config.d_output)[0]
    return y


@pytest.mark.parametrize("stored", STORED, ids=" weights, ".join)
def test_nothing_outlives_the_receptive_field(stored: tuple[str, str], tmp_path: Path) -> None:
    """After a million steps each bit is that of a stream which saw the receptive field and nothing before.

    Int8 queues too: what is rounded into one is computed from what is finitely old.
    """
    net = random_net(variant(task="autoregressive", depth=4, kernel_size=3, d_output=3))
    reach, compared = net.config.receptive_field, 500
    inputs = random_inputs(net.config, 1, MILLION, seed=9)
    # Far too large in the beginning: what that did is gone, too.
    inputs[..., :1000] *= 1e4
    old = outputs(net, stored, inputs, tmp_path, Cumulative())[:, -compared:]
    young = outputs(
        net, stored, np.ascontiguousarray(inputs[..., -reach - compared :]), tmp_path, Cumulative()
    )
    assert np.isfinite(old).all() and np.array_equal(old, young[:, -compared:])


@pytest.mark.parametrize(
    "stored",
    [("fp32", "float32"), ("fp16", "float16"), ("int8", "float32"), ("int8", "int8")],
    ids=" weights, ".join,
)
def test_the_error_at_a_million_is_that_at_a_thousand(stored: tuple[str, str], tmp_path: Path) -> None:
    """A trained classifier with a pooling window, whose sums have run for as long."""
    net = load_checkpoint(DEMO / "ckpt.pth")
    records = load_data(DEMO / "records.npz", net.config, read_card(DEMO / "card.json")).inputs[:]
    inputs = np.ascontiguousarray(np.concatenate(list(records), axis=-1)[None])
    inputs = np.tile(inputs, -(-MILLION // inputs.shape[-1]))[..., :MILLION]
    y = outputs(net, stored, inputs, tmp_path, Window(WINDOW))
    size = 1000
    early, late = (y[:, end - size : end] for end in (1000 + size, MILLION))
    errors = [early - exact(net, inputs[..., : 1000 + size])[:, -size:]]
    reach = net.config.receptive_field + WINDOW
    errors.append(late - exact(net, inputs[..., MILLION - size - reach :])[:, -size:])
    young, old = (np.sqrt(np.mean(np.square(error))) for error in errors)
    assert 0 < old < 2 * young, (young, old)


def exact(net: MultiresNet, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The network on every prefix in float64, (d_output, time)."""
    with torch.no_grad():
        y: NDArray[np.float64] = (
            net.double().stepwise(torch.from_numpy(inputs).double(), Window(WINDOW)).numpy()[0]
        )
    net.float()
    return y
