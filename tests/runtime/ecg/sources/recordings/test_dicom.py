"""DICOM waveforms."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.waveforms.numpy_handler import multiplex_array

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


@pytest.mark.parametrize("seed", range(24))
def test_odd_headers_as_pydicom_reads_them(tmp_path: Path, seed: int) -> None:
    """Several groups of any type and rate; sensitivities, baselines and units of each lead; padding."""
    random = np.random.default_rng(seed)
    draw: Any = lambda *options: options[random.integers(len(options))]  # noqa: E731
    groups = []
    for _ in range(int(random.integers(1, 4))):
        kind, dtype = draw(("SS", "i2"), ("SS", "i2"), ("US", "u2"), ("SB", "i1"), ("SL", "i4"), ("UL", "u4"))
        limits = np.iinfo(dtype)
        shape = (int(random.integers(50, 300)), int(random.integers(1, 13)))
        samples = random.integers(max(limits.min, -30_000), min(limits.max, 60_000), shape).astype(dtype)
        padding = int(samples[3, 0]) if draw(False, True) else None
        scales = [
            (
                draw(1, 4.88, 0.0025, "1e-3"),
                draw(1, 1, "1.0", 0.5),
                draw(0, 0, 100, "-12.5"),
                draw("uV", "mV"),
            )
            for _ in range(shape[1])
        ]
        rate = draw(100, 500, 250, 1000, "488.28125")
        groups.append(ecg_files.dicom_group(samples, rate, ecg_files.MEANINGS, scales, kind, padding))
    # The library takes all numbers for those of this machine's order.
    dataset = pydicom.dcmread(io.BytesIO(ecg_files.dicom_file(groups)))
    (tmp_path / "a.dcm").write_bytes(ecg_files.dicom_file(groups, big_endian=draw(False, False, True)))
    source = open_source(str(tmp_path / "a.dcm"))
    worth = [
        (int(group.NumberOfWaveformChannels), group.NumberOfWaveformChannels * group.NumberOfWaveformSamples)
        for group in dataset.WaveformSequence
    ]
    best = worth.index(max(worth))
    group = dataset.WaveformSequence[best]
    expected = multiplex_array(dataset, best, as_raw=False)
    if (padding := group.get("WaveformPaddingValue")) is not None:
        raw = multiplex_array(dataset, best, as_raw=True)
        expected[raw == np.frombuffer(padding, raw.dtype)[0]] = np.nan
        assert np.isnan(expected).any()
    assert source.signal.rate == float(group.SamplingFrequency)
    units = [each.ChannelSensitivityUnitsSequence[0].CodeValue for each in group.ChannelDefinitionSequence]
    assert list(source.signal.unit) == units
    values, notes = read_all(source, 77)
    assert np.allclose(values, expected, rtol=1e-12, atol=1e-9, equal_nan=True) and not notes


def test_leads_in_several_groups(tmp_path: Path) -> None:
    """Those that were sampled at other times are no part of the same recording."""
    scales, leads = [(1, 1, 0, "uV")] * 12, ecg_files.MEANINGS
    limbs, chest, later = (
        ecg_files.dicom_group(X[:, a:b], 500, leads[a:b], scales) for a, b in ((0, 6), (6, 9), (9, 12))
    )
    for group, offset in ((limbs, 0), (chest, 0), (later, 2500)):
        group.MultiplexGroupTimeOffset = offset
    (tmp_path / "a.dcm").write_bytes(ecg_files.dicom_file([limbs, chest, later]))
    source = open_source(str(tmp_path / "a.dcm"))
    assert plain_names(source.signal.leads) == [lead.casefold() for lead in ecg_files.LEADS[:9]]
    assert np.array_equal(read_all(source)[0], X[:, :9]) and "2 groups of leads" in source.notes[0]


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
