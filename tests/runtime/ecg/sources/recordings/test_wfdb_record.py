"""WFDB records, compared with the wfdb library, and those that it does not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from multires_edge.base.errors import DataError, MissingExtraError
from multires_edge.runtime.ecg.sources.opening import find_records, open_source, read_through
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Note, Samples
from multires_edge.runtime.ecg.sources.recordings import differences
from multires_edge.runtime.ecg.sources.recordings.record import RecordSource
from multires_edge.runtime.ecg.sources.recordings.wfdb_record import open_wfdb
from tests import ecg_files
from tests.runtime.conftest import beats, write_wfdb
from tests.runtime.ecg.sources.recordings.test_record import read_all

FORMATS = ("8", "16", "24", "32", "61", "80", "160", "212", "310", "311")
_LARGEST = {"8": 120, "80": 120, "212": 2000, "310": 500, "311": 500}


def drawn(random: np.random.Generator, encoding: str, frames: int, samples: int) -> np.ndarray[Any, Any]:
    """Numbers that fit a format; of differences those that do."""
    largest = _LARGEST.get(encoding, 30_000)
    numbers = random.integers(-largest, largest, (frames, samples))
    return np.cumsum(numbers, 0) if encoding == "8" else numbers


class TestAsTheLibraryReadsThem:
    @pytest.mark.parametrize("encoding", FORMATS)
    @pytest.mark.parametrize("leads", [1, 2, 3])
    def test_formats(self, tmp_path: Path, encoding: str, leads: int) -> None:
        numbers = drawn(np.random.default_rng(leads), encoding, 502, leads)
        if encoding not in ("8", "80"):
            numbers[100, 0] = {"24": -(1 << 23), "32": -(1 << 31), "212": -2048}.get(encoding, -(1 << 15))
        if encoding in ("310", "311"):
            numbers[100, 0] = -512
        (tmp_path / "a.dat").write_bytes(ecg_files.wfdb_bytes(numbers, encoding))
        lines = [f"a.dat {encoding} 200/mV 12 0 {numbers[0, i]} 0 0 V{i + 1}" for i in range(leads)]
        (tmp_path / "a.hea").write_text("\n".join([f"a {leads} 251 502", *lines, ""]))
        expected = wfdb.rdrecord(str(tmp_path / "a")).p_signal
        values, notes = read_all(open_source(str(tmp_path / "a")), 77)
        assert np.array_equal(values, expected, equal_nan=True) and not notes
        assert np.isnan(values).any() == (encoding not in ("8", "80"))

    @pytest.mark.parametrize("seed", range(40))
    def test_odd_headers(self, tmp_path: Path, seed: int) -> None:
        """Files of several formats, frames, offsets; gains and baselines in all notations; comments."""
        header = _odd_record(np.random.default_rng(seed), tmp_path)
        (tmp_path / "a.hea").write_bytes(header.encode())
        record = wfdb.rdrecord(str(tmp_path / "a"), smooth_frames=False)
        sizes = record.samps_per_frame
        for size in set(sizes):
            those = [i for i, each in enumerate(sizes) if each == size]
            names = [record.sig_name[i] for i in those]
            source = open_source(str(tmp_path / "a"), Format(wanted=names))
            assert source.signal.rate == pytest.approx(record.fs * size)
            assert list(source.signal.leads) == names
            assert list(source.signal.unit) == [record.units[i] for i in those]
            values, notes = read_all(source, 61)
            expected = np.stack([record.e_p_signal[i] for i in those], 1)
            for k, i in enumerate(those):  # the library makes zeros of what a skew lacks
                expected[len(expected) - size * (record.skew[i] or 0) :, k] = np.nan
            assert np.allclose(values, expected, rtol=1e-12, atol=1e-9, equal_nan=True) and not notes

    @pytest.mark.parametrize("seed", range(20))
    def test_odd_layouts(self, tmp_path: Path, seed: int) -> None:
        """Segments of some of the signals, in another order, gain and format; gaps anywhere."""
        random = np.random.default_rng(seed)
        names = ["I", "II", "V", "MCL1", "RESP"][: int(random.integers(1, 6))]
        layout = [f"~ 0 1000/mV 16 0 0 0 0 {name}" for name in names]
        (tmp_path / "p_layout.hea").write_text("\n".join([f"p_layout {len(names)} 125 0", *layout, ""]))
        segments, total = ["p_layout 0"], 0
        for part in range(int(random.integers(2, 7))):
            length = int(random.integers(20, 120))
            total += length
            if part != 1 and random.random() < 0.3:
                segments.append(f"~ {length}")
                continue
            those = random.permutation(len(names))[: int(random.integers(1, len(names) + 1))]
            encoding = str(random.choice(["16", "212", "80"]))
            samples = drawn(random, encoding, length, len(those))
            name = f"p_{part}"
            (tmp_path / f"{name}.dat").write_bytes(ecg_files.wfdb_bytes(samples, encoding))
            lines = [
                f"{name}.dat {encoding} {random.integers(50, 3000)}({random.integers(-50, 50)})/mV "
                f"12 0 {samples[0, k]} 0 0 {names[i]}"
                for k, i in enumerate(those)
            ]
            header = [f"{name} {len(those)} 125 {length}", *lines, ""]
            (tmp_path / f"{name}.hea").write_text("\n".join(header))
            segments.append(f"{name} {length}")
        (tmp_path / "p.hea").write_text(
            "\n".join([f"p/{len(segments)} {len(names)} 125 {total}", *segments, ""])
        )
        expected = wfdb.rdrecord(str(tmp_path / "p"))
        values = np.concatenate(
            [
                each.values if isinstance(each, Samples) else np.full((each.count, len(names)), np.nan)
                for each in read_through(open_source(str(tmp_path / "p")))
            ]
        )
        ours = [expected.sig_name.index(name) for name in names if name in expected.sig_name]
        assert np.allclose(
            values[:, [names.index(expected.sig_name[i]) for i in ours]], expected.p_signal[:, ours],
            rtol=1e-12, atol=1e-9, equal_nan=True,
        )  # fmt: skip


def _odd_record(random: np.random.Generator, folder: Path) -> str:
    """Writes files of signals; the header of them."""
    draw: Any = lambda *options: options[random.integers(len(options))]  # noqa: E731
    frames = int(random.integers(50, 200))
    lines, count = [], 0
    for file in range(int(random.integers(1, 4))):
        encoding = draw(*FORMATS)
        sizes = [draw(1, 1, 2, 5)] * int(random.integers(1, 4)) if encoding != "8" else [1, 1]
        numbers = drawn(random, encoding, frames, sum(sizes))
        offset = draw(0, 0, 24) if encoding != "8" else 0
        name = f"{draw('a', 'ecg', 'x_1')}{file}.{draw('dat', 'DAT', 'mat')}"
        (folder / name).write_bytes(b"x" * offset + ecg_files.wfdb_bytes(numbers, encoding))
        for k, size in enumerate(sizes):
            skew = draw("", "", ":3") if encoding != "8" else ""
            form = f"{encoding}{f'x{size}' if size > 1 else ''}{skew}{f'+{offset}' if offset else ''}"
            gain = draw("200", "1000", "1e3", "204.7", "2.5e-1", "1.0") + draw("", "(0)", "(-17)", "(2048)")
            gain += draw("", "/mV", "/uV", "/V", "/mV")
            initial = numbers[0, sum(sizes[:k])]
            rest = draw("16 0", "12 1024", "0 -5") + f" {initial} {draw('0', '-12345')} 0"
            lead = draw("I", "MLII", "ECG lead V1", "aVR", "V 2", "ECG(x)") + f" {count}"
            lines.append(f"{name} {form} {gain} {rest} {lead}{draw('', '  ')}")
            count += 1
    rate = draw("250", "360", "128.0", "15.625", "500/25", "250/1000(5)")
    first = f"a {count} {rate} {frames}{draw('', ' 10:00:00', ' 10:00:00.5 01/05/2024')}"
    rows = [draw("# Ann Other", "#", "# <age>: 81  <sex>: M"), first, *lines, "# <diagnoses> (none)"]
    return str(draw("\n", "\r\n", "\n\n").join(rows) + draw("", "\n"))


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


def test_by_the_name_of_its_annotations(tmp_path: Path) -> None:
    ecg_files.numbers(100, 1).tofile(tmp_path / "a.dat")
    (tmp_path / "a.hea").write_text("a 1 250 100\na.dat 16 1000/millivolts 16 0 0 0 0 I\n")
    (tmp_path / "a.atr").write_bytes(b"\0\1")
    source = open_source(str(tmp_path / "a.atr"))
    assert source.signal.unit == ["mV"] and source.length == 100


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_mu_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    ecg_files.numbers(100, 1).tofile(tmp_path / "a.dat")
    (tmp_path / "a.hea").write_bytes("a 1 250 100\na.dat 16 1/\u00b5V 16 0 0 0 0 I\n".encode(encoding))
    source = open_source(str(tmp_path / "a"))
    assert source.signal.unit == ["uV"] and np.array_equal(read_all(source)[0], ecg_files.numbers(100, 1))


def test_differences_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that goes on from a state, and then in order."""
    monkeypatch.setattr(differences, "_FRAMES", 7)
    numbers = drawn(np.random.default_rng(0), "8", 300, 2)
    (tmp_path / "a.dat").write_bytes(ecg_files.wfdb_bytes(numbers, "8"))
    lines = [f"a.dat 8 1/mV 12 0 {numbers[0, i]} 0 0 {lead}" for i, lead in enumerate(("I", "II"))]
    (tmp_path / "a.hea").write_text("\n".join(["a 2 250 300", *lines, ""]))
    record = open_wfdb(tmp_path / "a", Format())
    for start, stop in ((100, 131), (131, 140), (20, 300), (299, 300), (0, 300)):
        assert np.array_equal(record.read(start, stop), numbers[start:stop])


def test_flac_needs_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wfdb.wrsamp(
        "a", fs=250, units=["mV"], sig_name=["I"], p_signal=beats(2, 250, 1), fmt=["516"],
        write_dir=str(tmp_path),
    )  # fmt: skip
    source = open_source(str(tmp_path / "a"))
    assert isinstance(source, RecordSource) and source.signal.leads == ["I"]
    assert np.allclose(read_all(source, 77)[0], wfdb.rdrecord(str(tmp_path / "a")).p_signal)
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
