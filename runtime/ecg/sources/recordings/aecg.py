"""HL7 annotated ECG (aECG, ANSI/HL7 V3 ECG R1)."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from multires_edge.runtime.ecg.lead_names import unit_named
from multires_edge.runtime.ecg.sources.recordings.record import Damaged, Values
from multires_edge.runtime.ecg.sources.recordings.whole import SAMPLES_MOST, Lead
from multires_edge.runtime.ecg.sources.recordings.xml_tree import number_of

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def aecg_leads(root: Element) -> list[Lead]:
    """The leads of the set of sequences with most samples: the rhythm, and no representative beat."""
    best: list[Lead] = []
    for sequences in root.iterfind("component/series/component/sequenceSet"):
        leads = _leads(sequences)
        if sum(len(each.values) for each in leads) > sum(len(each.values) for each in best):
            best = leads
    if not best:
        raise Damaged("no sequences of leads")
    return best


def _leads(sequences: Element) -> list[Lead]:
    seconds, leads = None, []
    for sequence in sequences.iterfind("component/sequence"):
        code, value = sequence.find("code"), sequence.find("value")
        if code is None or value is None:
            continue
        name = code.get("code", "")
        increment = value.find("increment")
        if increment is not None:
            unit = _SECONDS.get(increment.get("unit", "s"))
            if unit is None:
                raise Damaged("times in an unknown unit")
            seconds = number_of(increment.get("value"), "increment of the times") * unit
        elif value.find("digits") is not None:
            leads.append((name, *_values(value)))
    if not leads:
        return []
    if not seconds or seconds < 0:
        raise Damaged("leads without times")
    return [Lead(name, round(1 / seconds, 6), unit, values) for name, unit, values in leads]


def _values(value: Element) -> tuple[str, Values]:
    """The unit, and origin + scale digits in it."""
    origin, scale, digits = value.find("origin"), value.find("scale"), value.find("digits")
    if scale is None or digits is None:
        raise Damaged("a lead without a scale")
    text = scale.get("unit") or ""
    unit = unit_named(text) or text
    words = (digits.text or "").split()
    if len(words) > SAMPLES_MOST:
        raise Damaged("leads of too many samples")
    try:
        numbers = np.array(words, np.float64)
    except ValueError:
        raise Damaged("samples that are no numbers") from None
    start = 0.0
    if origin is not None:
        if (unit_named(origin.get("unit", "")) or origin.get("unit", "")) != unit:
            raise Damaged("a lead with an origin in another unit than its scale")
        start = number_of(origin.get("value", "0"), "origin")
    return unit, start + number_of(scale.get("value"), "scale") * numbers
