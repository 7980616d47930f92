"""The multiresolution convolution against its definition, written out in loops."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from numpy.typing import NDArray

from multires_edge.format.config import ModelConfig
from multires_edge.models.multires import MultiresLayer
from tests.conftest import configs


def by_definition(layer: MultiresLayer, config: ModelConfig, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum before GELU, sample by sample, as the published model defines it (d_model, time)."""
    h0, h1 = (h.detach().numpy()[..., 0, :] for h in (layer.h0, layer.h1))
    w = layer.w.detach().numpy()
    steps, K, depth = x.shape[1], config.kernel_size, config.depth

    def convolve(a: NDArray[np.float64], h: NDArray[np.float64], d: int) -> NDArray[np.float64]:
        out = np.zeros_like(a)
        for t in range(steps):
            for tap in range(K):
                past = t - (K - 1 - tap) * d
                if past >= 0:
                    out[:, t] += h[:, tap] * a[:, past]
        return out

    a, high = x, []
    for i in range(depth, 0, -1):
        d = 2 ** (depth - i)
        untied = config.filters == "untied"
        high.append(convolve(a, h1[depth - i] if untied else h1, d))
        a = convolve(a, h0[depth - i] if untied else h0, d)
    coarsest_first = high[::-1]
    y = w[:, :1] * a + w[:, -1:] * x
    if config.tree_select == "fading":
        for i, b in enumerate(coarsest_first, 1):
            y = y + w[:, i : i + 1] * b
        return y
    used, n = 1, 1
    for level, b in enumerate(coarsest_first, 1):
        stride = 1 if level == 1 else 2 ** (depth - level + 1)
        for k in range(n):
            if used == config.memory_size:
                return y
            shifted = np.zeros_like(b)
            if k * stride < steps:
                shifted[:, k * stride :] = b[:, : steps - k * stride]
            y = y + w[:, used : used + 1] * shifted
            used += 1
        n = 2 * (n - 1) + K
    return y


@given(configs(max_depth=5))
@settings(max_examples=40)
def test_equals_its_definition(config: ModelConfig) -> None:
    torch.manual_seed(1)
    layer = MultiresLayer(config).double().eval().requires_grad_(False)
    x = torch.randn(1, config.d_model, 45, dtype=torch.float64)
    expected = layer.activation(torch.from_numpy(by_definition(layer, config, x[0].numpy())))
    assert torch.allclose(layer(x)[0], expected, rtol=0, atol=1e-12)


@given(configs(max_depth=6, activation="gelu"))
@settings(max_examples=20)
def test_depends_on_nothing_later_and_nothing_before_its_receptive_field(
    config: ModelConfig,
) -> None:
    torch.manual_seed(2)
    layer = MultiresLayer(config).double().eval().requires_grad_(False)
    reach = config.layer_receptive_field
    x = torch.randn(1, config.d_model, reach + 9, dtype=torch.float64)
    y = layer(x)
    later, earlier = x.clone(), x.clone()
    later[..., 6:] += 1
    assert torch.equal(layer(later)[..., :6], y[..., :6])
    earlier[..., 0] += 1
    assert torch.equal(layer(earlier)[..., reach:], y[..., reach:])
    assert not torch.equal(layer(earlier)[..., :reach], y[..., :reach])
