"""MultiresNet in PyTorch: the reference that every exported graph is compared with.

Its parameters have the names of the published checkpoints, so their state dicts load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multires_edge.base.errors import ConfigError
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import FieldError, read_fields
from multires_edge.format.pooling import Pooling
from multires_edge.models.mixing import mixing_layer
from multires_edge.models.multires import MultiresLayer
from multires_edge.models.norms import NORM_MODULES
from multires_edge.models.pooling import POOLING_REFERENCES

# Of (batch, d_output), or (batch, d_output, time).
OUTPUT_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softmax": partial(torch.softmax, dim=1),
}


class CausalConv1d(nn.Conv1d):
    """A convolution of each step and those before it, with zeros before the first step."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.kernel_size[0] - 1, 0)))


class MultiresNet(nn.Module):
    """Encoder, residual stack of multiresolution layers, and a head for one of two tasks.

    - classification: x (batch, d_input, time) or tokens (batch, time), optionally lengths (batch,),
      to logits (batch, d_output), or (batch, d_output, time) without pooling.
    - autoregressive: x (batch, d_input, time) to params (batch, d_output, time), where step t only
      sees inputs before t, or up to t if the network is not shifted.

    ``dropout`` is the probability with which training drops a channel, as in the published code: of each
    layer's output, and of each block's before it is added.
    """

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        self.encoder: nn.Module
        if config.encoder == "linear":
            self.encoder = CausalConv1d(config.channels, d, config.encoder_taps)
        else:
            assert config.n_tokens is not None
            self.encoder = nn.Embedding(config.n_tokens, d)
        autoregressive = config.task == "autoregressive"
        self.seq_layers = nn.ModuleList(MultiresLayer(config, dropout) for _ in range(config.n_layers))
        self.mixing_layers = nn.ModuleList(mixing_layer(config, dropout) for _ in range(config.n_layers))
        self.norms = nn.ModuleList(
            NORM_MODULES[config.norm](d, config.norm_eps, config.norm_groups or 1)
            for _ in range(config.n_layers)
        )
        # The output of each block passes one, where hooks see it.
        self.block_outputs = nn.ModuleList(nn.Identity() for _ in range(config.n_layers))
        if autoregressive:
            self.decoder = nn.Conv1d(d, config.d_output, 1)
        else:
            self.output_mapping = nn.Linear(config.d_head, config.d_output)

    @classmethod
    def from_config(cls, config: ModelConfig | Mapping[str, Any], **options: Any) -> MultiresNet:
        """A new network of a configuration, or of the JSON values of one. Raises ConfigError.

        ``options`` are those of the constructor.
        """
        if not isinstance(config, ModelConfig):
            try:
                config = read_fields(ModelConfig, dict(config))
            except FieldError as error:
                raise ConfigError(str(error)) from None
        return cls(config, **options)

    def features(self, x: Tensor) -> Tensor:
        """The output of the stack (batch, d_model, time), before pooling and head, without a shift."""
        x = cast(Tensor, self.encoder(x))
        if self.config.encoder == "token":
            x = x.transpose(1, 2)
        before = self.config.norm_place == "before"
        parts = (self.seq_layers, self.mixing_layers, self.norms, self.block_outputs)
        for layer, mixing, norm, output in zip(*parts, strict=True):
            x = x + mixing(layer(norm(x))) if before else norm(x + mixing(layer(x)))
            x = output(x)
        return x

    def forward(self, x: Tensor, lengths: Tensor | None = None, pooling: Pooling | None = None) -> Tensor:
        """The outputs for whole sequences; ``pooling`` replaces the network's own."""
        return self.outputs(self.features(self.shifted(x)), lengths, pooling)

    def shifted(self, x: Tensor) -> Tensor:
        """The input that the encoder reads: in a shifted network, the one before each step."""
        return F.pad(x[..., :-1], (1, 0)) if self.config.shifts else x

    def outputs(
        self, features: Tensor, lengths: Tensor | None = None, pooling: Pooling | None = None
    ) -> Tensor:
        """The outputs for the features of whole sequences; see `forward`."""
        pooling = self.config.pooled_by(pooling)
        if pooling is not None:
            return self._activated(
                self._head(POOLING_REFERENCES[type(pooling)].whole(pooling, features, lengths))
            )
        if lengths is not None:
            raise TypeError("lengths are for networks that pool; this network has an output at every step")
        return self._head_of_steps(features)

    def stepwise(self, x: Tensor, pooling: Pooling | None = None) -> Tensor:
        """The outputs of a stream at every step: (batch, d_output, time).

        A stream of a shifted network takes x[t-1] at step t; ``x`` here is this shifted input.
        """
        features, pooling = self.features(x), self.config.pooled_by(pooling)
        if pooling is not None:
            features = POOLING_REFERENCES[type(pooling)].stepwise(pooling, features)
        return self._head_of_steps(features)

    def _head(self, pooled: Tensor) -> Tensor:
        return cast(Tensor, self.output_mapping(pooled))

    def _head_of_steps(self, features: Tensor) -> Tensor:
        if self.config.task == "autoregressive":
            return self._activated(cast(Tensor, self.decoder(features)))
        return self._activated(self._head(features.transpose(1, 2)).transpose(1, 2))

    def _activated(self, y: Tensor) -> Tensor:
        activation = self.config.output_activation
        return y if activation is None else OUTPUT_FUNCTIONS[activation](y)
