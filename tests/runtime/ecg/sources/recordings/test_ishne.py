"""Holter recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.opening import open_source
from tests import ecg_files
from tests.runtime.ecg.sources.recordings.test_record import read_all

X = ecg_files.numbers(500, 3)


def test_samples(tmp_path: Path) -> None:
    (tmp_path / "a.ecg").write_bytes(ecg_files.ishne(X, nanovolt=2500))
    source = open_source(str(tmp_path / "a.ecg"))
    assert (source.signal.leads, source.signal.rate, source.signal.unit) == (["I", "II", "V1"], 200, "uV")
    assert np.allclose(read_all(source, 99)[0], X * 2.5)


def test_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "holter").write_bytes(ecg_files.ishne(X))
    assert np.allclose(read_all(open_source(str(tmp_path / "holter")))[0], X)


def test_ends_where_the_file_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "a.ecg").write_bytes(ecg_files.ishne(X)[:-300])
    values, notes = read_all(open_source(str(tmp_path / "a.ecg")))
    assert np.allclose(values, X[:450]) and [note.kind for note in notes] == ["truncated"]


def test_leads_that_are_not_calibrated(tmp_path: Path) -> None:
    (tmp_path / "a.ecg").write_bytes(ecg_files.ishne(X, nanovolt=-9))
    with pytest.raises(DataError, match="not calibrated"):
        open_source(str(tmp_path / "a.ecg"))


@pytest.mark.parametrize(("at", "value"), [(0, b"ISHNE2.0"), (156, b"\xff\x7f"), (22, b"\1\0\0\0")])
def test_headers_that_are_refused(tmp_path: Path, at: int, value: bytes) -> None:
    data = bytearray(ecg_files.ishne(X))
    data[at : at + len(value)] = value
    (tmp_path / "a.ecg").write_bytes(data)
    with pytest.raises(DataError, match="not an ISHNE file, or damaged"):
        open_source(str(tmp_path / "a.ecg"))
