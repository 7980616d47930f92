"""Networks to measure, untrained: what a step costs does not depend on the weights."""

from __future__ import annotations

from pathlib import Path

import torch

from multires_edge.models import ModelConfig, MultiresNet

# What the paper trains on PTB-XL.
PAPER_SIZE = ModelConfig(
    task="classification",
    encoder="linear",
    d_input=12,
    n_tokens=None,
    d_output=5,
    d_model=128,
    n_layers=6,
    kernel_size=2,
    depth=10,
)

# The size of the pixel model that the tests carry.
PIXEL_MODEL = ModelConfig(
    task="autoregressive",
    encoder="linear",
    d_input=3,
    n_tokens=None,
    d_output=100,
    d_model=48,
    n_layers=3,
    kernel_size=4,
    depth=9,
)


def random_checkpoint(config: ModelConfig, folder: Path) -> Path:
    """A checkpoint with random weights, as the training code would save it."""
    torch.manual_seed(0)
    path = folder / "ckpt.pth"
    torch.save({"model": MultiresNet(config).state_dict()}, path)
    (folder / "args.txt").write_text("--tree_select=fading")
    return path
