"""The model card: what a network's inputs and outputs mean, which no checkpoint holds."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import CardError
from multires_edge.format.config import ModelConfig
from multires_edge.format.preprocessing import normalize

_PREPROCESSING = {"sampling_rate", "channels", "unit", "mean", "std"}
_KNOWN = {"name", "description", "preprocessing", "labels", "output", "source", "license"}


@dataclass(frozen=True)
class Card:
    """A card as read from JSON.

    ``preprocessing`` has sampling_rate (Hz), channels (names in order), unit, and mean and std in that
    unit, one number or one a channel: x = (sample - mean) / std. ``labels`` name the outputs in order;
    ``output`` is "sigmoid" (each label on its own) or "softmax" (exactly one).
    """

    entry: dict[str, Any]

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        value: dict[str, Any] | None = self.entry.get("preprocessing")
        return value

    @property
    def labels(self) -> list[str] | None:
        value: list[str] | None = self.entry.get("labels")
        return value

    @property
    def about(self) -> dict[str, Any]:
        """Everything else: name, description, output, source, license."""
        return {k: v for k, v in self.entry.items() if k not in ("preprocessing", "labels")}

    def normalize(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """x = (sample - mean) / std for samples (..., channels, time) in the card's unit."""
        if self.preprocessing is None:
            raise CardError("the card has no preprocessing, so samples cannot be normalised")
        return normalize(samples, self.preprocessing)


def read_card(path: str | Path, config: ModelConfig | None = None) -> Card:
    """Read a card and check it, against the network too if its ``config`` is given. Raises CardError."""
    path = Path(path)
    try:
        entry = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        json.dumps(entry, ensure_ascii=False).encode("utf-8")
    except FileNotFoundError:
        raise CardError(f"{path}: no such file; expected a card in JSON") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CardError(f"{path}: cannot be read as JSON ({error})") from error
    try:
        _check(entry, config)
    except CardError as error:
        raise CardError(f"{path}: {error}") from error
    return Card(entry)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check(entry: Any, config: ModelConfig | None) -> None:
    if not isinstance(entry, dict):
        raise CardError(f"holds a {type(entry).__name__}, expected an object")
    unknown = sorted(set(entry) - _KNOWN)
    if unknown:
        raise CardError(f"unknown keys {unknown}, expected some of {sorted(_KNOWN)}")
    labels = entry.get("labels")
    if labels is not None:
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise CardError("labels must be a list of names")
        if config is not None and len(labels) != config.d_output:
            raise CardError(f"has {len(labels)} labels, the network {config.d_output} outputs")
    if entry.get("output", "softmax") not in ("sigmoid", "softmax"):
        raise CardError(f"output is {entry['output']!r}, expected sigmoid or softmax")
    if entry.get("preprocessing") is not None:
        _check_preprocessing(entry["preprocessing"], config)


def _check_preprocessing(entry: Any, config: ModelConfig | None) -> None:
    if not isinstance(entry, dict) or set(entry) != _PREPROCESSING:
        keys = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise CardError(f"preprocessing has {keys}, expected {sorted(_PREPROCESSING)}")
    channels = entry["channels"]
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise CardError("preprocessing: channels must be a list of names")
    if config is not None and config.d_input is not None and len(channels) != config.d_input:
        raise CardError(f"preprocessing: {len(channels)} channels, the network takes {config.d_input}")
    if not isinstance(entry["unit"], str):
        raise CardError(f"preprocessing: unit is {entry['unit']!r}, expected a name such as mV")
    _check_numbers("sampling_rate", entry["sampling_rate"], None, above=0)
    _check_numbers("mean", entry["mean"], len(channels))
    _check_numbers("std", entry["std"], len(channels), above=0)


def _check_numbers(name: str, value: Any, channels: int | None, above: float = -math.inf) -> None:
    values = value if isinstance(value, list) and channels else [value]
    if isinstance(value, list) and len(values) != channels:
        raise CardError(f"preprocessing: {name} must be one number or one a channel")
    for number in values:
        good = isinstance(number, int | float) and abs(number) < 1e30 and number > above
        if not good or isinstance(number, bool):
            bound = "a finite number" if above == -math.inf else f"a finite number above {above}"
            raise CardError(f"preprocessing: {name} is {number!r}, expected {bound}")
