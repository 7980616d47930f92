"""A network is found in a module whatever its names and however it is written, with the same weights."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from multires_edge.export.bundle import build_graphs
from multires_edge.export.folding import FoldedNetwork, fold
from multires_edge.export.matching.forms import UnmatchedError
from multires_edge.export.matching.network import match_network
from multires_edge.export.native_weights import native_weights
from multires_edge.format.config import ACTIVATIONS, ModelConfig
from multires_edge.format.targets import FORMS
from multires_edge.models.network import MultiresNet
from tests.export.matching.networks import WAYS, Style, Written, original
from tests.export.trace.harness import plan_of
from tests.export.trace.test_random_networks import D, Part, Random, part

BASE = ModelConfig("classification", "linear", 3, None, 2, d_model=4, n_layers=2, kernel_size=2, depth=3)
CONFIGS: dict[str, ModelConfig] = {
    "published": BASE,
    "uniform": replace(BASE, tree_select="uniform", memory_size=5, output_activation="softmax"),
    "tokens, shifted": replace(BASE, task="autoregressive", encoder="token", d_input=None, n_tokens=5),
    "RMS before": replace(BASE, norm="rms", norm_place="before", activation="silu", filters="untied"),
    "batch": replace(BASE, norm="batch", kernel_size=3, encoder_kernel_size=3, pooling="mean+max+last"),
    "groups": replace(BASE, norm="group", norm_groups=2, mixing="plain", mixing_output=True, pooling="none"),
}


def example_of(config: ModelConfig, steps: int = 9) -> Tensor:
    if config.encoder == "token":
        return torch.randint(0, config.n_tokens or 1, (2, steps))
    return torch.randn(2, config.channels, steps)


def found_in(module: nn.Module, config: ModelConfig) -> MultiresNet:
    _, plan = plan_of(module.eval(), (example_of(config),))
    return match_network(plan.program)


def with_unused_of(network: FoldedNetwork, other: FoldedNetwork) -> FoldedNetwork:
    """With the last low-pass of another where it has no effect: only names tell it from the high-pass."""
    layers = [
        replace(mine, lowpass=[*mine.lowpass[:-1], theirs.lowpass[-1]])
        if len(mine.lowpass) == mine.depth
        else mine
        for mine, theirs in zip(network.layers, other.layers, strict=True)
    ]
    return replace(network, layers=layers)


def assert_same_files(found: MultiresNet, net: MultiresNet) -> None:
    """What an export writes of both networks is equal, byte for byte."""
    assert replace(found.config, norm_eps=net.config.norm_eps) == net.config
    expected, pooling = fold(net), net.config.pooled_by()
    folded = replace(with_unused_of(fold(found), expected), config=net.config)
    assert native_weights(folded) == native_weights(expected)
    graphs = [
        {kind: graph.model.SerializeToString(deterministic=True) for kind, graph in each}
        for each in (
            build_graphs(network, FORMS["opset24"], pooling, lengths=False, engines=True)
            for network in (folded, expected)
        )
    ]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("name", CONFIGS)
def test_in_the_module_of_this_package(name: str) -> None:
    net = original(CONFIGS[name])
    assert_same_files(found_in(net, net.config), net)


@pytest.mark.parametrize(("field", "way"), [(field, way) for field, ways in WAYS.items() for way in ways[1:]])
def test_in_each_way_of_writing_it(field: str, way: str) -> None:
    name = {"shift": "tokens, shifted", "encoder": "batch", "pooling": "batch"}.get(field, "uniform")
    net = original(CONFIGS[name])
    assert_same_files(found_in(Written(net, Style(**{field: way})), net.config), net)


styles = st.builds(Style, **{field: st.sampled_from(ways) for field, ways in WAYS.items()})


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any network, in the one of several equal configurations that matching gives."""
    shifted = draw(st.booleans())
    tokens = draw(st.booleans())
    norm = draw(st.sampled_from(["layer", "batch", "rms", "group", "none"]))
    uniform = draw(st.booleans())
    second = draw(st.booleans())
    depth = draw(st.integers(1, 3))
    config = ModelConfig(
        "autoregressive" if shifted else "classification",
        "token" if tokens else "linear",
        None if tokens else draw(st.sampled_from([1, 3])),
        5 if tokens else None,
        d_output=2,
        d_model=4,
        n_layers=draw(st.integers(1, 2)),
        kernel_size=draw(st.integers(2, 4)),
        depth=depth,
        tree_select="uniform" if uniform else "fading",
        memory_size=draw(st.integers(2, 8)) if uniform else None,
        norm=norm,
        norm_place="after" if norm == "none" else draw(st.sampled_from(["after", "before"])),
        norm_eps=1e-5 if norm == "none" else draw(st.sampled_from([1e-5, 1e-6])),
        norm_groups=2 if norm == "group" else None,
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
        mixing=draw(st.sampled_from(["glu", "plain"])),
        mixing_output=None if second == shifted else second,
        filters="tied" if depth == 1 else draw(st.sampled_from(["tied", "untied"])),
        pooling=None if shifted else draw(st.sampled_from(["mean", "max", "last", "mean+max", "none"])),
        encoder_kernel_size=None if tokens else draw(st.sampled_from([None, 3])),
        output_activation=None if shifted else draw(st.sampled_from([None, "sigmoid", "softmax"])),
    )
    counts = [len(columns) for columns in config.memory_columns()]
    if uniform and set(counts) == {1}:  # the same as a fading tree
        return replace(config, tree_select="fading", memory_size=None)
    return replace(config, memory_size=sum(counts) + 1) if uniform else config


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(config=configs(), style=styles, seed=st.integers(0, 99))
def test_in_any_network_in_any_way(config: ModelConfig, style: Style, seed: int) -> None:
    net = original(config, seed)
    assert_same_files(found_in(Written(net, style), config), net)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    parts=st.lists(st.tuples(part, st.booleans()), min_size=1, max_size=5),
    pool=st.sampled_from(["none", "mean"]),
)
def test_other_networks_are_left_alone(parts: list[tuple[Part, bool]], pool: str) -> None:
    _, plan = plan_of(Random(parts, pool).eval(), (torch.randn(2, D, 14),))
    with pytest.raises(UnmatchedError):
        match_network(plan.program)


class Block(nn.Module):
    """A network of one block, of which parts can be replaced."""

    def __init__(self, **parts: Any) -> None:
        super().__init__()
        self.encoder, self.mix, self.head = nn.Conv1d(3, 4, 1), nn.Conv1d(4, 4, 1), nn.Linear(4, 2)
        self.first, self.second = (nn.Conv1d(4, 4, 2, groups=4, bias=False) for _ in range(2))
        self.parts = parts

    def part(self, name: str, *values: Tensor) -> Any:
        return self.parts[name](self, *values) if name in self.parts else values[0]

    def forward(self, x: Tensor) -> Any:
        x = self.part("stem", self.encoder(x))
        past = F.pad(x, (1, 0), value=self.parts.get("padding", 0.0))
        y = self.part("filters", 0.5 * self.first(past) - 2 * self.second(past), x)
        y = self.mix(self.part("activation", torch.relu(y)))
        x = self.part("norm", self.part("residual", x + y, x, y))
        return self.part("output", self.head(self.part("pool", x.mean(-1), x)))


def test_the_block_itself() -> None:
    found = found_in(Block(), BASE)
    assert found.config.depth == 1
    assert found.config.norm == "none"


UNMATCHED: dict[str, tuple[dict[str, Any], str]] = {
    "an activation": ({"activation": lambda net, y: torch.tanh(y)}, "relu|tanh in .* is no activation"),
    "a bias after the filters": ({"filters": lambda net, y, x: y + 1}, "adds a bias to the filters"),
    "a gate on the filters": ({"filters": lambda net, y, x: y * x}, "mul in .*no filters over time"),
    "no residual": ({"residual": lambda net, s, x, y: y}, "conv1d in .*not added to the input"),
    "half of a residual": ({"residual": lambda net, s, x, y: x + 0.5 * y}, "not added to the input"),
    "another residual": ({"residual": lambda net, s, x, y: torch.cat([x[:, 2:], x[:, :2]], 1) + y}, "."),
    "padding by ones": ({"padding": 1.0}, "conv1d in .*before the first step that are not zero"),
    "a softmax before the head": ({"stem": lambda net, x: x.softmax(1)}, "softmax in .*no residual block"),
    "a logarithm of a softmax": ({"output": lambda net, y: y.log_softmax(-1)}, "is in no MultiresNet"),
    "a square": ({"output": lambda net, y: y * y}, "the head of a MultiresNet is a linear layer"),
    "a sum over time": ({"pool": lambda net, y, x: x.sum(-1)}, "sum in .*over time"),
    "a function before the blocks": ({"stem": lambda net, x: torch.relu(x)}, "relu in .*no residual block"),
    "a norm of half the channels": (
        {"norm": lambda net, x: torch.cat([F.layer_norm(x[:, :2].mT, (2,)).mT, x[:, 2:]], 1)},
        "no residual block|not added",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNMATCHED)
def test_it_is_not_found_in(name: str) -> None:
    parts, message = UNMATCHED[name]
    _, plan = plan_of(Block(**parts).eval(), (torch.randn(2, 3, 9),))
    with pytest.raises(UnmatchedError) as raised:
        match_network(plan.program)
    reason = plan.at(raised.value.at, str(raised.value))
    assert re.search(message, reason), reason


class Remembering(Block):
    """With a recurrent layer before its block."""

    def __init__(self) -> None:
        super().__init__(stem=lambda net, x: net.gru(x.mT)[0].mT)
        self.gru = nn.GRU(4, 4, batch_first=True)


def test_it_is_not_found_behind_a_recurrent_layer() -> None:
    _, plan = plan_of(Remembering().eval(), (torch.randn(2, 3, 9),))
    with pytest.raises(UnmatchedError, match="is in no MultiresNet"):
        match_network(plan.program)


class LongFilter(nn.Module):
    """A depthwise convolution with a long kernel, as in convolutional state space models."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mix, self.head = nn.Conv1d(3, 4, 1), nn.Conv1d(4, 8, 1), nn.Linear(4, 2)
        self.long = nn.Conv1d(4, 4, 19, groups=4, bias=False, padding=18)

    def forward(self, x: Tensor) -> Any:
        x = self.encoder(x)
        x = F.layer_norm((x + F.glu(self.mix(F.gelu(self.long(x)[..., :-18])), 1)).mT, (4,))
        return self.head(x.mean(1))


def test_a_long_filter_is_a_tree_of_one_scale() -> None:
    found = found_in(LongFilter(), BASE)
    assert (found.config.depth, found.config.kernel_size) == (1, 19)


def test_filters_that_all_scales_weigh_anew_are_untied() -> None:
    class Weighed(Written):
        def filters(self, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
            h0, h1, w = super().filters(i, j)
            return h0, h1 * w[:, :, None], torch.ones_like(w)

    net = original(BASE)
    found = found_in(Weighed(net, Style()), BASE)
    assert found.config == replace(BASE, filters="untied")
    x = example_of(BASE, 40).double()
    torch.testing.assert_close(found.double()(x), net.double()(x), rtol=1e-12, atol=1e-12)
