"""Resting ECGs in XML: HL7 aECG, GE MUSE and Philips."""

from __future__ import annotations

from pathlib import Path

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.protocol import Format
from multires_edge.runtime.ecg.sources.recordings.aecg import aecg_leads
from multires_edge.runtime.ecg.sources.recordings.frames import read_bounded
from multires_edge.runtime.ecg.sources.recordings.muse import muse_leads
from multires_edge.runtime.ecg.sources.recordings.philips import philips_leads
from multires_edge.runtime.ecg.sources.recordings.record import Record, reading
from multires_edge.runtime.ecg.sources.recordings.whole import BYTES_MOST, record_of
from multires_edge.runtime.ecg.sources.recordings.xml_tree import read_tree

_KINDS = {"AnnotatedECG": aecg_leads, "RestingECG": muse_leads, "restingecgdata": philips_leads}


def open_xml(path: Path, given: Format) -> Record:
    """Raises DataError."""
    with reading(path, "an ECG in XML"):
        root = read_tree(read_bounded(path, BYTES_MOST))
        kind = _KINDS.get(root.tag)
        if kind is None:
            raise DataError(f"{path}: is XML of an unknown kind, expected HL7 aECG, GE MUSE or Philips")
        return record_of(path, kind(root), given)
