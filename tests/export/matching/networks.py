"""One network, written in many ways: modules that compute what a MultiresNet of given weights computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multires_edge.format.config import ModelConfig
from multires_edge.models.activations import ACTIVATION_FUNCTIONS
from multires_edge.models.network import MultiresNet
from tests.export.trace.networks import brisk


@dataclass(frozen=True)
class Style:
    """How a network is written. Each field names one of the ways below."""

    padding: str = "left"
    tree: str = "in turn"
    activation: str = "function"
    mixing: str = "convolutions"
    gate: str = "glu"
    norm: str = "module"
    pooling: str = "method"
    encoder: str = "convolution"
    shift: str = "pad"


def original(config: ModelConfig, seed: int = 0) -> MultiresNet:
    """A network with weights that are off their initial values."""
    torch.manual_seed(seed)
    return brisk(MultiresNet(config), seed).eval().requires_grad_(False)  # type: ignore[return-value]


class Written(nn.Module):
    """The same function as a network, in a style, with other names."""

    def __init__(self, net: MultiresNet, style: Style) -> None:
        super().__init__()
        self.config, self.style = net.config, style
        self.weights = nn.ParameterDict(
            {
                name.replace(".", "_"): nn.Parameter(t, requires_grad=False)
                for name, t in net.state_dict().items()
            }
        )

    def w(self, name: str) -> Tensor:
        tensor: Tensor = self.weights[name.replace(".", "_")]
        return tensor

    def forward(self, x: Tensor) -> Tensor:
        config = self.config
        if config.shifts:
            x = SHIFTS[self.style.shift](x)
        x = ENCODERS[config.encoder if config.encoder == "token" else self.style.encoder](self, x)
        before = config.norm_place == "before"
        for i in range(config.n_layers):
            y = self.norm(i, x) if before else x
            y = TREES[self.style.tree](self, i, y)
            y = ACTIVATIONS[self.style.activation](config.activation, y)
            y = MIXINGS[self.style.mixing](self, i, y)
            x = x + y if before else self.norm(i, x + y)
        return self.head(x)

    def norm(self, i: int, x: Tensor) -> Tensor:
        if self.config.norm == "none":
            return x
        return NORMS[self.style.norm][self.config.norm](self, f"norms.{i}", x)

    def causal(self, x: Tensor, weight: Tensor, dilation: int, groups: int | None = None) -> Tensor:
        """A depthwise causal convolution."""
        groups = x.shape[1] if groups is None else groups
        return PADDINGS[self.style.padding](x, weight, dilation, groups)

    def filters(self, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
        """h0 and h1 of a scale, and its memory weights (d, n)."""
        h0, h1, w = (self.w(f"seq_layers.{i}.{name}") for name in ("h0", "h1", "w"))
        columns = self.config.memory_columns()[j]
        untied = self.config.filters == "untied"
        return h0[j] if untied else h0, h1[j] if untied else h1, w[:, columns.start : columns.stop]

    def linear(self, name: str, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """A product with the channels of each step."""
        weight, bias = self.w(f"{name}.weight")[rows], self.w(f"{name}.bias")[rows]
        if self.style.mixing == "linear layers":
            return F.linear(x.transpose(1, 2), weight[..., 0], bias).transpose(1, 2)
        if self.style.mixing == "products":
            return torch.matmul(weight[..., 0], x) + bias[:, None]
        return F.conv1d(x, weight, bias)

    def head(self, x: Tensor) -> Tensor:
        config = self.config
        if config.per_step:
            name = "decoder" if config.task == "autoregressive" else "output_mapping"
            weight, bias = self.w(f"{name}.weight"), self.w(f"{name}.bias")
            weight = weight if weight.dim() == 3 else weight[..., None]
            y = F.conv1d(x, weight, bias)
        else:
            parts = config.kind_of_pooling.split("+")
            pooled = torch.cat([POOLINGS[self.style.pooling][part](x) for part in parts], 1)
            y = F.linear(pooled, self.w("output_mapping.weight"), self.w("output_mapping.bias"))
        functions = {"sigmoid": torch.sigmoid, "softmax": lambda y: y.softmax(1), None: lambda y: y}
        return functions[config.output_activation](y)  # type: ignore[no-untyped-call, no-any-return]


# Convolutions


def _left(x: Tensor, weight: Tensor, dilation: int, groups: int) -> Tensor:
    return F.conv1d(F.pad(x, (dilation * (weight.shape[-1] - 1), 0)), weight, None, 1, 0, dilation, groups)


def _both_sides(x: Tensor, weight: Tensor, dilation: int, groups: int) -> Tensor:
    past = dilation * (weight.shape[-1] - 1)
    y = F.conv1d(x, weight, None, 1, past, dilation, groups)
    return y[..., :-past] if past else y


PADDINGS: dict[str, Callable[..., Tensor]] = {"left": _left, "both sides": _both_sides}


# Filter trees


def _late(x: Tensor, steps: int) -> Tensor:
    return F.pad(x, (steps, 0))[..., :-steps] if steps else x


def _remembered(net: Written, b: Tensor, w: Tensor, j: int) -> Tensor:
    """A scale's high-pass with its memory weights."""
    if w.shape[1] == 1:
        return w * b
    if net.style.padding == "left":
        return net.causal(b, w.flip(-1)[:, None], 2 << j)
    return sum(
        (w[:, k : k + 1] * _late(b, k << (j + 1)) for k in range(w.shape[1])), start=torch.zeros_like(b)
    )


def _in_turn(net: Written, i: int, x: Tensor) -> Tensor:
    a, w = x, net.w(f"seq_layers.{i}.w")
    y = w[:, -1:] * x
    for j in range(net.config.depth):
        h0, h1, memory = net.filters(i, j)
        if memory.shape[1]:
            y = y + _remembered(net, net.causal(a, h1, 1 << j), memory, j)
        a = net.causal(a, h0, 1 << j)
    return y + w[:, :1] * a


def _coarse_first(net: Written, i: int, x: Tensor) -> Tensor:
    w = net.w(f"seq_layers.{i}.w")

    def of(a: Tensor, j: int) -> Tensor:
        if j == net.config.depth:
            return w[:, :1] * a
        h0, h1, memory = net.filters(i, j)
        rest = of(net.causal(a, h0, 1 << j), j + 1)
        return rest + _remembered(net, net.causal(a, h1, 1 << j), memory, j) if memory.shape[1] else rest

    return of(x, 0) + x * w[:, -1:]


def _pairs(net: Written, i: int, x: Tensor) -> Tensor:
    """Both filters of a scale in one convolution."""
    a, w = x, net.w(f"seq_layers.{i}.w")
    parts = [w[:, -1:] * x]
    rows, d, _ = x.shape
    for j in range(net.config.depth):
        h0, h1, memory = net.filters(i, j)
        both = net.causal(a, torch.cat([h0, h1], 1).flatten(0, 1)[:, None], 1 << j).reshape(rows, d, 2, -1)
        a = both[:, :, 0]
        if memory.shape[1]:
            parts.append(_remembered(net, both[:, :, 1], memory, j))
    parts.append(w[:, :1] * a)
    return torch.stack(parts, -1).sum(-1)


def _blocks(net: Written, i: int, x: Tensor) -> Tensor:
    """Both filters of a scale in one convolution, low-passes first."""
    a, w = x, net.w(f"seq_layers.{i}.w")
    y = w[:, -1:] * x
    for j in range(net.config.depth):
        h0, h1, memory = net.filters(i, j)
        a, b = net.causal(torch.cat([a, a], 1), torch.cat([h0, h1]), 1 << j).chunk(2, 1)
        if memory.shape[1]:
            y = y + _remembered(net, b, memory, j)
    return y + w[:, :1] * a


TREES: dict[str, Callable[[Written, int, Tensor], Tensor]] = {
    "in turn": _in_turn,
    "coarse first": _coarse_first,
    "pairs": _pairs,
    "blocks": _blocks,
}


# Activations

_FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: x * 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: F.hardtanh(x, 0.0, 6.0),
    "silu": lambda x: x * torch.sigmoid(x),
    "identity": lambda x: x,
}
ACTIVATIONS: dict[str, Callable[[str, Tensor], Tensor]] = {
    "function": lambda name, x: ACTIVATION_FUNCTIONS[name](x),
    "formula": lambda name, x: _FORMULAS[name](x),
}


# Mixing


def _mixed(net: Written, i: int, x: Tensor) -> Tensor:
    first, d = f"mixing_layers.{i}.0", net.config.d_model
    if net.config.mixing == "plain":
        y = net.linear(first, x)
    elif net.style.gate == "glu":
        y = F.glu(net.linear(first, x), 1)
    elif net.style.gate == "chunks":
        values, gates = net.linear(first, x).chunk(2, 1)
        y = values * torch.sigmoid(gates)
    else:
        y = torch.sigmoid(net.linear(first, x, slice(d, None))) * net.linear(first, x, slice(d))
    return net.linear(f"mixing_layers.{i}.3", y) if net.config.second_convolution else y


MIXINGS = dict.fromkeys(("convolutions", "linear layers", "products"), _mixed)
GATES = ("glu", "chunks", "two layers")


# Norms: of (batch, d, time)


def _affine(net: Written, name: str, x: Tensor, *, bias: bool = True) -> Tensor:
    y = x * net.w(f"{name}.weight")[:, None]
    return y + net.w(f"{name}.bias")[:, None] if bias else y


def _layer_module(net: Written, name: str, x: Tensor) -> Tensor:
    weight, bias = net.w(f"{name}.weight"), net.w(f"{name}.bias")
    return F.layer_norm(x.transpose(1, 2), weight.shape, weight, bias, net.config.norm_eps).transpose(1, 2)


def _layer_formula(net: Written, name: str, x: Tensor) -> Tensor:
    x = x - x.mean(1, keepdim=True)
    return _affine(net, name, x / torch.sqrt((x * x).mean(1, keepdim=True) + net.config.norm_eps))


def _batch_module(net: Written, name: str, x: Tensor) -> Tensor:
    weight, bias, mean, var = (
        net.w(f"{name}.{n}") for n in ("weight", "bias", "running_mean", "running_var")
    )
    return F.batch_norm(x, mean, var, weight, bias, False, 0.1, net.config.norm_eps)


def _rms_module(net: Written, name: str, x: Tensor) -> Tensor:
    weight = net.w(f"{name}.weight")
    return F.rms_norm(x.transpose(1, 2), weight.shape, weight, net.config.norm_eps).transpose(1, 2)


def _rms_formula(net: Written, name: str, x: Tensor) -> Tensor:
    return _affine(
        net, name, x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + net.config.norm_eps), bias=False
    )


def _group_module(net: Written, name: str, x: Tensor) -> Tensor:
    groups = net.config.norm_groups or 1
    steps = x.transpose(1, 2).reshape(x.shape[0], x.shape[2], groups, -1)
    return _affine(net, name, F.layer_norm(steps, steps.shape[-1:], eps=net.config.norm_eps).flatten(2).mT)


def _group_formula(net: Written, name: str, x: Tensor) -> Tensor:
    grouped = x.reshape(x.shape[0], net.config.norm_groups or 1, -1, x.shape[-1])
    centred = grouped - grouped.mean(2, keepdim=True)
    normal = centred * (centred.square().mean(2, keepdim=True) + net.config.norm_eps).rsqrt()
    return _affine(net, name, normal.reshape(x.shape))


NORMS: dict[str, dict[str, Callable[[Written, str, Tensor], Tensor]]] = {
    "module": {
        "layer": _layer_module, "batch": _batch_module, "rms": _rms_module, "group": _group_module,
    },
    "formula": {
        "layer": _layer_formula, "batch": _batch_module, "rms": _rms_formula, "group": _group_formula,
    },
}  # fmt: skip
POOLINGS: dict[str, dict[str, Callable[[Tensor], Any]]] = {
    "method": {"mean": lambda x: x.mean(-1), "max": lambda x: x.amax(-1), "last": lambda x: x[..., -1]},
    "adaptive": {
        "mean": lambda x: F.adaptive_avg_pool1d(x, 1).flatten(1),
        "max": lambda x: F.adaptive_max_pool1d(x, 1)[..., 0],
        "last": lambda x: x[:, :, -1:].squeeze(-1),
    },
}


# Ends


def _by_convolution(net: Written, x: Tensor) -> Tensor:
    return net.causal(x, net.w("encoder.weight"), 1, 1) + net.w("encoder.bias")[:, None]


def _by_module(net: Written, x: Tensor) -> Tensor:
    weight = net.w("encoder.weight")
    return F.conv1d(F.pad(x, (weight.shape[-1] - 1, 0)), weight, net.w("encoder.bias"))


def _by_table(net: Written, x: Tensor) -> Tensor:
    return F.embedding(x, net.w("encoder.weight")).transpose(1, 2)


ENCODERS: dict[str, Callable[[Written, Tensor], Tensor]] = {
    "convolution": _by_module, "bias apart": _by_convolution, "token": _by_table,
}  # fmt: skip
SHIFTS: dict[str, Callable[[Tensor], Tensor]] = {
    "pad": lambda x: F.pad(x[..., :-1], (1, 0)),
    "zeros": lambda x: torch.cat([torch.zeros_like(x[..., :1]), x[..., :-1]], -1),
    "cut last": lambda x: F.pad(x, (1, 0))[..., :-1],
}
WAYS: dict[str, tuple[str, ...]] = {
    "padding": tuple(PADDINGS), "tree": tuple(TREES), "activation": tuple(ACTIVATIONS),
    "mixing": tuple(MIXINGS), "gate": GATES, "norm": tuple(NORMS), "pooling": tuple(POOLINGS),
    "encoder": ("convolution", "bias apart"), "shift": tuple(SHIFTS),
}  # fmt: skip
