"""The XML of Philips: restingecgdata 1.03 and 1.04, with samples as numbers or compressed."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.ecg.sources.recordings.muse import base64_numbers
from multires_edge.runtime.ecg.sources.recordings.record import Damaged
from multires_edge.runtime.ecg.sources.recordings.whole import Lead
from multires_edge.runtime.ecg.sources.recordings.xli import decompress
from multires_edge.runtime.ecg.sources.recordings.xml_tree import number_of, text_of

_STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_LEADS_MOST = 64


def philips_leads(root: Element) -> list[Lead]:
    """The leads of the rhythm in microvolt."""
    about = root.find("dataacquisition/signalcharacteristics")
    waves = root.find("waveforms/parsedwaveforms")
    if about is None or waves is None:
        raise Damaged("no characteristics of signals, or no waveforms")
    rate = number_of(text_of(about, "samplingrate"), "rate")
    scale = number_of(text_of(about, "signalresolution") or text_of(about, "resolution"), "resolution")
    names = (waves.get("leadlabels") or "").split() or list(_STANDARD)
    stated = waves.get("numberofleads") or text_of(about, "numberchannelsallocated") or str(len(names))
    count = int(number_of(stated, "number of leads"))
    if not 0 < count <= _LEADS_MOST:
        raise Damaged("no, or too many, leads")
    names = (names + [f"channel {i + 1}" for i in range(len(names), count)])[:count]
    leads = _samples(waves, count, rate)
    if tuple(names[:6]) == _STANDARD[:6]:
        _restore_limbs(leads)
    return [Lead(name, rate, "uV", each * scale) for name, each in zip(names, leads, strict=True)]


def _samples(waves: Element, count: int, rate: float) -> list[NDArray[np.float64]]:
    text = waves.text or ""
    method = waves.get("compressmethod") or waves.get("compression") or "Uncompressed"
    if waves.get("compressflag", "").casefold() == "false":
        method = "Uncompressed"
    encoding = waves.get("dataencoding", "").casefold()
    if method == "XLI":
        leads = decompress(base64_numbers(text, np.dtype("u1")).tobytes())
        if len(leads) < count:
            raise Damaged(f"{len(leads)} compressed leads of {count}")
        return [each.astype(np.float64) for each in leads[:count]]
    if method != "Uncompressed":
        raise Damaged("samples that are compressed in an unknown way")
    if encoding == "base64":
        numbers = base64_numbers(text, np.dtype("<i2")).astype(np.float64)
    else:
        try:
            numbers = np.array(text.split(), np.float64)
        except ValueError:
            raise Damaged("samples that are no numbers") from None
    duration = waves.get("durationperchannel")
    size = len(numbers) // count
    if duration:
        size = min(size, round(number_of(duration, "duration") * rate / 1000))
    if not size:
        raise Damaged("leads without samples")
    return [numbers[i * size : (i + 1) * size] for i in range(count)]


def _restore_limbs(leads: list[NDArray[np.float64]]) -> None:
    """Leads III to aVF may be stored as what Einthoven's and Goldberger's laws do not say of them."""
    if len({len(each) for each in leads[:6]}) > 1:
        raise Damaged("limb leads of different lengths")
    one, two, three = leads[0], leads[1], leads[2]
    law = two - one
    if np.abs(three).sum() >= np.abs(three - law).sum():
        return
    leads[2] = three = law - three
    leads[3] = -leads[3] - np.floor((one + two) / 2)
    leads[4] = np.floor((one - three) / 2) - leads[4]
    leads[5] = np.floor((two + three) / 2) - leads[5]
