"""The network in PyTorch, and reading of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multires_edge.format.config import ModelConfig
    from multires_edge.models.loading import load_checkpoint
    from multires_edge.models.network import MultiresNet

__all__ = ["ModelConfig", "MultiresNet", "load_checkpoint"]

_HOMES = {
    "ModelConfig": "multires_edge.format.config",
    "MultiresNet": "multires_edge.models.network",
    "load_checkpoint": "multires_edge.models.loading",
}


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds, so it waits until something needs it.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
