"""WFDB recordings, written here and read back as a network wants them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, MissingExtraError
from multires_edge.base.files import sha256_of_folder
from multires_edge.calibration.data import load_data
from multires_edge.format.card import Card, Preprocessing
from multires_edge.runtime.ecg.wfdb_folder import load_folder, read_record
from tests.conftest import SMALL, variant

CARD = Preprocessing(100, ("I", "II"), "mV", 0.1, 0.5)


def tone(rate: float, seconds: float, hertz: float = 3.0) -> NDArray[np.float64]:
    """A sine of 1 mV in lead II, twice that in lead I, on a baseline of 1.5 mV: (time, 2)."""
    t = np.arange(round(rate * seconds)) / rate
    wave = np.sin(2 * np.pi * hertz * t)
    return np.stack([wave + 1.5, 2 * wave + 1.5], 1)


def write(
    folder: Path,
    name: str,
    signals: NDArray[np.float64],
    rate: float = 100,
    leads: tuple[str, ...] = ("II", "I"),
    units: tuple[str, ...] = ("mV", "mV"),
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name, fs=rate, units=list(units), sig_name=list(leads), p_signal=signals,
        fmt=["16"] * len(leads), write_dir=str(folder),
    )  # fmt: skip
    return folder / name


@pytest.mark.parametrize("rate", [100, 500, 360, 128, 250.5])
def test_any_rate_comes_out_at_the_cards(tmp_path: Path, rate: float) -> None:
    x = read_record(write(tmp_path, "a", tone(rate, 10), rate), CARD)
    assert x.dtype == np.float32 and x.shape == (2, 1000)
    expected = (tone(100, 10).T[::-1] - 0.1) / 0.5
    middle = slice(50, -50)  # what lies beyond the ends of a record is not known
    assert np.abs(x[:, middle] - expected[:, middle]).max() < 0.01
    # The line between the ends is taken off before filtering; zeros would ring by the baseline, 3 here.
    assert np.abs(x - expected).max() < 0.5


@pytest.mark.parametrize(("unit", "factor"), [("V", 1e-3), ("mV", 1), ("uV", 1e3)])
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    path = write(tmp_path, "a", tone(100, 2) * factor, units=("mV", unit))
    x = read_record(path, CARD)[0]
    assert np.allclose(x, (tone(100, 2)[:, 1] - 0.1) / 0.5, atol=1e-3)
    assert np.allclose(read_record(path, replace(CARD, unit="V", mean=1e-4, std=5e-4))[0], x, atol=1e-3)


def test_leads_by_name_whatever_their_case_and_order(tmp_path: Path) -> None:
    extra = np.concatenate([tone(100, 2), np.zeros((200, 1))], 1)
    path = write(tmp_path, "a", extra, leads=("ii", "i", "v1"), units=("mV",) * 3)
    assert np.array_equal(read_record(path, CARD), read_record(write(tmp_path, "b", tone(100, 2)), CARD))


class TestFolders:
    def test_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for name, seconds in (("b", 3), ("a", 2)):
            write(tmp_path, name, tone(100, seconds))
        write(tmp_path / "sub", "c", tone(500, 1), 500)
        data = load_folder(tmp_path, CARD)
        assert data.inputs.shape == (3, 2, 300) and data.inputs.dtype == np.float32
        assert data.lengths is not None and data.lengths.tolist() == [200, 300, 100]
        assert np.array_equal(data.inputs[0, :, :200], read_record(tmp_path / "a", CARD))
        assert not data.inputs[0, :, 200:].any()

    def test_windows(self, tmp_path: Path) -> None:
        write(tmp_path, "a", tone(100, 2.5))
        data = load_folder(tmp_path, CARD, window=1)
        assert data.lengths is not None and data.lengths.tolist() == [100, 100, 50]
        whole = load_folder(tmp_path, CARD)
        assert whole.lengths is None
        joined = np.concatenate([x[:, :n] for x, n in zip(data.inputs, data.lengths, strict=True)], 1)
        assert np.array_equal(joined, whole.inputs[0])

    def test_through_a_checkpoints_card(self, tmp_path: Path) -> None:
        write(tmp_path, "a", tone(100, 2))
        data = load_data(tmp_path, SMALL, Card(preprocessing=CARD), window=0.5)
        assert len(data) == 4
        with pytest.raises(DataError, match="the network takes tokens"):
            load_data(tmp_path, variant(encoder="token"), Card(preprocessing=CARD))

    def test_the_digest_is_of_names_and_contents(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a", tone(100, 1)).with_suffix(".dat")
        digests = [sha256_of_folder(tmp_path)]
        assert sha256_of_folder(tmp_path) == digests[0]
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"!")
        digests.append(sha256_of_folder(tmp_path))
        path.write_bytes(content)
        path.rename(tmp_path / "b.dat")
        digests.append(sha256_of_folder(tmp_path))
        assert len(set(digests)) == 3


class TestRefusals:
    def test_no_records(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no WFDB records"):
            load_folder(tmp_path, CARD)

    def test_no_card(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="need a card with preprocessing"):
            load_folder(tmp_path, None)

    def test_a_missing_lead(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a", tone(100, 1), leads=("MLII", "I"))
        with pytest.raises(DataError, match="a: no lead II; the record has MLII, I"):
            read_record(path, CARD)

    def test_units_that_are_no_volts(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a", tone(100, 1), units=("mmHg", "mV"))
        with pytest.raises(DataError, match="lead II is in 'mmHg'; expected uV, mV or V"):
            read_record(path, CARD)
        with pytest.raises(DataError, match="the card's unit is 'adu'"):
            read_record(path, replace(CARD, unit="adu"))

    def test_a_unit_that_the_reader_would_misread(self, tmp_path: Path) -> None:
        """It drops what is not ASCII: microvolt would become volt."""
        path = write(tmp_path, "a", tone(100, 1), units=("uV", "mV"))
        header = path.with_suffix(".hea")
        for encoding in ("utf-8", "latin-1"):
            header.write_bytes(header.read_bytes().replace(b"uV", "µV".encode(encoding)))
            with pytest.raises(DataError, match="not ASCII; write uV"):
                read_record(path, CARD)
            header.write_bytes(header.read_bytes().replace("µV".encode(encoding), b"uV"))
        header.write_bytes(header.read_bytes() + "# a comment: 7 µV\n".encode())
        read_record(path, CARD)

    def test_gaps(self, tmp_path: Path) -> None:
        signals = tone(100, 1)
        signals[20:25, 0] = np.nan
        with pytest.raises(DataError, match="5 of 100 samples are missing"):
            read_record(write(tmp_path, "a", signals), CARD)

    @pytest.mark.parametrize("suffix", [".dat", ".hea"])
    def test_damaged_files(self, tmp_path: Path, suffix: str) -> None:
        path = write(tmp_path, "a", tone(100, 1))
        file = path.with_suffix(suffix)
        whole = file.read_bytes()
        for content in (b"", whole[: len(whole) // 2]):
            file.write_bytes(content)
            with pytest.raises(DataError, match=r"a: (not a WFDB record, or damaged|no lead)"):
                read_record(path, CARD)
        file.unlink()
        with pytest.raises(DataError, match="not a WFDB record"):
            read_record(path, CARD)

    def test_a_rate_out_of_all_proportion(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot resample from"):
            read_record(write(tmp_path, "a", tone(100, 1)), replace(CARD, sampling_rate=1e-3))

    @pytest.mark.parametrize("window", [1e-3, float("inf"), float("nan")])
    def test_a_window_that_is_none(self, tmp_path: Path, window: float) -> None:
        write(tmp_path, "a", tone(100, 1))
        with pytest.raises(DataError, match="less than one sample, or endless"):
            load_folder(tmp_path, CARD, window=window)

    @pytest.mark.parametrize("module", ["wfdb", "scipy"])
    def test_without_the_extra(self, tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(
            "multires_edge.runtime.ecg.wfdb_folder.find_spec",
            lambda name: None if name == module else find(name),
        )
        with pytest.raises(MissingExtraError, match=rf"{module}.*multires-edge\[ecg\]"):
            load_folder(tmp_path, CARD)
