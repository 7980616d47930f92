"""Folded weights compute what the network computes, in float64 to the last digits."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from numpy.typing import NDArray

from multires_edge.export.folding import FoldedLayer, fold
from multires_edge.export.norms import Affine
from multires_edge.format.config import ModelConfig
from multires_edge.models.activations import ACTIVATION_FUNCTIONS
from tests.conftest import configs, random_net, variant


def past(a: NDArray[np.float64], delay: int) -> NDArray[np.float64]:
    """a(t - delay), zero before the start; (d_model, time)."""
    out = np.zeros_like(a)
    out[:, delay:] = a[:, : a.shape[1] - delay] if delay else a
    return out


def cascade(layer: FoldedLayer, x: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """a_0, a_1, ..., a_{depth-1} of a layer."""
    scales = [x]
    for j in range(layer.depth - 1):
        a = scales[-1]
        taps = [h[:, None] * past(a, o << j) for o, h in enumerate(layer.lowpass_of(j)) if o << j < 50]
        scales.append(np.sum(taps, axis=0))
    return scales


@given(configs(max_depth=5))
@settings(max_examples=40)
def test_filters_and_taps_give_the_layers_output(config: ModelConfig) -> None:
    net = random_net(config).double()
    layer = fold(net).layers[0]
    x = np.random.default_rng(0).standard_normal((config.d_model, 50))
    scales = cascade(layer, x)
    by_filters = np.zeros_like(x)
    for j, filters in enumerate(layer.highpass):
        for o, h in enumerate(filters):
            if o << j < 50:
                by_filters += h[:, None] * past(scales[j], o << j)
    x_weight, tap_weights = layer.tap_weights()
    by_taps = x_weight[:, None] * x
    for j, weights in enumerate(tap_weights):
        assert len(weights) << j == config.history()[j]
        for o, h in enumerate(weights, 1):
            if o << j < 50:
                by_taps += h[:, None] * past(scales[j], o << j)
    expected = net.seq_layers[0](torch.from_numpy(x)[None])[0].numpy()
    for y in (by_filters, by_taps):
        activated = ACTIVATION_FUNCTIONS[config.activation](torch.from_numpy(y)).numpy()
        assert np.allclose(activated, expected, rtol=0, atol=1e-11)


def test_batch_norm_leaves_a_scale_and_a_shift() -> None:
    net = random_net(variant(norm="batch")).double()
    layer = fold(net).layers[0]
    norm, mixing = net.norms[0], net.mixing_layers[0]
    x, y = torch.randn(2, 1, 8, 5, dtype=torch.float64)
    assert isinstance(layer.norm, Affine) and layer.norm.place == "residual"
    assert layer.norm.shift is not None
    kept = layer.norm.scale[:, None] * x[0].numpy() + layer.norm.shift[:, None]
    value, gate = np.split(layer.mixing.weight @ y[0].numpy() + layer.mixing.bias[:, None], 2)
    assert np.allclose(kept + value / (1 + np.exp(-gate)), norm(x + mixing(y))[0].numpy())


def test_batch_norm_behind_a_second_convolution() -> None:
    net = random_net(variant(norm="batch", task="autoregressive")).double()
    layer = fold(net).layers[0]
    x, y = torch.randn(2, 1, 8, 5, dtype=torch.float64)
    assert isinstance(layer.norm, Affine) and layer.norm.shift is None
    assert layer.output is not None
    value, gate = np.split(layer.mixing.weight @ y[0].numpy() + layer.mixing.bias[:, None], 2)
    mixed = layer.output.weight @ (value / (1 + np.exp(-gate))) + layer.output.bias[:, None]
    expected = net.norms[0](x + net.mixing_layers[0](y))[0].numpy()
    assert np.allclose(layer.norm.scale[:, None] * x[0].numpy() + mixed, expected)
