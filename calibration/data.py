"""Data for a checkpoint's network, whose facts stand in its configuration and card."""

from __future__ import annotations

from pathlib import Path

from multires_edge.base.errors import DataError
from multires_edge.format.card import Card
from multires_edge.format.config import ModelConfig
from multires_edge.runtime.evaluation import dataset as data
from multires_edge.runtime.evaluation.dataset import Dataset

__all__ = ["Dataset", "load_data"]


def load_data(
    path: str | Path, config: ModelConfig, card: Card | None = None, window: float | None = None
) -> Dataset:
    """Read a data file, or a folder of WFDB recordings, and check it against the network.

    ``window`` cuts recordings into pieces of so many seconds. Raises DataError, and MissingExtraError
    for recordings without the ecg extra.
    """
    path = Path(path)
    preprocessing = card.preprocessing if card else None
    if not path.is_dir():
        if window is not None:
            raise DataError(f"{path}: a window is for folders of recordings; cut the arrays of a file before")
        return data.load_data(path, config, preprocessing)
    if config.encoder == "token":
        raise DataError(f"{path}: a folder of recordings, but the network takes tokens; expected an .npz")
    from multires_edge.runtime.ecg.wfdb_folder import load_folder

    return load_folder(path, preprocessing, window)
