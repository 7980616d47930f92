"""EDF, EDF+ and BDF files, compared with edfio where it reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Note, Samples
from tests import ecg_files
from tests.runtime.ecg.sources.recordings.test_record import read_all

X = ecg_files.numbers(1000, 2)


def rows(lead: int, size: int = 100) -> ecg_files.Numbers:
    return X[:, lead].reshape(-1, size)


def write(tmp_path: Path, data: bytes, name: str = "a.edf") -> str:
    (tmp_path / name).write_bytes(data)
    return str(tmp_path / name)


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("kind", ["", "EDF+C"])
def test_samples(tmp_path: Path, bits: int, kind: str) -> None:
    data = ecg_files.edf([("ECG I", "uV", rows(0)), ("EKG II  ", "uV", rows(1))], bits=bits, kind=kind)
    source = open_source(write(tmp_path, data))
    assert source.signal.rate == 100 and source.length == 1000
    values, notes = read_all(source, 77)
    assert np.allclose(values, X) and not notes


@pytest.mark.parametrize("kind", ["edf", "bdf"])
@pytest.mark.parametrize("seed", range(20))
def test_odd_headers_as_edfio_reads_them(tmp_path: Path, seed: int, kind: str) -> None:
    """Several rates and units, ranges in odd notations, annotations, data records of any duration."""
    random = np.random.default_rng(seed)
    draw: Any = lambda *options: options[random.integers(len(options))]  # noqa: E731
    seconds, count = draw(0.5, 1, 2, 10), int(random.integers(1, 6))
    most = (1 << (15 if kind == "edf" else 23)) - 1
    signals: list[Any] = []
    for i in range(count):
        rate = draw(100, 128, 250, 256)
        low, high = draw((-3276.8, 3276.7), (-5, 5), (0, 1000), (0.25, 0.75), (-1e5, 12))
        label = f"{draw('ECG', 'EKG', 'Lead', 'EEG')} {draw('I', 'V1', 'C3-A2', 'Ch')} {i}"
        signals.append(
            (edfio.EdfSignal if kind == "edf" else edfio.BdfSignal)(
                random.uniform(low, high, int(20 * rate)), rate, label=label,
                physical_dimension=draw("uV", "mV", "V", "uV", "bpm" if i else "uV"),
                physical_range=(low, high), digital_range=draw((-most - 1, most), (0, 2047), (-2000, 1500)),
            )
        )  # fmt: skip
    notes = draw((), [edfio.EdfAnnotation(1.5, None, "Ann Other")])
    file = (edfio.Edf if kind == "edf" else edfio.Bdf)(
        signals, annotations=notes, data_record_duration=seconds
    )
    file.write(tmp_path / f"a.{kind}")
    data = bytearray((tmp_path / f"a.{kind}").read_bytes())
    total = int(data[252:256])
    for i in range(total):
        for field in range(4):  # the minima and maxima, physical and digital
            at = 256 + total * (104 + 8 * field) + 8 * i
            text = bytes(data[at : at + 8]).decode().strip()
            odd = [text.rjust(8), f"+{text}" if text[:1].isdigit() else text]
            data[at : at + 8] = draw(text, *(each for each in odd if len(each) <= 8)).ljust(8).encode()
    (tmp_path / f"a.{kind}").write_bytes(data)
    read = (edfio.read_edf if kind == "edf" else edfio.read_bdf)(tmp_path / f"a.{kind}").signals
    for rate in {each.sampling_frequency for each in read}:
        those = [s for s in read if s.sampling_frequency == rate and s.physical_dimension != "bpm"]
        if not those:
            continue
        labels = [each.label for each in those]
        source = open_source(str(tmp_path / f"a.{kind}"), Format(wanted=labels))
        assert (list(source.signal.leads), source.signal.rate) == (labels, rate)
        assert list(source.signal.unit) == [each.physical_dimension for each in those]
        values, faults = read_all(source, 333)
        assert np.allclose(values, np.stack([each.data for each in those], 1), rtol=1e-9, atol=1e-6)
        assert not faults


@pytest.mark.parametrize("bits", [16, 24])
def test_holes_are_gaps(tmp_path: Path, bits: int) -> None:
    """Times of records that are rounded are none."""
    times = [0, 1.004, 2, 12, 13, 14.996, 3600, 3601, 3602, 3603]
    signals = [("I", "uV", rows(0)), ("II", "uV", rows(1))]
    data = ecg_files.edf(signals, bits=bits, kind="BDF+D" if bits == 24 else "EDF+D", times=times)
    source = open_source(write(tmp_path, data))
    values, gaps, at = [], [], 0
    while not source.ended:
        for piece in source.read(130):
            if isinstance(piece, Samples):
                values.append(piece.values)
            elif isinstance(piece, Missing):
                gaps.append((at, piece.count))
            else:
                assert piece.kind == "gap"
            at += piece.count
    assert np.allclose(np.concatenate(values), X)
    assert gaps == [(300, 900), (1400, 100), (1600, 358_400)] and at == 360_400 == source.length


def test_a_hole_and_a_saved_position(tmp_path: Path) -> None:
    data = ecg_files.edf([("I", "uV", rows(0))], kind="EDF+D", times=[0, *range(5, 14)])
    path = write(tmp_path, data)
    source, other = open_source(path), open_source(path)
    source.read(100)
    other.load(source.save())
    assert other.read(50) == [Note("gap", {"seconds": 4.0}), Missing(400)]
    assert np.allclose(read_all(other)[0], X[100:, :1])


def test_records_that_overlap_are_refused(tmp_path: Path) -> None:
    data = ecg_files.edf([("I", "uV", rows(0))], kind="EDF+D", times=[0, 1, 1.5, *range(3, 10)])
    with pytest.raises(DataError, match="data records that overlap"):
        open_source(write(tmp_path, data))


class TestWhichSignals:
    def test_those_of_the_leads_that_are_asked_for(self, tmp_path: Path) -> None:
        data = ecg_files.edf([("EEG C3-A2", "uV", rows(0, 200)[:5]), ("ECG II", "uV", rows(1, 100)[:5])])
        path = write(tmp_path, data)
        source = open_source(path)
        assert (source.signal.leads, source.signal.rate) == (["ECG II"], 100)
        assert source.notes == ["EEG C3-A2 (200 Hz): not at 100 Hz, not read"]
        assert open_source(path, Format(wanted=["EEG C3-A2"])).signal.rate == 200

    def test_those_that_are_calibrated(self, tmp_path: Path) -> None:
        signals = [("I", "uV", rows(0)), ("V6", "uV", rows(1))]
        source = open_source(write(tmp_path, ecg_files.edf(signals, uncalibrated=["V6"])))
        assert source.signal.leads == ["I"] and source.notes == ["V6: not calibrated, not read"]

    @pytest.mark.parametrize("unit", ["\u00b5V", "uV", "uv", "microV", "bpm"])
    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp437"])
    def test_those_in_volts(self, tmp_path: Path, unit: str, encoding: str) -> None:
        try:
            data = ecg_files.edf([("I", unit, rows(0))], encoding=encoding)
        except UnicodeEncodeError:
            data = ecg_files.edf([("I", "\u00e6V", rows(0))])  # the mu of MS-DOS
        if unit in ("bpm", "microV"):
            with pytest.raises(DataError, match="has no signal in uV, mV or V"):
                open_source(write(tmp_path, data))
        else:
            assert open_source(write(tmp_path, data)).signal.unit == ["uV"]


def test_a_file_that_is_shorter_than_it_says(tmp_path: Path) -> None:
    data = ecg_files.edf([("I", "uV", rows(0)), ("II", "uV", rows(1))])
    values, notes = read_all(open_source(write(tmp_path, data[:-900])))
    assert np.allclose(values, X[:700]) and [note.kind for note in notes] == ["truncated"]
    assert "the file has 7 frames" in notes[0].details["message"]


def test_a_number_of_records_that_is_unknown(tmp_path: Path) -> None:
    data = ecg_files.edf([("I", "uV", rows(0))]).replace(b"10      1       1   ", b"-1      1       1   ", 1)
    assert np.allclose(read_all(open_source(write(tmp_path, data)))[0], X[:, :1])


def test_by_its_first_bytes(tmp_path: Path) -> None:
    data = ecg_files.edf([("I", "uV", rows(0))])
    assert np.allclose(read_all(open_source(write(tmp_path, data, "night.rec")))[0], X[:, :1])
    assert np.allclose(read_all(open_source(write(tmp_path, data, "night")))[0], X[:, :1])


@pytest.mark.parametrize(
    ("at", "field", "reason"),
    [
        (0, b"9       ", "the header has another version"),
        (252, b"0   ", "0 signals"),
        (252, b"Ann ", "no number"),
        (244, b"0       ", "no time"),
        (236, b"1e999   ", "no number"),
        (252, b"4000", "the file ends in its header"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, at: int, field: bytes, reason: str) -> None:
    data = bytearray(ecg_files.edf([("I", "uV", rows(0))]))
    data[at : at + len(field)] = field
    with pytest.raises(DataError, match=reason) as refused:
        open_source(write(tmp_path, bytes(data)))
    assert "Ann" not in str(refused.value)
