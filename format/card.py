"""The model card: what a network's inputs and outputs mean, which no checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import CardError, DataError
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import (
    ABSENT,
    Above,
    Between,
    Count,
    FieldError,
    Line,
    Text,
    read_fields,
    read_json,
)
from multires_edge.format.high_pass import HighPass

# The micro sign and the Greek letter mu look alike, and files have both.
VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "nV": 1e-9, "\u00b5V": 1e-6, "\u03bcV": 1e-6}
_UNITS = {unit.casefold(): volts for unit, volts in VOLTS.items()}

Mean = Annotated[float, Between(-1e30, 1e30)]
Positive = Annotated[float, Above(0), Between(0, 1e30)]


def is_voltage(unit: str) -> bool:
    """Whether :func:`volts_per` knows a unit."""
    return unit.strip().casefold() in _UNITS


def volts_per(unit: Any, what: str = "the unit") -> float:
    """Volts of one ``unit``: V, mV, uV or nV, in any case. Raises DataError."""
    volts = _UNITS.get(unit.strip().casefold()) if isinstance(unit, str) else None
    if volts is None:
        raise DataError(f"{what} is {unit!r}, expected uV, mV or V")
    return volts


@dataclass(frozen=True)
class Preprocessing:
    """How samples become a network's inputs: x = (sample - mean) / std in ``unit``.

    ``sampling_rate`` is in Hz, ``channels`` are names in order, ``mean`` and ``std`` one number, or one per
    channel. ``high_pass`` is a filter in front of that. A decision needs ``usable_channels`` with a signal.
    """

    sampling_rate: Positive
    channels: tuple[Line, ...]
    unit: Line
    mean: Mean | tuple[Mean, ...]
    std: Positive | tuple[Positive, ...]
    high_pass: HighPass | None = field(default=None, metadata=ABSENT)
    usable_channels: Count = field(default=1, metadata=ABSENT)

    def __post_init__(self) -> None:
        _check_names("channels", self.channels)
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and len(value) != len(self.channels):
                raise CardError(
                    f"{name} has {len(value)} numbers for {len(self.channels)} channels, expected one or "
                    f"{len(self.channels)}"
                )
        if self.usable_channels > len(self.channels):
            raise CardError(f"usable_channels is {self.usable_channels} of {len(self.channels)} channels")

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for a person: numbers have at most six digits."""
        given = (each for each in fields(self) if getattr(self, each.name) != each.default)
        return [(each.name, _text(getattr(self, each.name))) for each in given]

    def inputs(self, records: NDArray[Any]) -> NDArray[np.float32]:
        """The network's inputs for whole records (..., channels, time) in ``unit``, at the sampling rate."""
        if self.high_pass is not None:
            records = self.high_pass.apply(records, self.sampling_rate)
        return self.normalize(records)

    def normalize(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """x = (sample - mean) / std for filtered samples (..., channels, time) in ``unit``."""
        mean, std = (np.reshape(np.asarray(value, np.float64), (-1, 1)) for value in (self.mean, self.std))
        return ((samples - mean) / std).astype(np.float32)


@dataclass(frozen=True)
class About:
    """Texts about a network; ``output`` is "sigmoid" (each label on its own) or "softmax" (exactly one).

    Networks that end with an activation need no ``output``. ``source`` says how and on what data the network
    was trained. ``label_descriptions`` say what labels mean.
    """

    name: Text | None = field(default=None, metadata=ABSENT)
    description: Text | None = field(default=None, metadata=ABSENT)
    output: Literal["sigmoid", "softmax"] | None = field(default=None, metadata=ABSENT)
    source: Text | None = field(default=None, metadata=ABSENT)
    license: Text | None = field(default=None, metadata=ABSENT)
    intended_use: Text | None = field(default=None, metadata=ABSENT)
    limits: Text | None = field(default=None, metadata=ABSENT)
    label_descriptions: dict[Line, Line] | None = field(default=None, metadata=ABSENT)


@dataclass(frozen=True)
class Card(About):
    """A card as read from JSON, where every key is optional. ``labels`` name the outputs in order."""

    preprocessing: Preprocessing | None = field(default=None, metadata=ABSENT)
    labels: tuple[Line, ...] | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        if self.labels is not None:
            _check_names("labels", self.labels)
        if unknown := set(self.label_descriptions or ()) - set(self.labels or ()):
            raise CardError(f"label_descriptions has {', '.join(sorted(unknown))}, expected names of labels")

    @property
    def about(self) -> About:
        """The card without preprocessing and labels."""
        return About(**{each.name: getattr(self, each.name) for each in fields(About)})

    def check_network(self, config: ModelConfig) -> None:
        """Raise CardError unless labels and channels are as many as the network's outputs and inputs."""
        if self.labels is not None and len(self.labels) != config.d_output:
            raise CardError(f"{len(self.labels)} labels for a network with {config.d_output} outputs")
        if self.preprocessing is None:
            return
        channels = len(self.preprocessing.channels)
        if channels != config.d_input:
            takes = "tokens" if config.d_input is None else f"{config.d_input} inputs"
            raise CardError(f"preprocessing has {channels} channels for a network that takes {takes}")


def read_card(path: str | Path, config: ModelConfig | None = None) -> Card:
    """Read a card and check it, against the network too if its ``config`` is given. Raises CardError."""
    path = Path(path)
    try:
        card = read_fields(Card, read_json(path))
        if config is not None:
            card.check_network(config)
    except FileNotFoundError:
        raise CardError(f"{path}: no such file; expected a card in JSON") from None
    except (CardError, FieldError) as error:
        raise CardError(f"{path}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CardError(f"{path}: cannot be read as JSON ({error})") from error
    return card


def _check_names(what: str, names: tuple[str, ...]) -> None:
    if not names or len({name.casefold() for name in names}) < len(names):
        raise CardError(f"{what} are {', '.join(names) or 'empty'}, expected one or more different names")


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
