"""Data files: ``.npz`` with normalised ``x`` or ``tokens``, and ``lengths`` and ``labels`` where known.

Recordings in microvolt (``x_uv``, as int16) are normalised with the model card.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.models.card import Card
from multires_edge.models.config import ModelConfig
from multires_edge.runtime.checks import check_array
from multires_edge.runtime.errors import DataError, InputError

_MICROVOLT = {"uV": 1.0, "µV": 1.0, "mV": 1e-3, "V": 1e-6}


@dataclass(frozen=True)
class Dataset:
    """``inputs`` float32 (n, d_input, time), normalised, or int64 (n, time); ``lengths`` int64 (n,);
    ``labels`` as the file has them."""

    path: Path
    inputs: NDArray[Any]
    lengths: NDArray[np.int64] | None = None
    labels: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def load_data(path: str | Path, config: ModelConfig, card: Card | None = None) -> Dataset:
    """Read a data file and check it against the network. Raises DataError."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an .npz")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz file, or damaged (an .npz is a zip archive of arrays)")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (
        OSError, ValueError, EOFError, AttributeError, NotImplementedError, RuntimeError, MemoryError,
        zlib.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise DataError(f"{path}: not an .npz file, or damaged ({error})") from error
    try:
        inputs = _inputs(arrays, config, card)
        lengths = arrays.get("lengths")
        if lengths is not None:
            lengths = _check_lengths(lengths, inputs)
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    return Dataset(path, inputs, lengths, arrays.get("labels"))


def _inputs(arrays: dict[str, NDArray[Any]], config: ModelConfig, card: Card | None) -> NDArray[Any]:
    if config.encoder == "token":
        if "tokens" not in arrays:
            raise InputError(f"holds {sorted(arrays)}, expected tokens (n, time) int64")
        tokens = arrays["tokens"]
        return check_array(tokens, "tokens", np.dtype(np.int64), ("n", "time"), config.n_tokens)
    assert config.d_input is not None
    shape = ("n", config.d_input, "time")
    if "x" in arrays:
        return check_array(arrays["x"], "x", np.dtype(np.float32), shape)
    if "x_uv" not in arrays:
        raise InputError(f"holds {sorted(arrays)}, expected x (n, {config.d_input}, time) float32")
    microvolt = check_array(arrays["x_uv"], "x_uv", np.dtype(np.int16), shape)
    if card is None or card.preprocessing is None:
        raise InputError("x_uv is in microvolt; a card with preprocessing is needed to normalise it")
    unit = card.preprocessing["unit"]
    if unit not in _MICROVOLT:
        raise InputError(f"x_uv is in microvolt, the card in {unit!r}; expected uV, mV or V")
    if "leads" in arrays and [str(lead) for lead in arrays["leads"]] != card.preprocessing["channels"]:
        raise InputError(
            f"leads are {', '.join(map(str, arrays['leads']))}, the card has "
            f"{', '.join(card.preprocessing['channels'])}"
        )
    return card.normalize(microvolt * _MICROVOLT[unit])


def _check_lengths(lengths: NDArray[Any], inputs: NDArray[Any]) -> NDArray[np.int64]:
    check_array(lengths, "lengths", np.dtype(np.int64), (len(inputs),))
    if lengths.min() < 1 or lengths.max() > inputs.shape[-1]:
        raise InputError(
            f"lengths run from {lengths.min()} to {lengths.max()}, expected 1 to {inputs.shape[-1]}"
        )
    return lengths
