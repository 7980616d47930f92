"""Small recordings in the formats of devices and archives, made of samples (n, leads) in microvolt."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int16]
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
# The values and meanings of codes.
MEANINGS = [("", f"Lead {lead} (Einthoven)") for lead in LEADS]


def numbers(samples: int, leads: int = 12, seed: int = 0) -> Numbers:
    """Random samples that fit every format."""
    return np.random.default_rng(seed).integers(-1900, 1900, (samples, leads)).astype(np.int16)


def edf(
    signals: Sequence[tuple[str, str, Numbers]],
    seconds: float = 1.0,
    *,
    bits: int = 16,
    kind: str = "",
    times: Sequence[float] | None = None,
    uncalibrated: Sequence[str] = (),
    encoding: str = "latin-1",
) -> bytes:
    """Signals of a label, a unit and samples (records, size). ``times`` are those of the records, in EDF+."""
    count = len(signals[0][2])
    all_signals: list[tuple[str, str, NDArray[Any]]] = list(signals)
    if times is not None:
        name = "BDF Annotations" if bits == 24 else "EDF Annotations"
        width = bits // 8
        notes = np.zeros((count, 30 // width), f"V{width}")
        for row, time in zip(notes, times, strict=True):
            text = b"+%g\x14\x14\0" % time
            row[:] = np.frombuffer(text.ljust(30, b"\0"), f"V{width}")
        all_signals.append((name, "", notes))
    most = (1 << (bits - 1)) - 1

    def fields(width: int, values: Sequence[str]) -> bytes:
        return b"".join(value.encode(encoding)[:width].ljust(width) for value in values)

    flat = [label in uncalibrated for label, _, _ in all_signals]
    head = (b"\xffBIOSEMI" if bits == 24 else b"0       ") + b"X".ljust(80) + b"Startdate X".ljust(80)
    head += b"01.01.2000.00.00" + b"%-8d" % (256 * (1 + len(all_signals))) + kind.encode().ljust(44)
    head += b"%-8d" % count + f"{seconds:<8g}".encode() + b"%-4d" % len(all_signals)
    head += fields(16, [label for label, _, _ in all_signals]) + b" " * 80 * len(all_signals)
    head += fields(8, [unit for _, unit, _ in all_signals])
    head += fields(8, ["0" if each else str(-most - 1) for each in flat])
    head += fields(8, ["0" if each else str(most) for each in flat])
    head += fields(8, [str(-most - 1)] * len(flat)) + fields(8, [str(most)] * len(flat))
    head += b" " * 80 * len(flat) + fields(8, [str(values.shape[1]) for _, _, values in all_signals])
    head += b" " * 32 * len(flat)
    body = bytearray()
    for i in range(count):
        for _, _, values in all_signals:
            if values.dtype.kind == "V":
                body += values[i].tobytes()
            elif bits == 16:
                body += values[i].astype("<i2").tobytes()
            else:
                body += values[i].astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return head + bytes(body)


def ishne(
    samples: Numbers, rate: int = 200, kinds: Sequence[int] = (5, 6, 11), nanovolt: int = 1000
) -> bytes:
    """A Holter recording; a number of the file is ``nanovolt`` nV."""
    count = samples.shape[1]
    specs = list(kinds) + [-9] * (12 - count)
    header = struct.pack("<iiiih", 0, len(samples), 522, 522, 1) + b"Ann".ljust(40) + b"Other".ljust(40)
    header += b"7".ljust(20) + struct.pack("<hh12h", 0, 0, *[0] * 12) + struct.pack("<h", count)
    header += struct.pack("<12h", *specs) + struct.pack("<12h", *[0] * 12)
    header += struct.pack("<12h", *[nanovolt] * count, *[-9] * (12 - count))
    header += struct.pack("<h", 0) + b"recorder".ljust(40) + struct.pack("<h", rate)
    header = b"ISHNE1.0\0\0" + header
    return header.ljust(522, b"\0") + samples.astype("<i2").tobytes()


def aecg(
    samples: Numbers, rate: float = 500, leads: Sequence[str] = LEADS, prefix: str = "MDC_ECG_LEAD_"
) -> bytes:
    """HL7 aECG of a rhythm, with an origin of 100 uV and a scale of 0.5 uV, then a representative beat."""

    def set_of(part: Numbers) -> str:
        series = "".join(
            f'<component><sequence><code code="{prefix}{lead.upper()}"/><value xsi:type="SLIST_PQ">'
            f'<origin value="100" unit="uV"/><scale value="0.5" unit="uV"/><digits>'
            f"{' '.join(str(2 * int(v) - 200) for v in part[:, i])}</digits></value></sequence></component>"
            for i, lead in enumerate(leads)
        )
        return (
            '<component><sequenceSet><component><sequence><code code="TIME_ABSOLUTE"/>'
            '<value xsi:type="GLIST_TS">'
            f'<head value="20240501100000"/><increment value="{1 / rate:.9g}" unit="s"/></value></sequence>'
            f"</component>{series}</sequenceSet></component>"
        )

    return (
        '<?xml version="1.0" encoding="UTF-8"?><AnnotatedECG xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><subject><name>Ann Other</name></subject>'
        f"<component><series>{set_of(samples[:50])}{set_of(samples)}</series></component></AnnotatedECG>"
    ).encode()


def muse(samples: Numbers, rate: int = 500, leads: Sequence[str] = ("I", "II", *LEADS[6:])) -> bytes:
    """GE MUSE: a median and a rhythm, of 2 uV per bit."""

    def wave(kind: str, part: Numbers) -> str:
        data = "".join(
            f"<LeadData><LeadByteCountTotal>{2 * len(part)}</LeadByteCountTotal>"
            f"<LeadSampleCountTotal>{len(part)}</LeadSampleCountTotal>"
            "<LeadAmplitudeUnitsPerBit>2,0</LeadAmplitudeUnitsPerBit>"
            "<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadSampleSize>2</LeadSampleSize>"
            f"<LeadID>{lead}</LeadID><WaveFormData>\n"
            f"{base64.encodebytes((part[:, i] // 2).astype('<i2').tobytes()).decode()}"
            "</WaveFormData></LeadData>"
            for i, lead in enumerate(leads)
        )
        return (
            f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{rate}</SampleBase>"
            f"<SampleExponent>0</SampleExponent>{data}</Waveform>"
        )

    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE RestingECG SYSTEM "restecg.dtd"><RestingECG>'
        "<PatientDemographics><PatientLastName>Other</PatientLastName></PatientDemographics>"
        f"{wave('Median', samples[:40])}{wave('Rhythm', samples)}</RestingECG>"
    ).encode("latin-1")


def philips(samples: Numbers, rate: int = 500, *, packed: bool = True) -> bytes:
    """Philips of 12 leads, 5 uV per bit, as UTF-16; packed, or as numbers in Base64."""
    raw = (samples // 5).astype(np.int64)
    if packed:
        one, two, three = raw[:, 0], raw[:, 1], raw[:, 2]
        raw = raw.copy()
        raw[:, 2] = two - one - three
        raw[:, 3] = -raw[:, 3] - (one + two) // 2
        raw[:, 4] = (one - three) // 2 - raw[:, 4]
        raw[:, 5] = (two + three) // 2 - raw[:, 5]
        data = b"".join(xli(raw[:, i]) for i in range(12))
    else:
        data = raw.T.astype("<i2").tobytes()
    method = 'compressflag="True" compressmethod="XLI"' if packed else 'compressflag="False"'
    return (
        '<?xml version="1.0" encoding="UTF-16"?><restingecgdata xmlns="http://www3.medical.philips.com">'
        "<documentinfo><documentversion>1.03</documentversion></documentinfo><dataacquisition>"
        f"<signalcharacteristics><samplingrate>{rate}</samplingrate><resolution>5</resolution>"
        "<numberchannelsallocated>12</numberchannelsallocated></signalcharacteristics></dataacquisition>"
        f'<waveforms><parsedwaveforms dataencoding="Base64" {method} numberofleads="12" '
        f'leadlabels="{" ".join(LEADS)}">{base64.b64encode(data).decode()}</parsedwaveforms></waveforms>'
        "</restingecgdata>"
    ).encode("utf-16")


def xli(lead: NDArray[np.int64]) -> bytes:
    """A lead in Philips' compression."""
    second = -np.diff(lead, 2)  # of d[1] to d[n-2]
    stored = np.concatenate([lead[:2], second[1:] + 64, [0]]).astype(np.int16)
    planes = (stored.view(np.uint16) >> 8).astype(np.uint8).tobytes() + stored.astype(np.uint8).tobytes()
    table, codes, current = {bytes([i]): i for i in range(256)}, list[int](), b""
    for byte in planes:
        longer = current + bytes([byte])
        if longer in table:
            current = longer
            continue
        codes.append(table[current])
        if len(table) < 1023:
            table[longer] = len(table)
        current = bytes([byte])
    codes.append(table[current])
    codes.append(1023)  # the end
    bits = "".join(f"{code:010b}" for code in codes)
    packed = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return struct.pack("<ihh", len(packed), 0, int(second[0])) + packed


def dicom(
    samples: Numbers,
    rate: float = 500,
    leads: Sequence[tuple[str, str]] = MEANINGS,
    *,
    unit: str = "uV",
    scale: float = 1.0,
) -> bytes:
    """DICOM of a rhythm and a median; the leads by the values and meanings of their codes."""
    scales = [(scale, 1, 0, unit)] * samples.shape[1]
    return dicom_file([dicom_group(part, rate, leads, scales) for part in (samples[:40], samples)])


def _code(value: str, meaning: str = "x") -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "MDC", meaning
    return item


def dicom_group(
    samples: NDArray[Any],
    rate: float,
    leads: Sequence[tuple[str, str]],
    scales: Sequence[tuple[Any, Any, Any, str]],
    kind: str = "SS",
    padding: int | None = None,
) -> Any:
    """Leads that were sampled together. ``scales`` are sensitivity, its correction, baseline and unit."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = samples.shape[1], len(samples)
    item.SamplingFrequency, item.WaveformOriginality = rate, "ORIGINAL"
    item.WaveformBitsAllocated, item.WaveformSampleInterpretation = 8 * samples.itemsize, kind
    item.ChannelDefinitionSequence = []
    for (value, meaning), (scale, correction, baseline, unit) in zip(leads, scales, strict=False):
        channel = Dataset()
        channel.ChannelSourceSequence = [_code(value or "x", meaning)]
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = scale, correction
        channel.ChannelSensitivityUnitsSequence = [_code(unit)]
        channel.ChannelBaseline, channel.WaveformBitsStored = baseline, 8 * samples.itemsize
        item.ChannelDefinitionSequence.append(channel)
    # The order of bytes is chosen when the file is written.
    item.samples, item.padding = samples, padding
    return item


def dicom_file(groups: Sequence[Any], *, big_endian: bool = False) -> bytes:
    """A file of groups."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

    for group in groups:
        order = group.samples.dtype.newbyteorder(">" if big_endian else "<")
        width = "OB" if order.itemsize == 1 else "OW"
        numbers = group.samples.astype(order).tobytes()
        group.add_new(0x54001010, width, numbers + b"\0" * (len(numbers) % 2))
        if group.padding is not None:
            group.add_new(0x5400100A, width, np.array(group.padding, order).tobytes())
    data = Dataset()
    data.PatientName, data.Modality = "Other^Ann", "ECG"
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", generate_uid()
    data.WaveformSequence = list(groups)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian if big_endian else ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def wfdb_bytes(samples: NDArray[Any], encoding: str) -> bytes:
    """Numbers (frames, samples) in a format of WFDB."""
    if encoding == "8":
        return bytes(np.diff(samples, axis=0, prepend=samples[:1]).astype("i1"))
    flat: NDArray[Any] = samples.reshape(-1).astype(np.int64)
    group = {"212": 2, "310": 3, "311": 3}.get(encoding, 1)
    flat = np.concatenate([flat, np.zeros(-len(flat) % group, np.int64)])
    parts = flat.reshape(-1, group).T & (0xFFF if group == 2 else 0x3FF)
    match encoding:
        case "80":
            flat = (flat + 128).astype("u1")
        case "160":
            flat = (flat + (1 << 15)).astype("<u2")
        case "24":
            flat = flat.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
        case "212":
            a, b = parts
            flat = np.stack([a & 0xFF, a >> 8 | b >> 8 << 4, b & 0xFF], 1).astype("u1")
        case "310":
            a, b, c = parts
            flat = np.stack([a << 1 | (c & 0x1F) << 11, b << 1 | c >> 5 << 11], 1).astype("<u2")
        case "311":
            a, b, c = parts
            flat = (a | b << 10 | c << 20).astype("<u4")
        case _:
            flat = flat.astype({"16": "<i2", "61": ">i2", "32": "<i4"}[encoding])
    return flat.tobytes()


def layout(folder: Path, samples: Numbers, gap: int = 300, rate: float = 250) -> Path:
    """A WFDB record of a variable layout: a gap, a segment of all leads, one of the first two exchanged."""
    half = len(samples) // 2
    lines = [f"1000/mV 16 0 0 0 0 {lead}" for lead in LEADS[: samples.shape[1]]]
    parts = {"p_1": (samples[:half], lines), "p_2": (samples[half:, [1, 0]], [lines[1], lines[0]])}
    for name, (part, signals) in parts.items():
        part.astype("<i2").tofile(folder / f"{name}.dat")
        text = "".join(f"{name}.dat 16 {signal}\n" for signal in signals)
        (folder / f"{name}.hea").write_text(f"{name} {len(signals)} {rate:g} {len(part)}\n{text}")
    head = f"p_layout {len(lines)} {rate:g} 0\n" + "".join(f"~ 0 {line}\n" for line in lines)
    (folder / "p_layout.hea").write_text(head)
    (folder / "p.hea").write_text(
        f"p/4 {len(lines)} {rate:g} {gap + len(samples)}\np_layout 0\n~ {gap}\np_1 {half}\n"
        f"p_2 {len(samples) - half}\n"
    )
    return folder / "p"
