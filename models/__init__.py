"""The network in PyTorch, and reading of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multires_edge.base.lazy import lazy_names

if TYPE_CHECKING:
    from multires_edge.format.config import ModelConfig
    from multires_edge.models.initialization import initialize
    from multires_edge.models.loading import load_checkpoint
    from multires_edge.models.multires import MultiresLayer
    from multires_edge.models.network import MultiresNet
    from multires_edge.models.saving import save_checkpoint

__all__ = ["ModelConfig", "MultiresLayer", "MultiresNet", "initialize", "load_checkpoint", "save_checkpoint"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ModelConfig": "format.config",
        "MultiresLayer": "models.multires",
        "MultiresNet": "models.network",
        "initialize": "models.initialization",
        "load_checkpoint": "models.loading",
        "save_checkpoint": "models.saving",
    },
)
