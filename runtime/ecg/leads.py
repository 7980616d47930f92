"""Maps the leads of a source to the channels of the card: by name, in the card's order and unit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.format.card import Preprocessing, is_voltage, volts_per
from multires_edge.runtime.ecg.lead_names import (
    STANDARD,
    is_generic,
    is_technical,
    listed,
    plain_name,
    plain_names,
    shown,
)
from multires_edge.runtime.ecg.sources.protocol import SignalSpec

# The limb leads of Einthoven and Goldberger are differences and means of the same three electrodes. Two of
# them therefore give the other four exactly: III = II - I, and so on.
DERIVED = {
    "iii": (("ii", 1.0), ("i", -1.0)),
    "avr": (("i", -0.5), ("ii", -0.5)),
    "avl": (("i", 1.0), ("ii", -0.5)),
    "avf": (("ii", 1.0), ("i", -0.5)),
}
# More than any potential on the skin: a sentinel for "no value", or a wrong unit.
_LARGEST_VOLTS = 1.0
_POSITION = re.compile(r"#(\d{1,4})")


class LeadMap:
    """Selects the card's channels from the leads of a source.

    ``rename`` maps a channel, or SOURCE:CHANNEL, to the name of the source's lead, or to its position as #3.
    It applies if the source has that lead. Missing limb leads are derived from I and II. The only signal of a
    source whose name is no lead, such as "ecg", is the card's only channel, or else lead I. Any other missing
    lead is a DataError; with ``allow_missing`` the channel stays at the card's ``mean`` (channels,), which
    the network sees as zero.

    ``applied`` are the keys of ``rename`` that apply. ``notes`` name the leads that no channel is read from,
    and the channel that an unnamed signal is taken for.
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
        self._units: list[Any] = [unit] * count if one else list(unit)  # checked when their leads are used
        if len(self._units) != count:
            raise InputError(
                f"{len(self._units)} units for {count} leads, expected one unit, or one per lead"
            )
        self._shown = shown(self.leads)
        self._plain = plain_names(self.leads)
        self._named = plain_names(self.channels)
        self._to_card = 1 / volts_per(preprocessing.unit, "the card's unit")
        self.derived: list[str] = []
        self.missing: list[str] = []
        self.notes: list[str] = []
        self.applied: set[str] = set()
        self._renamed = self._renames(signal.name, rename or {})
        self._guess()
        self._sources = [self._parts(*each) for each in zip(self.channels, self._named, strict=True)]
        used = {lead for parts in self._sources for lead, _ in parts}
        if unused := [name for i, name in enumerate(self._shown) if i not in used]:
            self.notes.append(f"not used: {listed(unused)}")
        if self.missing and not allow_missing:
            raise DataError(
                f"no lead {', '.join(self.missing)}; the source has {listed(self._shown)}: rename one "
                "(--lead CHANNEL=LEAD), or allow missing leads (--allow-missing)"
            )
        if len(self.missing) == len(self.channels):
            raise DataError(
                f"the source has {listed(self._shown)}, the card {', '.join(self.channels)}: no lead is in "
                "both; rename one (--lead CHANNEL=LEAD)"
            )
        mean = np.asarray(preprocessing.mean, np.float64)
        self.mean: NDArray[np.float64] = np.broadcast_to(mean, len(self.channels))
        self._absent = [i for i, parts in enumerate(self._sources) if not parts]
        # The first part of each channel, and the further ones of those that are derived.
        first = [parts[0] if parts else (0, 0.0) for parts in self._sources]
        self._first = [lead for lead, _ in first]
        weights = {weight for (_, weight), parts in zip(first, self._sources, strict=True) if parts}
        # numpy is several times as fast with one number for all.
        self._weights = np.array(weights.pop() if len(weights) == 1 else [weight for _, weight in first])
        self._further = [(i, *part) for i, parts in enumerate(self._sources) for part in parts[1:]]

    def _renames(self, source: str, rename: Mapping[str, str]) -> dict[str, int]:
        """The place of the lead for each channel that is renamed; a rename of this source goes first."""
        # Leads I and II can be renamed even if only other limb leads are derived from them.
        known = {*self._named, "i", "ii"}
        found: dict[str, int] = {}
        for key, lead in sorted(rename.items(), key=lambda item: ":" not in item[0]):
            name, _, channel = key.rpartition(":")
            plain = plain_name(channel)
            if plain not in known:
                raise InputError(
                    f"no channel {channel} to rename a lead to; the card has {', '.join(self.channels)}"
                )
            if name and name not in (source, Path(source).name, Path(source).stem):
                continue
            places = self._places(lead)
            if len(places) > 1:
                raise DataError(
                    f"several leads are called {lead}; give one by its position, as #{places[0] + 1}"
                )
            if name and not places:
                raise DataError(f"has no lead {lead}; it has {listed(self._shown)}")
            if places:
                self.applied.add(key)
                found.setdefault(plain, places[0])
        return found

    def _places(self, lead: str) -> list[int]:
        """The leads of a name that the user gave: exactly, then by its plain form, then by position."""
        exact = [i for i, name in enumerate(self.leads) if name.strip() == lead.strip()]
        wanted = plain_names([lead])[0]
        places = exact or [i for i, name in enumerate(self._plain) if name == wanted]
        position = _POSITION.fullmatch(lead)
        if not places and position and int(position[1]) <= len(self.leads):
            return [int(position[1]) - 1]
        return places

    def _guess(self) -> None:
        """Take the only signal of a source for a lead if its name is that of none."""
        voltages = [i for i, unit in enumerate(self._units) if isinstance(unit, str) and is_voltage(unit)]
        generic = [i for i in voltages if is_generic(self.leads[i])]
        if self._renamed or len(generic) != 1 or set(self._plain) & {*self._named, *STANDARD}:
            return
        channel = "i" if "i" in self._named else self._named[0]
        self._renamed[channel] = generic[0]
        given = f"{self.channels[self._named.index(channel)]}={self._shown[generic[0]]}"
        self.notes.append(
            f"its only signal is taken for lead {given.split('=', maxsplit=1)[0]}; --lead {given} says so too"
        )

    def _parts(self, channel: str, name: str) -> list[tuple[int, float]]:
        """The leads that a channel is a sum of, and their weights; notes what is derived or missing."""
        parts = self._lead(channel, name)
        if parts is None and name in DERIVED:
            limbs = [(self._lead(channel, lead), weight) for lead, weight in DERIVED[name]]
            if all(lead is not None for lead, _ in limbs):
                self.derived.append(channel)
                return [(lead[0], lead[1] * weight) for lead, weight in limbs if lead is not None]
        if parts is None:
            self.missing.append(channel)
            return []
        return [parts]

    def _lead(self, channel: str, name: str) -> tuple[int, float] | None:
        """The place of a lead and its factor to the card's unit, or None."""
        if name in self._renamed:
            places = [self._renamed[name]]
        else:
            places = [i for i, plain in enumerate(self._plain) if plain == name]
        if len(places) > 1:
            twice = ", ".join(self._shown[i] for i in places)
            raise DataError(f"several leads match {channel}: {twice}; give them different names")
        if not places:
            return None
        return places[0], self._volts(places[0]) * self._to_card

    def _volts(self, place: int) -> float:
        unit = self._units[place]
        if isinstance(unit, str) and not (is_voltage(unit) or is_technical(unit)):
            raise DataError(f"the unit of {self._shown[place]} is unknown, expected uV, mV or V")
        return volts_per(unit)

    def __call__(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """Convert samples (n, leads) to (n, channels) float64 in the card's unit, NaN without a value."""
        mapped: NDArray[np.float64] = samples.take(self._first, 1) * self._weights
        for i, lead, weight in self._further:
            mapped[:, i] += samples[:, lead] * weight
        for i in self._absent:
            mapped[:, i] = self.mean[i]
        largest = _LARGEST_VOLTS * self._to_card
        if not (mapped.max(initial=-largest) <= largest and mapped.min(initial=largest) >= -largest):
            with np.errstate(invalid="ignore"):
                mapped[~(np.abs(mapped) <= largest)] = np.nan
        return mapped


def check_applied(rename: Mapping[str, str], maps: Iterable[LeadMap]) -> None:
    """Raise DataError for a lead that no source has."""
    applied = {key for each in maps for key in each.applied}
    if wrong := [f"{key}={lead}" for key, lead in rename.items() if key not in applied]:
        raise DataError(f"--lead {', '.join(wrong)}: no source has that name or that lead")
