"""Causal networks as users write them, small, with parameters that are off their initial values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def causal(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """A causal depthwise convolution."""
    padded = F.pad(x, (dilation * (weight.shape[-1] - 1), 0))
    return F.conv1d(padded, weight, dilation=dilation, groups=len(weight))


class Multires(nn.Module):
    """A fading tree; with ``untied`` each scale has filters of its own."""

    def __init__(self, d: int, taps: int = 2, depth: int = 3, untied: bool = False) -> None:
        super().__init__()
        self.depth, count = depth, depth if untied else 1
        self.lowpass = nn.Parameter(torch.randn(count, d, 1, taps) / 2)
        self.highpass = nn.Parameter(torch.randn(count, d, 1, taps) / 2)
        self.weights = nn.Parameter(torch.randn(d, depth + 2) / 2)

    def forward(self, x: Tensor) -> Tensor:
        a, y = x, self.weights[:, -1:] * x
        for j in range(self.depth):
            scale = min(j, len(self.lowpass) - 1)
            b = causal(a, self.highpass[scale], 2**j)
            a = causal(a, self.lowpass[scale], 2**j)
            y = y + self.weights[:, j + 1 : j + 2] * b
        return y + self.weights[:, :1] * a


class Uniform(nn.Module):
    """A uniform tree: a scale is read at several places of the past."""

    def __init__(self, d: int, depth: int = 2) -> None:
        super().__init__()
        self.lowpass, self.highpass = (nn.Parameter(torch.randn(2, d, 1, 2) / 2) for _ in range(2))
        self.weights = nn.Parameter(torch.randn(depth, 3, d, 1) / 2)

    def forward(self, x: Tensor) -> Tensor:
        a, y = x, torch.zeros_like(x)
        for j, weights in enumerate(self.weights):
            b = causal(a, self.highpass[0], 2**j)
            a = causal(a, self.lowpass[1], 2**j)
            for k, weight in enumerate(weights):
                late = b if k == 0 else F.pad(b, (k * 2 ** (j + 1), 0))[..., : -k * 2 ** (j + 1)]
                y = y + weight * late
        return y + a


class RmsNorm(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(d, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6) * self.scale


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": ChannelNorm,
    "batch": nn.BatchNorm1d,
    "rms": RmsNorm,
}
POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(-1),
    "max": lambda x: x.amax(-1),
    "last": lambda x: x[..., -1],
    "all": lambda x: torch.cat([x.mean(2), x.max(2).values, x[:, :, -1]], 1),
    "adaptive": lambda x: F.adaptive_avg_pool1d(x, 1).squeeze(-1),
}


class Block(nn.Module):
    """A block of two layers' mixing, before or behind which a norm is."""

    def __init__(self, mix: nn.Module, norm: str, before: bool, act: str, d: int) -> None:
        super().__init__()
        self.mix, self.norm, self.before = mix, NORMS[norm](d), before
        self.act = getattr(nn, act)()
        self.gate = nn.Sequential(nn.Conv1d(d, 2 * d, 1), nn.GLU(1), nn.Dropout(0.2), nn.Conv1d(d, d, 1))

    def forward(self, x: Tensor) -> Any:
        y = self.gate(self.act(self.mix(self.norm(x) if self.before else x)))
        return x + y if self.before else self.norm(x + y)


class Classifier(nn.Module):
    def __init__(
        self, norm: str = "layer", before: bool = False, act: str = "GELU", pool: str = "mean",
        d_input: int = 3, linear: bool = False, mix: Callable[[int], nn.Module] = Multires,
    ) -> None:  # fmt: skip
        super().__init__()
        d = 6
        self.linear, self.pool = linear, POOLS[pool]
        self.encoder: nn.Module = nn.Linear(d_input, d) if linear else nn.Conv1d(d_input, d, 1)
        self.blocks = nn.Sequential(*(Block(mix(d), norm, before, act, d) for _ in range(2)))
        self.head = nn.Linear(3 * d if pool == "all" else d, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.encoder(x.transpose(1, 2)).transpose(1, 2) if self.linear else self.encoder(x)
        return self.head(self.pool(self.blocks(x)))


class PerStep(nn.Module):
    """Tokens or samples to an output at each step; ``shifted`` by one, as in autoregressive training."""

    def __init__(self, tokens: int | None = None, shifted: bool = False) -> None:
        super().__init__()
        self.shifted, self.tokens = shifted, tokens
        self.encoder: nn.Module = nn.Conv1d(3, 6, 1) if tokens is None else nn.Embedding(tokens, 6)
        self.blocks = nn.Sequential(*(Block(Multires(6), "layer", False, "GELU", 6) for _ in range(2)))
        self.head = nn.Conv1d(6, tokens or 8, 1)

    def forward(self, x: Tensor) -> Any:
        if self.shifted:
            x = F.pad(x[..., :-1], (1, 0))
        x = self.encoder(x)
        return self.head(self.blocks(x if self.tokens is None else x.transpose(1, 2)))


class WaveNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        pairs = [(nn.Conv1d(5, 10, 2, dilation=2**i), nn.Conv1d(5, 5, 1)) for i in range(4)]
        self.dilated, self.residual = (nn.ModuleList(convs) for convs in zip(*pairs, strict=True))
        self.skip = nn.ModuleList(nn.Conv1d(5, 7, 1) for _ in pairs)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(7, 9, 1))

    def forward(self, tokens: Tensor) -> Any:
        x, total = self.embed(tokens).transpose(1, 2), 0
        for i, (dilated, residual, skip) in enumerate(
            zip(self.dilated, self.residual, self.skip, strict=True)
        ):
            a, b = dilated(F.pad(x, (2**i, 0))).chunk(2, dim=1)
            h = torch.tanh(a) * torch.sigmoid(b)
            x, total = x + residual(h), total + skip(h)
        return self.head(total)


class Chomp(nn.Module):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.steps].contiguous()


class TcnBlock(nn.Module):
    def __init__(self, inputs: int, d: int, dilation: int, norm: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        pad = 2 * dilation
        layers: list[nn.Module] = []
        for size in (inputs, d):
            conv = norm(nn.Conv1d(size, d, 3, padding=pad, dilation=dilation))
            layers += [conv, Chomp(pad), nn.ReLU(inplace=True), nn.Dropout(0.2)]
        self.layers = nn.Sequential(*layers)
        self.down = nn.Conv1d(inputs, d, 1) if inputs != d else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.down(x))


class Tcn(nn.Module):
    def __init__(self, norm: Callable[[nn.Module], nn.Module] = lambda conv: conv) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(TcnBlock(3 if i == 0 else 5, 5, 2**i, norm) for i in range(3)))
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.blocks(x)[:, :, -1])


class TwoEncoders(nn.Module):
    """Two inputs, a gate between them, and several heads by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = Classifier(d_input=2), Classifier(d_input=1, pool="max")
        self.gate = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())
        self.steps = nn.Conv1d(3, 2, 3)

    def forward(self, seismic: Tensor, sound: Tensor) -> dict[str, Tensor]:
        a, b = self.left(seismic), self.right(sound)
        both = F.pad(torch.cat([seismic, sound], 1), (2, 0))
        return {"event": a + self.gate(b) * b, "alarm": self.steps(both), "share": self.gate(b)}


class Casts(nn.Module):
    """Computes a norm in float32, as code for half precision does, and returns names that operators have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.norm(F.pad(self.conv(F.pad(x, (1, 0))), (1, 0))[..., :-1]).float()
        y = (y * torch.rsqrt(y.pow(2).mean(1, keepdim=True) + 1e-6)).type_as(x)
        return {"mul": y * 2, "mean": y.mean(-1)}


class MergedRows(nn.Module):
    """Folds batch and time into one axis for its linear layers, as much code for transformers does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.norm = nn.Conv1d(3, 4, 4), nn.Linear(4, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.pad(x, (3, 0)))
        batch, channels, steps = x.shape
        x = self.norm(self.linear(x.permute(0, 2, 1).reshape(batch * steps, channels)))
        return x.view(batch, steps, 3, 2).permute(0, 2, 3, 1).flatten(1, 2)


class OverAxes(nn.Module):
    """A two-dimensional convolution over electrodes and time, as in EEG networks."""

    def __init__(self) -> None:
        super().__init__()
        self.over_time = nn.Conv2d(1, 3, (1, 4), dilation=(1, 2), bias=False)
        self.over_leads = nn.Conv2d(3, 6, (3, 1), groups=3)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Conv1d(6, 2, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.over_time(F.pad(x.unsqueeze(1), (6, 0)))
        return self.head(F.elu(self.norm(self.over_leads(x))).squeeze(2)).softmax(1)


class Shapes(nn.Module):
    """Padding by values that are not zero, valid convolutions before a padding, sums without end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 4, 3), nn.Conv1d(4, 4, 2, dilation=3, groups=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.pad(torch.sigmoid(self.first(F.pad(x, (2, 0), value=0.5))), (3, 0), value=-0.25)
        y = self.second(torch.exp(y))
        late = torch.cat([torch.zeros_like(y[..., :2]), y[..., :-2]], -1)
        return torch.stack([y, late], 1).flatten(1, 2), torch.sigmoid(y.cumsum(-1) / 50).sum(-1)


class Recurrent(nn.Module):
    """LSTM or GRU layers over the outputs of a convolution, and their last state, as a classifier has it."""

    def __init__(self, kind: str, batch_first: bool, **options: Any) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.conv = nn.Conv1d(3, 4, 3)
        self.layers = getattr(nn, kind)(4, 5, batch_first=batch_first, **options)
        self.head, self.steps = nn.Linear(5, 2), nn.Conv1d(5, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.conv(F.pad(x, (2, 0))))
        there, back = ((0, 2, 1), (0, 2, 1)) if self.batch_first else ((2, 0, 1), (1, 2, 0))
        y, last = self.layers(x.permute(there))
        state = last[0] if isinstance(last, tuple) else last
        return self.steps(y.permute(back)), self.head(state[-1])


class Windows(nn.Module):
    """Means and maxima of a few steps, and sums of products."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.gates = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))
        self.mean, self.max = nn.AvgPool1d(3, 1), nn.MaxPool1d(5, stride=1, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("bct,oc->bot", x, self.mix)
        y = torch.tanh(self.mean(F.pad(y, (2, 0), value=0.5)))
        largest = self.max(F.pad(y, (8, 0), value=-float("inf")))
        late = F.max_pool1d(F.pad(torch.exp(y), (3, 0)), 2, 1)[..., :-2]
        return torch.einsum("bct,bct,c->bct", largest, late, self.gates)


def brisk(net: nn.Module, seed: int = 0) -> nn.Module:
    """Move parameters and statistics off their initial values, so that all of them count."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=random))
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=random) / 3)
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=random))
    return net.eval()


def signals(*channels: int) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda steps: tuple(torch.randn(2, each, steps) for each in channels)


def tokens(count: int) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda steps: (torch.randint(0, count, (2, steps)),)


weight_norm: Any = nn.utils.parametrizations.weight_norm
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, ...]]]] = {
    "published": (Classifier, signals(3)),
    "pre-norm, RMS, SiLU": (lambda: Classifier("rms", before=True, act="SiLU"), signals(3)),
    "untied, BatchNorm, ReLU": (
        lambda: Classifier("batch", act="ReLU", mix=lambda d: Multires(d, untied=True)),
        signals(3),
    ),
    "max": (lambda: Classifier(pool="max", act="ReLU6"), signals(3)),
    "last, linear encoder": (lambda: Classifier(pool="last", linear=True), signals(3)),
    "mean, max and last": (lambda: Classifier(pool="all", before=True), signals(3)),
    "uniform, adaptive": (lambda: Classifier(pool="adaptive", mix=Uniform), signals(3)),
    "per step": (PerStep, signals(3)),
    "shifted": (lambda: PerStep(shifted=True), signals(3)),
    "tokens": (lambda: PerStep(tokens=11), tokens(11)),
    "shifted tokens": (lambda: PerStep(tokens=11, shifted=True), tokens(11)),
    "WaveNet": (WaveNet, tokens(9)),
    "TCN": (Tcn, signals(3)),
    "TCN, weight norm": (lambda: Tcn(weight_norm), signals(3)),
    "two encoders": (TwoEncoders, signals(2, 1)),
    "casts": (Casts, signals(3)),
    "merged rows": (MergedRows, signals(3)),
    "two axes": (OverAxes, signals(3)),
    "shapes": (Shapes, signals(3)),
    "LSTM": (lambda: Recurrent("LSTM", batch_first=True, num_layers=2), signals(3)),
    "LSTM without biases": (lambda: Recurrent("LSTM", batch_first=False, bias=False), signals(3)),
    "GRU": (lambda: Recurrent("GRU", batch_first=False, num_layers=2, dropout=0.1), signals(3)),
    "windows": (Windows, signals(3)),
}


def network(name: str) -> tuple[nn.Module, Callable[[int], tuple[Tensor, ...]]]:
    """A network of the table, and what makes inputs (2, ..., steps) for it."""
    make, inputs = NETWORKS[name]
    torch.manual_seed(0)
    return brisk(make()), inputs
