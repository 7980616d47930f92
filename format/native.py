"""Metadata of the native engine's weights files, in which they must agree with a bundle's manifest."""

from __future__ import annotations

from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import NO_POOLING, Pooling

FRAME_KEYS = ("autoregressive", "pooling", "window", "encoder_kernel_size", "output_activation")


def frame_metadata(config: ModelConfig, pooling: Pooling | None) -> dict[str, str]:
    """What a file says of a network around its blocks, with the pooling of its streams.

    Keys of :data:`FRAME_KEYS` are absent where the network is as published; ``pooling`` also where it follows
    from ``autoregressive``.
    """
    kind = config.kind_of_pooling
    usual = NO_POOLING if config.shifts else "mean"
    return {
        "autoregressive": str(int(config.shifts)),
        **({} if kind == usual else {"pooling": kind}),
        "window": str(0 if pooling is None else pooling.native_window),
        **{
            key: str(value)
            for key in ("encoder_kernel_size", "output_activation")
            if (value := getattr(config, key)) is not None
        },
    }
