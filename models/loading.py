"""Build the network of a checkpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from multires_edge.base.errors import CheckpointError
from multires_edge.base.names import listed
from multires_edge.format.config import ModelConfig
from multires_edge.models.checkpoint import Checkpoint, read_checkpoint
from multires_edge.models.equivalents import with_published_head
from multires_edge.models.inference import Overrides, infer_config

if TYPE_CHECKING:
    from multires_edge.models.network import MultiresNet


NORM_SCALE, NORM_BIAS = (re.compile(rf"norms\.\d+\.{part}") for part in ("weight", "bias"))


def load_checkpoint(path: str | Path, overrides: Overrides | None = None) -> MultiresNet:
    """Read a checkpoint into a float32 network in evaluation mode.

    ``net(x)`` takes x float32 (batch, d_input, time); a token model takes tokens int64 (batch, time)
    and ``lengths=``. ``overrides`` gives facts that are neither in the tensors nor in ``args.txt``.
    Raises CheckpointError for the file, ConfigError where an option is missing.

    >>> import torch
    >>> from multires_edge.models import load_checkpoint
    >>> net = load_checkpoint("ckpt.pth")
    >>> net(torch.zeros(3, 12, 1000)).shape  # three records of 12 leads
    torch.Size([3, 5])
    """
    overrides = overrides or Overrides()
    checkpoint = read_checkpoint(path, overrides.weights, overrides.encoder)
    return build_network(checkpoint, infer_config(checkpoint, overrides).config)


def build_network(checkpoint: Checkpoint, config: ModelConfig) -> MultiresNet:
    """The network of ``config`` with the checkpoint's weights. Missing or additional tensors are refused."""
    import torch

    from multires_edge.models.network import MultiresNet

    with torch.device("meta"):
        net = MultiresNet(config)
    expected = net.state_dict()
    given = with_published_head(checkpoint.tensors, config)
    if config.norm in ("layer", "group") and not any(NORM_BIAS.fullmatch(name) for name in given):
        scales = {name: tensor for name, tensor in given.items() if NORM_SCALE.fullmatch(name)}
        zeros = {name.replace("weight", "bias"): torch.zeros_like(scale) for name, scale in scales.items()}
        given = {**given, **zeros}  # a norm without a bias
    # Some tools drop this counter; evaluation does not use it.
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(given) - counters)
    unexpected = sorted(set(given) - set(expected))
    if missing or unexpected:
        parts = [f"missing {listed(missing)}"] if missing else []
        parts += [f"unexpected {listed(unexpected)}"] if unexpected else []
        raise CheckpointError(
            f"{checkpoint.path}: {' and '.join(parts)} for a {config.task} network of "
            f"{config.n_layers} layers with {config.norm} norm"
        )
    state = {}
    for name, like in expected.items():
        if name in counters:
            state[name] = torch.zeros((), dtype=torch.int64)
            continue
        tensor = given[name]
        if tensor.shape != like.shape:
            raise CheckpointError(
                f"{checkpoint.path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}"
            )
        if tensor.is_meta or tensor.layout != torch.strided:
            raise CheckpointError(f"{checkpoint.path}: {name} has no dense values")
        if not tensor.is_floating_point():
            raise CheckpointError(f"{checkpoint.path}: {name} is {tensor.dtype}, expected floating point")
        state[name] = tensor.to(torch.float32)
        finite = torch.isfinite(state[name])
        if not finite.all():
            bad = int((~finite).sum())
            raise CheckpointError(
                f"{checkpoint.path}: {bad} of {tensor.numel()} values of {name} are NaN or infinite; the "
                "training diverged or the file is damaged"
            )
    net.load_state_dict(state, assign=True)
    return net.eval().requires_grad_(False)
