"""Save a trained network so that it can be exported without a question."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from multires_edge.base.files import write_file
from multires_edge.format.fields import plain
from multires_edge.models.network import MultiresNet


def save_checkpoint(net: MultiresNet, path: str | Path, *, force: bool = False) -> None:
    """Write weights and configuration to a file for ``torch.load`` and ``multires-export``.

    The file has ``model``, the state dict, and ``config``, the configuration as JSON values. It appears whole
    or not at all. Raises OutputError if it exists (without ``force``) or cannot be written.

    >>> from multires_edge.models import load_checkpoint, save_checkpoint
    >>> net = load_checkpoint("ckpt.pth")
    >>> save_checkpoint(net, "out/copy.pth")
    """
    buffer = io.BytesIO()
    torch.save({"model": net.state_dict(), "config": plain(net.config)}, buffer)
    write_file(Path(path), buffer.getvalue(), force=force)
