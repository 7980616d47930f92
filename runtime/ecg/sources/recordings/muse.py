"""The XML of GE MUSE: RestingECG, with samples in Base64."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.ecg.lead_names import unit_named
from multires_edge.runtime.ecg.sources.recordings.record import Damaged
from multires_edge.runtime.ecg.sources.recordings.whole import Lead
from multires_edge.runtime.ecg.sources.recordings.xml_tree import number_of, text_of

_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("i1"), 2: np.dtype("<i2"), 4: np.dtype("<i4")}
# What MUSE writes for a sample without a value.
_MISSING = -32768


def muse_leads(root: Element) -> list[Lead]:
    """The leads of the rhythm. MUSE stores I, II and V1 to V6; the other leads follow from them."""
    waves = root.findall("Waveform")
    rhythms = [wave for wave in waves if text_of(wave, "WaveformType").casefold() == "rhythm"]
    if not rhythms:
        raise Damaged("no waveform of the type Rhythm")
    wave = rhythms[0]
    exponent = number_of(text_of(wave, "SampleExponent", "0"), "exponent of the rate")
    if abs(exponent) > 9:
        raise Damaged("the exponent of the rate is too large")
    rate = number_of(text_of(wave, "SampleBase"), "rate") * 10**exponent
    return [_lead(each, rate) for each in wave.iterfind("LeadData")]


def _lead(lead: Element, rate: float) -> Lead:
    text = text_of(lead, "LeadAmplitudeUnits", "MICROVOLTS")
    unit = unit_named(text) or text
    name = text_of(lead, "LeadID")
    scale = number_of(text_of(lead, "LeadAmplitudeUnitsPerBit"), "amplitude per bit")
    size = number_of(text_of(lead, "LeadSampleSize", "2"), "size of a sample")
    kind = _TYPES.get(int(size))
    if kind is None:
        raise Damaged("samples of an unknown size")
    numbers = base64_numbers(text_of(lead, "WaveFormData"), kind)
    stated = text_of(lead, "LeadSampleCountTotal")
    if stated and number_of(stated, "number of samples") != len(numbers):
        raise Damaged(f"a lead of {len(numbers)} samples, and it should have another number of them")
    values = numbers.astype(np.float64)
    if kind.itemsize == 2:
        values[numbers == _MISSING] = np.nan
    return Lead(name, rate, unit, values * scale)


def base64_numbers(text: str, kind: np.dtype[Any]) -> NDArray[Any]:
    """Numbers in Base64. Raises Damaged."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Damaged("samples that are no Base64") from None
    if len(data) % kind.itemsize:
        raise Damaged("samples that end within a number")
    return np.frombuffer(data, kind)
