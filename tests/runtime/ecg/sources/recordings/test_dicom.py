"""DICOM waveforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import DataError, MissingExtraError
from multires_edge.runtime.ecg.lead_names import plain_names
from multires_edge.runtime.ecg.sources.opening import open_source
from tests import ecg_files
from tests.runtime.ecg.sources.recordings.test_record import read_all

X = ecg_files.numbers(500)


@pytest.mark.parametrize(
    "leads",
    [
        ecg_files.MEANINGS,
        [(f"2:{n}", "x") for n in (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)],
        [(f"5.6.3-9-{n}", "") for n in (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)],
    ],
    ids=["meanings", "codes", "codes of SCP"],
)
def test_the_rhythm_by_its_leads(tmp_path: Path, leads: list[tuple[str, str]]) -> None:
    (tmp_path / "a.dcm").write_bytes(ecg_files.dicom(X, leads=leads))
    source = open_source(str(tmp_path / "a.dcm"))
    assert plain_names(source.signal.leads) == [lead.casefold() for lead in ecg_files.LEADS]
    assert np.array_equal(read_all(source, 99)[0], X)
    assert "2 groups of leads" in source.notes[0]


def test_units_and_scale(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(ecg_files.dicom(X, unit="mV", scale=0.001))  # known by its first bytes
    source = open_source(str(tmp_path / "a"))
    assert source.signal.unit == ["mV"] * 12 and np.allclose(read_all(source)[0], X / 1000)


def test_fewer_samples_than_it_names(tmp_path: Path) -> None:
    data = ecg_files.dicom(X)
    (tmp_path / "a.dcm").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="not a DICOM file, or damaged") as refused:
        open_source(str(tmp_path / "a.dcm"))
    assert "Ann" not in str(refused.value)


def test_without_waveforms(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(DataError, match=r"has no waveforms|not a DICOM file"):
        open_source(str(tmp_path / "a.dcm"))


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.dcm").write_bytes(ecg_files.dicom(X))
    find: Any = lambda name: None if name == "pydicom" else object()  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", find)
    with pytest.raises(MissingExtraError, match=r"pydicom.*\[dicom\]"):
        open_source(str(tmp_path / "a.dcm"))
