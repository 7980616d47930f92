"""WFDB records in formats that only the wfdb library reads, such as FLAC."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from multires_edge.base.errors import require_extra
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from multires_edge.runtime.ecg.sources.recordings.record import Damaged, Record, Values
from multires_edge.runtime.ecg.sources.recordings.wfdb_header import DEFAULT_RATE, Header


class NeedsLibrary(Damaged):
    """A record in a format that only the wfdb library reads."""


def open_by_library(path: Path, header: Header) -> Record:
    """Raises MissingExtraError without the library, and anything else for a damaged record."""
    require_extra("wfdb", "reading this format of WFDB", "wfdb")
    import wfdb

    name = str(path)
    whole: Values | None = None
    length = header.length
    if not length:
        whole = np.asarray(wfdb.rdrecord(name).p_signal, np.float64)
        length = len(whole)
    first = wfdb.rdrecord(name, sampto=min(1, length))
    units = [str(unit) for unit in first.units]
    signal = SignalSpec([str(x) for x in first.sig_name], header.rate or DEFAULT_RATE, units, name)

    def read(start: int, stop: int) -> Values:
        if whole is not None:
            return whole[start:stop]
        return np.asarray(wfdb.rdrecord(name, sampfrom=start, sampto=stop).p_signal, np.float64)

    return Record(signal, length, read)
