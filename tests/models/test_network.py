"""The reference network against the outputs recorded from the published code, and against itself."""

from __future__ import annotations

import pytest
import torch

from multires_edge.format.pooling import Window
from multires_edge.models import load_checkpoint
from tests.conftest import (
    RECORDED_NAMES,
    as_double,
    random_inputs,
    random_net,
    recorded,
    variant,
    within_limit,
)


@pytest.mark.parametrize("name", RECORDED_NAMES)
def test_gives_the_recorded_outputs(name: str) -> None:
    path, reference = recorded(name)
    net = load_checkpoint(path)
    lengths = [torch.from_numpy(reference["lengths"])] if "lengths" in reference else []
    assert within_limit(net(torch.from_numpy(reference["x"]), *lengths).numpy(), reference["y"])


def test_without_lengths_pools_over_the_padding_too() -> None:
    path, reference = recorded("listops-tokens-k4")
    y = load_checkpoint(path)(torch.from_numpy(reference["x"]))
    assert within_limit(y.numpy(), reference["y_no_lengths"])


class TestStepwise:
    def test_is_the_full_output_on_every_prefix(self) -> None:
        net = random_net(variant()).double()
        x = as_double(random_inputs(net.config, 2, 20))
        stepwise = net.stepwise(x)
        for t in range(20):
            assert torch.allclose(stepwise[..., t], net(x[..., : t + 1]))

    def test_window_is_the_mean_of_the_last_steps(self) -> None:
        net = random_net(variant()).double()
        x = as_double(random_inputs(net.config, 2, 20))
        features, windowed = net.features(x), net.stepwise(x, Window(7))
        for t in range(20):
            pooled = features[..., max(0, t - 6) : t + 1].mean(-1)
            assert torch.allclose(windowed[..., t], net.output_mapping(pooled))

    def test_autoregressive_output_is_of_inputs_one_step_earlier(self) -> None:
        net = random_net(variant(task="autoregressive")).double()
        x = as_double(random_inputs(net.config, 2, 20))
        fed = torch.cat([torch.zeros_like(x[..., :1]), x[..., :-1]], dim=-1)
        assert torch.allclose(net.stepwise(fed), net(x))


def test_lengths_are_refused_where_nothing_is_pooled() -> None:
    net = random_net(variant(task="autoregressive"))
    with pytest.raises(TypeError, match="output at every step"):
        net(torch.zeros(1, 2, 5), lengths=torch.tensor([3]))
