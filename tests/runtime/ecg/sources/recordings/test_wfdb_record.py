"""WFDB records, compared with the wfdb library, and those that it does not read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from multires_edge.base.errors import DataError, MissingExtraError
from multires_edge.runtime.ecg.sources.opening import find_records, open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Note, Samples
from multires_edge.runtime.ecg.sources.recordings.record import RecordSource
from tests import ecg_files
from tests.runtime.conftest import beats, write_wfdb
from tests.runtime.ecg.sources.recordings.test_record import read_all

_BYTES: dict[str, Callable[[Any], bytes]] = {
    "61": lambda numbers: bytes(numbers.astype(">i2")),
    "160": lambda numbers: bytes((numbers.astype(np.int32) + 32768).astype("<u2")),
}


@pytest.mark.parametrize("encoding", ["16", "24", "32", "80", "212", "61", "160"])
@pytest.mark.parametrize("leads", [1, 2, 3])
def test_formats_as_the_library_reads_them(tmp_path: Path, encoding: str, leads: int) -> None:
    samples = beats(2, 251, leads)
    samples[100, 0] = np.nan
    wfdb.wrsamp(
        "a", fs=251, units=["mV"] * leads, sig_name=["I", "II", "V1"][:leads], p_signal=samples,
        fmt=["16" if encoding in _BYTES else encoding] * leads, write_dir=str(tmp_path),
    )  # fmt: skip
    if encoding in _BYTES:  # which the library only reads
        data = np.fromfile(tmp_path / "a.dat", "<i2")
        (tmp_path / "a.dat").write_bytes(_BYTES[encoding](data))
        header = (tmp_path / "a.hea").read_text()
        (tmp_path / "a.hea").write_text(header.replace("a.dat 16 ", f"a.dat {encoding} "))
    expected = wfdb.rdrecord(str(tmp_path / "a")).p_signal
    values, notes = read_all(open_source(str(tmp_path / "a")), 77)
    assert np.array_equal(values, expected, equal_nan=True) and not notes


def test_two_files_and_a_skew_as_the_library_reads_them(tmp_path: Path) -> None:
    for name, lead in (("b", 0), ("c", 1)):
        beats(2, 250)[:, lead : lead + 1].dot(1000).astype("<i2").tofile(tmp_path / f"{name}.dat")
    lines = ["b.dat 16:7 1000(5)/mV 16 0 0 0 0 I", "c.dat 16 1000/uV 16 0 0 0 0 II"]
    (tmp_path / "a.hea").write_text("\n".join(["a 2 250 500", *lines, ""]))
    expected = wfdb.rdrecord(str(tmp_path / "a")).p_signal
    values, _ = read_all(open_source(str(tmp_path / "a")))
    assert np.array_equal(values, expected, equal_nan=True)


def test_a_variable_layout(tmp_path: Path) -> None:
    """The signals of a segment have another order and are fewer; a gap comes first."""
    samples = ecg_files.numbers(400, 3)
    source = open_source(str(ecg_files.layout(tmp_path, samples)))
    assert source.length == 700 and list(source.signal.leads) == ["I", "II", "III"]
    first = source.read(100)
    assert first == [Note("gap", {"seconds": 1.2}), Missing(300)]
    values, _ = read_all(source, 70)
    expected = samples / 1000
    expected[200:, 2] = np.nan
    assert np.array_equal(values, expected, equal_nan=True)
    assert find_records(tmp_path) == [tmp_path / "p.hea"]


def test_a_fixed_layout_as_the_library_reads_it(tmp_path: Path) -> None:
    for name, seed in (("p_1", 1), ("p_2", 2)):
        write_wfdb(tmp_path, name, beats(1, 250, seed=seed), 250, ("I", "II"))
    (tmp_path / "p.hea").write_text("p/2 2 250 500\np_1 250\np_2 250\n")
    values, _ = read_all(open_source(str(tmp_path / "p")), 99)
    assert np.allclose(values, wfdb.rdrecord(str(tmp_path / "p")).p_signal)


class TestSeveralRates:
    """Frames of 15.625 Hz, with 16 samples of the ECG each and 4 of another signal."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        ecg, resp = ecg_files.numbers(160, 1), ecg_files.numbers(40, 1, seed=1)
        np.concatenate([ecg.reshape(10, 16), resp.reshape(10, 4)], 1).astype("<i2").tofile(tmp_path / "a.dat")
        lines = ["a.dat 16x16 1000/mV 16 0 0 0 0 II", "a.dat 16x4 1000/mV 16 0 0 0 0 RESP"]
        (tmp_path / "a.hea").write_text("\n".join(["a 2 15.625 10", *lines, ""]))
        return tmp_path / "a"

    def test_the_rate_is_that_of_the_ecg(self, path: Path) -> None:
        source = open_source(str(path))
        assert source.signal.rate == 250 and source.signal.leads == ["II"]
        assert source.notes == ["RESP (62.5 Hz): not at 250 Hz, not read"]
        values, _ = read_all(source, 33)
        assert np.array_equal(values, ecg_files.numbers(160, 1) / 1000)

    def test_or_of_the_leads_that_are_asked_for(self, path: Path) -> None:
        source = open_source(str(path), Format(wanted=["RESP"]))
        assert source.signal.rate == 62.5
        assert np.array_equal(read_all(source)[0], ecg_files.numbers(40, 1, seed=1) / 1000)


def test_a_matlab_file_by_its_name(tmp_path: Path) -> None:
    samples = ecg_files.numbers(100, 2)
    (tmp_path / "a.mat").write_bytes(b"x" * 24 + samples.astype("<i2").tobytes())
    lines = [f"a.mat 16+24 1000/mV 16 0 0 0 0 {lead}" for lead in ("I", "II")]
    (tmp_path / "a.hea").write_text("\n".join(["a 2 500 100", *lines, ""]))
    for name in ("a.mat", "a.hea", "a"):
        assert np.array_equal(read_all(open_source(str(tmp_path / name)))[0], samples / 1000)


def test_what_a_header_leaves_out_is_said(tmp_path: Path) -> None:
    ecg_files.numbers(100, 2).tofile(tmp_path / "a.dat")
    (tmp_path / "a.hea").write_text("a 2\na.dat 16 0 16 0 0 0 0 I\na.dat 16\n")
    source = open_source(str(tmp_path / "a"))
    assert source.signal.rate == 250 and source.length == 100
    assert source.notes == [
        "the header has no rate; it is 250 Hz by the format's definition",
        "I, signal 2: the header has no gain; it is 200 per mV by the format's definition",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_mu_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    ecg_files.numbers(100, 1).tofile(tmp_path / "a.dat")
    (tmp_path / "a.hea").write_bytes("a 1 250 100\na.dat 16 1/\u00b5V 16 0 0 0 0 I\n".encode(encoding))
    source = open_source(str(tmp_path / "a"))
    assert source.signal.unit == ["\u00b5V"] and np.array_equal(
        read_all(source)[0], ecg_files.numbers(100, 1)
    )


def test_other_formats_need_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wfdb(tmp_path, "a", beats(2, 250, 1), 250, ("I",), ("mV",))
    header = tmp_path / "a.hea"
    header.write_text(header.read_text().replace("a.dat 16 ", "a.dat 8 "))
    source = open_source(str(tmp_path / "a"))
    assert isinstance(source, RecordSource) and source.signal.leads == ["I"]
    find: Any = lambda name: None if name == "wfdb" else object()  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", find)
    with pytest.raises(MissingExtraError, match=r"wfdb.*\[wfdb\]"):
        open_source(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "an empty header"),
        ("a\n", "no name and number of signals"),
        ("a 2 250 100\na.dat 16 1 16 0 0 0 0 I\n", "2 signals in 1 lines"),
        ("a Ann\n", "the number of signals is no number"),
        ("a 1 Ann\n", "the rate is no number"),
        ("a 1 250 -5\na.dat 16\n", "the number of samples is no number"),
        ("a 1 250 9\nb.dat 16\n", "a file of signals that the header names is missing"),
        ("a 1 250 9\n../a.dat 16\n", "in the folder of the header"),
        ("a 1 250 9\na.dat 16x99999999999\n", "frames of too many samples"),
        ("a 1 250 9\na.dat Ann\n", "signal 1 has no format"),
        ("a 1 250 9\na.dat 16 Ann\n", "signal 1 has a gain that is no number"),
        ("a/2 1 250 9\n", "the number of segments is no number"),
        ("a/1 1 250 9\n../b 9\n", "a segment in another folder"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: str, reason: str) -> None:
    (tmp_path / "a.dat").write_bytes(bytes(100))
    (tmp_path / "a.hea").write_text(header)
    with pytest.raises(DataError, match=reason) as refused:
        open_source(str(tmp_path / "a"))
    assert "Ann" not in str(refused.value)


def test_ends_where_a_segment_breaks_off(tmp_path: Path) -> None:
    path = ecg_files.layout(tmp_path, ecg_files.numbers(400, 3))
    data = (tmp_path / "p_2.dat").read_bytes()
    (tmp_path / "p_2.dat").write_bytes(data[: len(data) // 2])
    source = open_source(str(path))
    source.read(1)
    values, notes = read_all(source, 1000)
    assert len(values) == 300 and [note.kind for note in notes] == ["truncated"]
    assert isinstance(source, RecordSource) and not any(isinstance(p, Samples) for p in source.read(1))
