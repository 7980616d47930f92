"""ECG waveforms in DICOM."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from multires_edge.base.errors import DataError, require_extra
from multires_edge.runtime.ecg.lead_names import is_lead, plain_names, unit_named
from multires_edge.runtime.ecg.sources.protocol import Format
from multires_edge.runtime.ecg.sources.recordings.record import Damaged, Record, Values, reading
from multires_edge.runtime.ecg.sources.recordings.whole import BYTES_MOST, SAMPLES_MOST, Lead, record_of

_TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4", "MB": "u1", "AB": "u1"}
# The numbers of leads in SCP-ECG and ISO 11073, which both schemes of codes end with.
_CODE = re.compile(r"(?:2:|5\.6\.3-9-)(\d+)")
_LEADS = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"} | {2 + n: f"V{n}" for n in range(1, 7)}


def open_dicom(path: Path, given: Format) -> Record:
    """The leads that were sampled together with most of those that are wanted. Raises DataError."""
    require_extra("dicom", "reading DICOM", "pydicom")
    import pydicom
    from pydicom.filereader import read_file_meta_info

    with reading(path, "a DICOM file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.stat().st_size > BYTES_MOST:
            raise Damaged(f"has more than {BYTES_MOST:,} bytes")
        syntax = getattr(read_file_meta_info(path), "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_deflated:
            raise Damaged("is deflated; convert it to Explicit VR Little Endian")
        dataset = pydicom.dcmread(path)
        groups = dataset.get("WaveformSequence")
        if not groups:
            raise DataError(f"{path}: has no waveforms")
        little = syntax is None or syntax.is_little_endian
        order = "<" if little else ">"
        wanted = set(plain_names(list(given.wanted)))
        at_once = _sampled_together(groups, order)
        best = max(at_once, key=lambda leads: _worth(leads, wanted))
        notes = [f"{len(at_once)} groups of leads; the one with most leads and samples is read"]
        return record_of(path, best, given, notes if len(at_once) > 1 else ())


def _sampled_together(groups: Any, order: str) -> list[list[Lead]]:
    """The leads of all groups. Groups of other leads at one rate, offset and length are one."""
    found: list[tuple[Any, set[str], list[Lead]]] = []
    for group in groups:
        leads = _leads(group, order)
        names = set(plain_names([each.name for each in leads]))
        moment = leads[0].rate, len(leads[0].values), group.get("MultiplexGroupTimeOffset")
        for other, others, those in found:
            if moment == other and not names & others:
                others.update(names)
                those.extend(leads)
                break
        else:
            found.append((moment, names, leads))
    return [leads for _, _, leads in found]


def _worth(leads: list[Lead], wanted: set[str]) -> tuple[int, int, int]:
    names = plain_names([each.name for each in leads])
    samples = sum(len(each.values) for each in leads)
    return sum(name in wanted for name in names), sum(map(is_lead, names)), samples


def _leads(group: Any, order: str) -> list[Lead]:
    definitions = group.ChannelDefinitionSequence
    count, length = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    kind = _TYPES.get(str(group.WaveformSampleInterpretation))
    if kind is None or (kind == "u1" and str(group.WaveformSampleInterpretation) in ("MB", "AB")):
        raise Damaged("samples in an unknown form, such as mu-law")
    dtype = np.dtype(f"{order}{kind}")
    if not 0 < count == len(definitions) or not length > 0 or count * length > SAMPLES_MOST:
        raise Damaged("a group of no, or too many, samples")
    data: bytes = group.WaveformData
    if int(group.WaveformBitsAllocated) != 8 * dtype.itemsize or len(data) < count * length * dtype.itemsize:
        raise Damaged("fewer samples than it names")
    numbers = np.frombuffer(data, dtype, count * length).reshape(length, count)
    padding = group.get("WaveformPaddingValue")
    values = numbers.astype(np.float64)
    if isinstance(padding, bytes) and len(padding) >= dtype.itemsize:
        values[numbers == np.frombuffer(padding, dtype, 1)[0]] = np.nan
    elif isinstance(padding, int | float):
        values[numbers == padding] = np.nan
    rate = float(group.SamplingFrequency)
    return [_lead(each, rate, values[:, i], i) for i, each in enumerate(definitions)]


def _lead(channel: Any, rate: float, values: Values, number: int) -> Lead:
    name = _name(channel) or str(channel.get("ChannelLabel", "")).strip() or f"channel {number + 1}"
    units = channel.get("ChannelSensitivityUnitsSequence")
    if channel.get("ChannelSensitivity") is None or not units:
        return Lead(name, rate, "", values, "not calibrated")
    code = str(units[0].get("CodeValue", ""))
    unit = unit_named(code) or code
    scale = float(channel.ChannelSensitivity) * float(
        channel.get("ChannelSensitivityCorrectionFactor") or 1.0
    )
    return Lead(name, rate, unit, values * scale + float(channel.get("ChannelBaseline") or 0.0))


def _name(channel: Any) -> str:
    """The lead by its code, or else by the meaning of the code."""
    sources = channel.get("ChannelSourceSequence")
    if not sources:
        return ""
    code = _CODE.fullmatch(str(sources[0].get("CodeValue", "")))
    meaning = str(sources[0].get("CodeMeaning", "")).strip()
    if code and int(code[1]) % 256 in _LEADS and not is_lead(meaning):
        return _LEADS[int(code[1]) % 256]
    return meaning
