"""Data files for a checkpoint's network, whose facts stand in its configuration and card."""

from __future__ import annotations

from pathlib import Path

from multires_edge.models.card import Card
from multires_edge.models.config import ModelConfig
from multires_edge.runtime import data
from multires_edge.runtime.data import Dataset

__all__ = ["Dataset", "load_data"]


def load_data(path: str | Path, config: ModelConfig, card: Card | None = None) -> Dataset:
    """Read a data file and check it against the network. Raises DataError."""
    return data.load_data(path, config.to_json(), card.preprocessing if card else None)
