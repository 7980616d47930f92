"""Metadata of the native engine's weights files, in which they must agree with a bundle's manifest."""

from __future__ import annotations

from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import NO_POOLING, Pooling


def outputs_metadata(config: ModelConfig, pooling: Pooling | None) -> dict[str, str]:
    """What a file says of a network's outputs, with the pooling of its streams.

    ``pooling`` is there unless it follows from ``autoregressive``.
    """
    kind = config.kind_of_pooling
    usual = NO_POOLING if config.shifts else "mean"
    return {
        "autoregressive": str(int(config.shifts)),
        **({} if kind == usual else {"pooling": kind}),
        "window": str(0 if pooling is None else pooling.native_window),
    }
