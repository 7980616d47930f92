"""Loads data for calibration, evaluation and proofs: a file of arrays, or a folder of recordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from multires_edge.base.errors import DataError
from multires_edge.format.card import Card
from multires_edge.format.config import ModelConfig
from multires_edge.runtime.evaluation.dataset import Dataset, load_file
from multires_edge.runtime.evaluation.recordings import load_folder


def load_data(
    path: str | Path,
    config: ModelConfig,
    card: Card | None = None,
    *,
    window: float | None = None,
    allow_missing: bool = False,
    rename: Mapping[str, str] | None = None,
) -> Dataset:
    """Read an .npz file, or a folder of recordings, and check it against the network.

    Options of a folder: ``window`` is the length of the pieces in seconds, None for 60 s. ``allow_missing``
    and ``rename`` are those of :class:`StreamOptions`. Raises DataError, and MissingExtraError for
    recordings without the ecg extra.
    """
    path = Path(path)
    if path.is_dir():
        if config.encoder == "token":
            raise DataError(
                f"{path}: a folder of recordings, but the network takes tokens; give an .npz file"
            )
        return load_folder(path, card, window=window, allow_missing=allow_missing, rename=rename)
    if window is not None or allow_missing or rename:
        raise DataError(
            f"{path}: window, allow-missing and lead are options of a folder of recordings; leave them out"
        )
    return load_file(path, config, card.preprocessing if card else None)
