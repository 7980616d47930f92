"""Names of leads and units, as recorders, databases and people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_LIMBS = ("i", "ii", "iii", "avr", "avl", "avf")
_CHEST = tuple(f"v{n}" for n in range(1, 10))
STANDARD = frozenset((*_LIMBS, *_CHEST))
# Words around the name of a lead. MDC_ECG_LEAD_I and MDC_ECG_ELEC_POTL_I are of ISO 11073-10101.
_AROUND = re.compile(
    r"ecg|ekg|electrocardiogram|lead|leads|ableitung|derivation|dérivation|derivación|"
    r"derivazione|afleiding|einthoven|goldberger|wilson|limb|chest|precordial|mdc|elec|"
    r"potl|ref"
)
# Other names of the same leads: C1 is V1 in IEC 60601, DI is I in Spanish.
_ALIASES = {f"c{n}": f"v{n}" for n in range(1, 7)} | {"di": "i", "dii": "ii", "diii": "iii"}
# Pairs of electrodes, the positive one first.
_PAIRS = (("la", "ra", "i"), ("ll", "ra", "ii"), ("ll", "la", "iii"))
# The electrodes of the 10-20 system: in their company C3 is one of them.
_EEG = re.compile(r"(?:fp|af|f|ft|fc|t|tp|cp|p|po|o|a|m)\d|[fcpo]z|e[eo]g")
_WORD = re.compile(r"[^\W_]+")
_INVERTED = re.compile(r"(?:^|[\s_])-(?=\w)")  # as in -aVR
_GENERIC = re.compile(
    r"ecg|ekg|lead|signal|data|value|voltage|amplitude|(?:exg )?(?:a|ch|chan|channel|ecg|ekg|exg) ?\d+"
)

_UNITS = {unit.casefold(): unit for unit in ("nV", "uV", "mV", "V")}
_UNITS |= {"\u00b5v": "uV", "\u03bcv": "uV", "microvolt": "uV", "microvolts": "uV", "millivolt": "mV"}
_UNITS |= {"millivolts": "mV", "volt": "V", "volts": "V", "mcv": "uV"}
_IN_BRACKETS = re.compile(r"^(.*?)[\s,_/:]*[(\[{<]\s*([^()\[\]{}<>]*?)\s*[)\]}>]\s*$", re.DOTALL)
_AT_END = re.compile(r"^(.+?)(?:\s+in\s+|[\s,_/.:]+)([^\W\d_]+)\s*$", re.DOTALL)

# Words that no person is called. A name of other words is the file's own and may be a patient's.
_TECHNICAL = re.compile(
    r"mmhg|adc|adu|mli|mlii|mliii|mcl|cm|cc|cs|ml|mv|nasa|dv|es|as|ai|vf|vx|vy|vz|modified|"
    r"vectorcardiogram|vcg|pleth|ppg|resp|respiration|impedance|abp|art|bp|cvp|pap|icp|"
    r"pressure|spo|sao|o2|co2|etco|pulse|hr|heart|rate|rr|eeg|emg|eog|eda|gsr|meg|"
    r"acc|accel|acceleration|accelerometer|gyro|mag|magnetometer|temp|temperature|light|"
    r"button|marker|trigger|event|status|annotation|annotations|digital|analog|aux|other|"
    r"channel|ch|chan|exg|signal|data|value|voltage|amplitude|raw|filtered|sample|"
    r"samples|index|nseq|seq|counter|battery|time|timestamp|sensor|phone|left|right|chin|"
    r"leg|nasal|flow|airflow|snore|thorax|thor|abdomen|abdo|position|body|bpm|ecgbit|ekg"
)
_CODE = re.compile(r"[^\W\d_]{0,3}\d{1,4}|[^\W_]")


def unit_named(text: str) -> str | None:
    """nV, uV, mV or V from its usual names, or None for anything else."""
    return _UNITS.get(text.strip().casefold())


def split_unit(name: str) -> tuple[str, str | None]:
    """A name without its unit, such as ``I [mV]`` or ``ecg_uV``, and the unit, or None without one.

    A lone V is a unit in brackets only: elsewhere it is a lead.
    """
    for pattern in (_IN_BRACKETS, _AT_END):
        found = pattern.match(name)
        unit = unit_named(found[2]) if found else None
        if found and unit and (pattern is _IN_BRACKETS or found[2].casefold() != "v"):
            return found[1].strip(), unit
    return name.strip(), None


def plain_name(name: str) -> str:
    """The name by which leads are compared: in lower case, without unit and the words of recorders."""
    text = split_unit(name)[0].casefold()
    words = [word for word in _WORD.findall(text) if not _AROUND.fullmatch(word)]
    joined = "".join(words)
    for plus, minus, lead in _PAIRS:
        if re.search(rf"(?:^|[\W_]){plus}-{minus}(?:$|[\W_])", text):
            return lead
    if _INVERTED.search(text):
        return f"-{joined}"
    if joined in STANDARD:
        return joined
    for prefix in ("ecg", "ekg", "lead"):
        if joined.removeprefix(prefix) in STANDARD:
            return joined.removeprefix(prefix)
    return " ".join(words) or " ".join(text.split())


def plain_names(names: Sequence[str]) -> list[str]:
    """:func:`plain_name` of all leads of a source, with C1 and DI as V1 and I."""
    plain = [plain_name(name) for name in names]
    if any(_EEG.fullmatch(word) for name in plain for word in name.split()):
        return plain
    return [_ALIASES.get(name, name) if _ALIASES.get(name) not in plain else name for name in plain]


def is_lead(name: str) -> bool:
    """Whether a name is that of one of the usual leads."""
    plain = plain_name(name)
    return _ALIASES.get(plain, plain) in STANDARD


def is_generic(name: str) -> bool:
    """Whether a name says that a signal is an ECG, and not which lead it is."""
    return _GENERIC.fullmatch(plain_name(name)) is not None


def is_ecg(name: str) -> bool:
    """Whether a name says that a signal is an ECG."""
    words = {word.casefold() for word in _WORD.findall(name)}
    return bool(words & {"ecg", "ekg", "electrocardiogram"}) or is_lead(name)


def shown(names: Sequence[str]) -> list[str]:
    """The names as a message quotes them: ``#3`` in place of the third if it may be the name of a person."""
    return [name.strip() if is_technical(name) else f"#{i}" for i, name in enumerate(names, 1)]


def is_technical(name: str) -> bool:
    """Whether all words of a name are those of recorders."""
    words = [word.casefold() for word in _WORD.findall(name)]
    return 0 < len(name) <= 40 and bool(words) and all(map(_is_technical_word, words))


def _is_technical_word(word: str) -> bool:
    known = any(pattern.fullmatch(word) for pattern in (_TECHNICAL, _AROUND, _CODE))
    return known or word in STANDARD or word in _UNITS


def listed(names: Iterable[str], most: int = 16) -> str:
    """Names for a message, of many only the first."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def name_rules() -> dict[str, Any]:
    """The lists behind :func:`plain_names`, for a page that applies the same rules in JavaScript."""
    return {
        "around": _AROUND.pattern,
        "eeg": _EEG.pattern,
        "generic": _GENERIC.pattern,
        "standard": sorted(STANDARD),
        "aliases": _ALIASES,
        "pairs": _PAIRS,
        "units": _UNITS,
    }
