"""The mixing of the channels of a step in PyTorch: what is between its 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from multires_edge.format.config import ModelConfig


@dataclass(frozen=True)
class MixingModule:
    """``expansion`` is the number of outputs of the first convolution per channel that ``between`` gives."""

    expansion: int
    between: Callable[[], nn.Module]


MIXING_MODULES: dict[str, MixingModule] = {
    "glu": MixingModule(2, lambda: nn.GLU(dim=1)),
    "plain": MixingModule(1, nn.Identity),
}


def mixing_layer(config: ModelConfig, dropout: float) -> nn.Sequential:
    """The mixing of one block, (batch, d_model, time) to the same."""
    d, kind = config.d_model, MIXING_MODULES[config.mixing]
    return nn.Sequential(
        nn.Conv1d(d, kind.expansion * d, 1),
        kind.between(),
        nn.Dropout1d(dropout),
        *([nn.Conv1d(d, d, 1)] if config.second_convolution else []),
    )


def mixing_of(outputs_per_channel: float) -> str | None:
    """The kind of mixing whose first convolution has this many outputs per channel."""
    kinds = (name for name, kind in MIXING_MODULES.items() if kind.expansion == outputs_per_channel)
    return next(kinds, None)
