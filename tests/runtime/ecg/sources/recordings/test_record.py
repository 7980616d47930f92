"""Recordings as sources: read in pieces, whole, and up to where they break off."""

from __future__ import annotations

from pathlib import Path

import edfio
import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Note, Piece, Samples, Source
from multires_edge.runtime.ecg.sources.recordings import record
from tests.runtime.conftest import LUDB, beats, write_wfdb

X = beats(4, 250)


def read_all(source: Source, chunk: int = 300) -> tuple[NDArray[np.float64], list[Note]]:
    pieces: list[Piece] = []
    for _ in range(100):
        if source.ended:
            break
        pieces += source.read(chunk)
    assert source.ended and source.read(chunk) == []
    values = [piece.values for piece in pieces if isinstance(piece, Samples)]
    return np.concatenate(values), [piece for piece in pieces if isinstance(piece, Note)]


def save(folder: Path, kind: str) -> Path:
    if kind == "wfdb":
        return write_wfdb(folder, "a", X, 250, leads=("I", "II"))
    if kind == "edf":
        signals = [
            edfio.EdfSignal(
                X[:, i], 250, label=f"ECG {lead}", physical_dimension="mV", physical_range=(-3, 3)
            )
            for i, lead in enumerate(("I", "II"))
        ]
        pulse = edfio.EdfSignal(
            np.ones(40), 10, label="Pulse", physical_dimension="bpm", physical_range=(0, 9)
        )
        edfio.Edf([*signals, pulse], annotations=[edfio.EdfAnnotation(1, None, "x")]).write(folder / "a.edf")
        return folder / "a.edf"
    np.savez(folder / "a.npz", samples=X, leads=["I", "II"], rate=250, unit="mV")
    return folder / "a.npz"


@pytest.mark.parametrize("kind", ["wfdb", "edf", "npz"])
class TestEachKind:
    def test_reads_what_was_written(self, tmp_path: Path, kind: str) -> None:
        source = open_source(str(save(tmp_path, kind)))
        assert (source.signal.rate, source.live) == (250, False)
        assert [lead.removeprefix("ECG ") for lead in source.signal.leads] == ["I", "II"]
        values, notes = read_all(source)
        assert values.shape == X.shape and not notes
        assert np.abs(values - X).max() < 1e-3

    def test_goes_on_from_a_saved_position(self, tmp_path: Path, kind: str) -> None:
        path = str(save(tmp_path, kind))
        source, other = open_source(path), open_source(path)
        source.read(333)
        other.load(source.save())
        assert other.identity() == source.identity()
        assert np.array_equal(read_all(other)[0], read_all(source)[0])

    def test_ends_where_the_file_breaks_off(
        self, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = save(tmp_path, kind)
        file = path.with_suffix(".dat") if kind == "wfdb" else path
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * 2 // 3])
        if kind == "npz":
            with pytest.raises(DataError, match=r"not an \.npz file, or damaged"):
                open_source(str(path))
            return
        monkeypatch.setattr(record, "_READ_AHEAD", 500)
        values, notes = read_all(open_source(str(path)), 100)
        assert 500 <= len(values) < 700
        assert np.abs(values - X[: len(values)]).max() < 1e-3
        assert [(note.kind, note.fault) for note in notes] == [("truncated", True)]
        assert "samples" in notes[0].details["message"] or "records" in notes[0].details["message"]


def test_a_published_record() -> None:
    for spec in (str(LUDB), f"{LUDB}.hea", f"{LUDB}.dat"):
        source = open_source(spec)
        assert source.signal.rate == 500 and len(source.signal.leads) == 12
    assert len(read_all(source)[0]) == 5000


def test_a_header_without_a_length(tmp_path: Path) -> None:
    path = save(tmp_path, "wfdb")
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace("250 1000\n", "250\n", 1))
    source = open_source(str(path))
    assert source.identity()["samples"] == len(X)
    values, notes = read_all(source)
    assert np.abs(values - X).max() < 1e-3 and not notes


def test_npz_takes_from_the_user_what_it_does_not_say(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", samples=(1000 * X).astype(np.int16))
    source = open_source(str(tmp_path / "a.npz"), Format(250, "uV", ["II", "I"]))
    assert (source.signal.rate, source.signal.unit) == (250, "uV")
    with pytest.raises(DataError, match=r"expected numbers \(n, leads\) with 0 leads"):
        open_source(str(tmp_path / "a.npz"))
    with pytest.raises(DataError, match="has no rate; give --rate"):
        open_source(str(tmp_path / "a.npz"), Format(None, "uV", ["II", "I"]))


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nothing", "no such source, expected a WFDB record"),
            ("a.edf", "no such file"),
            ("a.npz", "no such file"),
            ("a.csv", "cannot be read"),
        ],
    )
    def test_what_is_not_there(self, tmp_path: Path, name: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / name))

    @pytest.mark.parametrize("name", ["a.edf", "a.hea", "a.npz"])
    def test_junk(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"\x00\xffjunk\n" * 100)
        with pytest.raises(DataError, match="damaged"):
            open_source(str(tmp_path / name))

    def test_an_edf_without_volts(self, tmp_path: Path) -> None:
        signal = edfio.EdfSignal(np.ones(40), 10, physical_dimension="bpm", physical_range=(0, 9))
        edfio.Edf([signal]).write(tmp_path / "a.edf")
        with pytest.raises(DataError, match="no signal in uV, mV or V"):
            open_source(str(tmp_path / "a.edf"))
