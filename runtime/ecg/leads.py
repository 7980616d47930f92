"""Maps the leads of a source to the channels of the card: by name, in the card's order and unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.format.card import Preprocessing, volts_per
from multires_edge.runtime.ecg.sources.protocol import SignalSpec

# The limb leads of Einthoven and Goldberger are differences and means of the same three electrodes. Two of
# them therefore give the other four exactly: III = II - I, and so on.
DERIVED = {
    "iii": (("ii", 1.0), ("i", -1.0)),
    "avr": (("i", -0.5), ("ii", -0.5)),
    "avl": (("i", 1.0), ("ii", -0.5)),
    "avf": (("ii", 1.0), ("i", -0.5)),
}
_PREFIXES = ("ecg ", "ekg ", "lead ")
# More than any potential on the skin: a sentinel for "no value", or a wrong unit.
_LARGEST_VOLTS = 1.0


def plain_name(name: str) -> str:
    """A lead's name in lower case, without extra blanks and without the prefixes of recorders."""
    plain = " ".join(name.casefold().split())
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    return plain


class LeadMap:
    """Selects the card's channels from the leads of a source.

    ``rename`` maps a channel to the name of the source's lead. Missing limb leads are derived from I and II.
    Any other missing lead is a DataError; with ``allow_missing`` the channel stays at the card's ``mean``
    (channels,), which the network sees as zero.
    """

    def __init__(
        self,
        signal: SignalSpec,
        preprocessing: Preprocessing,
        *,
        allow_missing: bool = False,
        rename: Mapping[str, str] | None = None,
    ) -> None:
        self.leads = [str(lead) for lead in signal.leads]
        self.channels: list[str] = list(preprocessing.channels)
        unit, count = signal.unit, len(self.leads)
        one = isinstance(unit, str) or not hasattr(unit, "__iter__")
        units: list[Any] = [unit] * count if one else list(unit)  # checked when their leads are used
        if len(units) != count:
            raise InputError(f"{len(units)} units for {count} leads, expected one unit, or one per lead")
        places = {plain_name(lead): i for i, lead in enumerate(self.leads)}
        self._sources: list[list[tuple[int, float]]] = []
        self.derived: list[str] = []
        self.missing: list[str] = []
        self._to_card = 1 / volts_per(preprocessing.unit, "the card's unit")
        renamed = {plain_name(channel): plain_name(lead) for channel, lead in (rename or {}).items()}
        # Leads I and II can be renamed even if only other limb leads are derived from them.
        known = {*map(plain_name, self.channels), "i", "ii"}
        if unknown := [channel for channel in rename or {} if plain_name(channel) not in known]:
            raise InputError(
                f"no channel {', '.join(unknown)} to rename a lead to; the card has "
                f"{', '.join(self.channels)}"
            )
        for channel in self.channels:
            name = plain_name(channel)
            parts = [(renamed.get(name, name), 1.0)]
            if parts[0][0] not in places and name not in renamed and name in DERIVED:
                limbs = [(renamed.get(lead, lead), weight) for lead, weight in DERIVED[name]]
                if all(lead in places for lead, _ in limbs):
                    parts = limbs
                    self.derived.append(channel)
            if not all(lead in places for lead, _ in parts):
                self.missing.append(channel)
                parts = []
            for lead, _ in parts:
                twice = [given for given in self.leads if plain_name(given) == lead]
                if len(twice) > 1:
                    raise DataError(
                        f"several leads match {channel}: {', '.join(twice)}; give them different names"
                    )
            self._sources.append(
                [(places[lead], w * volts_per(units[places[lead]]) * self._to_card) for lead, w in parts]
            )
        if self.missing and not allow_missing:
            raise DataError(
                f"no lead {', '.join(self.missing)}; the source has {', '.join(self.leads)}: rename one "
                "(--lead CHANNEL=LEAD), or allow missing leads (--allow-missing)"
            )
        if len(self.missing) == len(self.channels):
            raise DataError(
                f"the source has {', '.join(self.leads)}, the card {', '.join(self.channels)}: no lead is in "
                "both; rename one (--lead CHANNEL=LEAD)"
            )
        mean = np.asarray(preprocessing.mean, np.float64)
        self.mean: NDArray[np.float64] = np.broadcast_to(mean, len(self.channels))

    def __call__(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """Convert samples (n, leads) to (n, channels) float64 in the card's unit, NaN without a value."""
        mapped = np.empty((len(samples), len(self.channels)))
        for i, parts in enumerate(self._sources):
            if not parts:
                mapped[:, i] = self.mean[i]
                continue
            (lead, weight), *others = parts
            mapped[:, i] = samples[:, lead] * weight
            for lead, weight in others:
                mapped[:, i] += samples[:, lead] * weight
        with np.errstate(invalid="ignore"):
            mapped[~(np.abs(mapped) <= _LARGEST_VOLTS * self._to_card)] = np.nan
        return mapped
