"""Recordings with odd headers, in formats of which no library is here: what their definitions say is read.

Those of WFDB, EDF, BDF and DICOM are compared with libraries, in the tests of these formats.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format
from tests.runtime.ecg.sources.recordings.test_record import read_all

_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
# A file; its leads, rate, units, and values (samples, leads).
Made = tuple[bytes, list[str], float, list[str], NDArray[np.float64]]


class Draw:
    """Random choices."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def one(self, *options: Any) -> Any:
        return options[self.random.integers(len(options))]

    def number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high))

    def leads(self) -> list[str]:
        count = self.number(1, 13)
        return [str(lead) for lead in self.random.permutation(_LEADS)[:count]]

    def samples(self, count: int, leads: int) -> NDArray[np.int64]:
        return self.random.integers(-9000, 9000, (count, leads))


def ishne(draw: Draw) -> Made:
    """A block of variable size, resolutions of each lead, lengths of all leads, unknown length."""
    count, rate = draw.number(1, 13), draw.one(128, 180, 200, 250, 500, 1000)
    kinds = [int(kind) for kind in draw.random.permutation(range(5, 17))[:count]]
    names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    scales = [draw.one(1000, 2500, 4882, 312, 20_000) for _ in range(count)]
    samples = draw.samples(draw.number(100, 400), count)
    block = b"x" * draw.one(0, 0, 17, 400)
    length = draw.one(len(samples), len(samples) * count, 0)
    header = struct.pack("<iiiih", len(block), length, 522, 522 + len(block), draw.one(-1, 1))
    header += "M\u00fcller".encode("latin-1").ljust(40) + b"Ann".ljust(40) + b"7".ljust(20)
    header += struct.pack("<hh12h", draw.one(0, 1, 2), 0, *[draw.number(0, 60) for _ in range(12)])
    header += struct.pack("<h12h", count, *kinds, *[-9] * (12 - count))
    header += struct.pack("<12h", *[draw.one(0, 1, -9) for _ in range(12)])
    header += struct.pack("<12h", *scales, *[draw.one(-9, 0)] * (12 - count))
    header += struct.pack("<h", 0) + b"digital".ljust(40) + struct.pack("<h", rate)
    header = (b"ISHNE1.0" + struct.pack("<H", draw.number(0, 65_536)) + header).ljust(522, b"\0")
    values = samples * np.array(scales) / 1000
    return (
        header + block + samples.astype("<i2").tobytes(),
        [names[kind - 5] for kind in kinds], rate, ["uV"] * count, values,
    )  # fmt: skip


def aecg(draw: Draw) -> Made:
    """Scales and origins of each lead, times in any unit, several series, prefixes of namespaces."""
    leads, rate = draw.leads(), draw.one(250, 500, 1000)
    samples = draw.samples(draw.number(100, 300), len(leads))
    unit, seconds = draw.one(("s", 1.0), ("ms", 1e3), ("us", 1e6))
    prefix, name = draw.one("", "hl7:"), draw.one("MDC_ECG_LEAD_", "MDC_ECG_ELEC_POTL_", "")
    scales = [(draw.one(5, 2.5, 0.5, 1), draw.one(0, 0, 100, -7.5), draw.one("uV", "mV")) for _ in leads]

    def element(tag: str, content: str, attributes: str = "") -> str:
        return f"<{prefix}{tag} {attributes}>{content}</{prefix}{tag}>"

    def sequence(code: str, value: str, kind: str) -> str:
        inner = f'<{prefix}code code="{code}"/>' + element("value", value, f'xsi:type="{kind}"')
        return element("component", element("sequence", inner))

    def sequences(part: NDArray[np.int64]) -> str:
        increment = f'<{prefix}increment value="{seconds / rate:.12g}" unit="{unit}"/>'
        time = sequence(draw.one("TIME_ABSOLUTE", "TIME_RELATIVE"), increment, "GLIST_TS")
        all_leads = [time]
        for i, (scale, origin, volts) in enumerate(scales):
            start = f'<{prefix}origin value="{origin}" unit="{volts}"/>' if origin or draw.one(0, 1) else ""
            digits = draw.one(" ", "\n", "  ").join(map(str, part[:, i]))
            value = start + f'<{prefix}scale value="{scale:g}" unit="{volts}"/>' + element("digits", digits)
            all_leads.append(sequence(f"{name}{draw.one(leads[i], leads[i].upper())}", value, "SLIST_PQ"))
        return element("component", element("sequenceSet", "".join(all_leads)))

    parts = [sequences(samples), *(sequences(samples[:40]) for _ in range(draw.number(0, 3)))]
    series = "".join(element("component", element("series", part)) for part in draw.random.permutation(parts))
    space = f'xmlns{prefix and ":hl7"}="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    encoding = draw.one("UTF-8", "UTF-16", "ISO-8859-1")
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<!-- Ann Other -->\n'
    text += element("AnnotatedECG", element("subject", "J\u00f6rg") + series, space)
    values = samples * [scale for scale, _, _ in scales] + np.array([origin for _, origin, _ in scales])
    return text.encode(encoding), leads, rate, [each[2] for each in scales], values


def muse(draw: Draw) -> Made:
    """Exponents of rates, scales and sizes of each lead, numbers with commas, a median after the rhythm."""
    leads = draw.leads()
    base, exponent, rate = draw.one((500, 0, 500), (25, 1, 250), (2500, -1, 250), ("240", "0", 240))
    samples = draw.samples(draw.number(100, 300), len(leads))
    scales = [draw.one("4.88", "2,5", "1", "0.005") for _ in leads]
    units = [draw.one("MICROVOLTS", "uV", "MILLIVOLTS") for _ in leads]

    def wave(kind: str, part: NDArray[np.int64]) -> str:
        text = f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{base}</SampleBase>"
        text += f"<SampleExponent>{exponent}</SampleExponent>"
        for i, lead in enumerate(leads):
            size = draw.one(2, 2, 4)
            data = base64.encodebytes(part[:, i].astype(f"<i{size}").tobytes()).decode()
            text += f"<LeadData><LeadID> {lead} </LeadID><LeadAmplitudeUnitsPerBit>{scales[i]}"
            text += f"</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>{units[i]}</LeadAmplitudeUnits>"
            text += f"<LeadSampleSize>{size}</LeadSampleSize><WaveFormData>{data}</WaveFormData></LeadData>"
        return text + "</Waveform>"

    waves = "".join(draw.random.permutation([wave("Rhythm", samples), wave("Median", samples[:60])]))
    text = '<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE RestingECG SYSTEM "restecg.dtd">'
    text += f"<RestingECG><PatientLastName>J\u00f6rg</PatientLastName>{waves}</RestingECG>"
    scale: NDArray[np.float64] = np.array([float(each.replace(",", ".")) for each in scales])
    named = ["mV" if each == "MILLIVOLTS" else "uV" for each in units]
    return text.encode("latin-1"), leads, rate, named, np.asarray(samples * scale, np.float64)


def philips(draw: Draw) -> Made:
    """Names of elements of both versions, leads by default, limb leads that follow from the first two."""
    count = draw.one(12, 12, 8, 15)
    names = [*_LEADS, "V7", "V8", "V9"][:count]
    samples, scale = draw.samples(draw.number(100, 300), count), draw.one(5, "2.5", 1)
    one, two = samples[:, 0], samples[:, 1]
    samples[:, 2:6] = np.stack([two - one, -(one + two) // 2, one - two // 2, two - one // 2], 1)
    labels = f'leadlabels="{" ".join(names)}"' if count != 12 or draw.one(0, 1) else ""
    number = draw.one(f'numberofleads="{count}"', "")
    data = base64.encodebytes(samples.T.astype("<i2").tobytes()).decode()
    rate, resolution = draw.one(250, 500, 1000), draw.one("resolution", "signalresolution")
    text = '<?xml version="1.0" encoding="UTF-8"?><restingecgdata xmlns="http://www3.medical.philips.com">'
    text += f"<dataacquisition><signalcharacteristics><samplingrate> {rate} </samplingrate><{resolution}>"
    text += f"{scale}</{resolution}><numberchannelsallocated>{count}</numberchannelsallocated>"
    text += "</signalcharacteristics></dataacquisition><waveforms><parsedwaveforms "
    text += f'dataencoding="Base64" compressflag="False" {number} {labels}>{data}</parsedwaveforms>'
    text += "</waveforms></restingecgdata>"
    return text.encode(), names, rate, ["uV"] * count, np.asarray(samples * float(scale), np.float64)


@pytest.mark.parametrize("make", [ishne, aecg, muse, philips])
@pytest.mark.parametrize("seed", range(20))
def test_read_as_defined(tmp_path: Path, make: Callable[[Draw], Made], seed: int) -> None:
    data, leads, rate, units, values = make(Draw(seed))
    path = tmp_path / ("a.ecg" if make is ishne else "a.xml")
    path.write_bytes(data)
    source = open_source(str(path), Format(wanted=_LEADS))
    found = [lead.rpartition("_")[2].casefold() for lead in source.signal.leads]
    assert found == [lead.casefold() for lead in leads]
    assert source.signal.rate == pytest.approx(rate, rel=1e-9)
    unit = source.signal.unit
    assert ([unit] * len(leads) if isinstance(unit, str) else list(unit)) == units
    read, notes = read_all(source, 77)
    assert np.allclose(read, values, rtol=1e-12, atol=1e-6) and not notes
