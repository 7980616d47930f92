"""Folders of recordings: the inputs that a stream of the same recording has, in pieces."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.base.files import sha256_of_folder
from multires_edge.calibration import calibrate
from multires_edge.format.card import Card, Preprocessing
from multires_edge.runtime import Bundle, EcgStream, Stream, evaluate
from multires_edge.runtime.ecg.sources.opening import find_records, open_source
from multires_edge.runtime.ecg.sources.protocol import Missing, Samples
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.recordings import load_data
from tests.conftest import SMALL, random_net, variant
from tests.runtime.conftest import LUDB, beats, write_wfdb

PREPROCESSING = Preprocessing(100, ("I", "II"), "mV", 0.1, 0.5)
CARD = Card(preprocessing=PREPROCESSING)


def load(folder: Path, card: Card = CARD, **options: Any) -> Dataset:
    return load_data(folder, SMALL, card, **options)


def read(folder: Path, **options: Any) -> NDArray[np.float32]:
    """All inputs of a folder with one record, (channels, time)."""
    data = load(folder, **options)
    lengths = [data.inputs.shape[-1]] * len(data) if data.lengths is None else data.lengths
    return np.concatenate([x[:, :n] for x, n in zip(data.inputs[:], lengths, strict=True)], 1)


def tone(rate: float, seconds: float, hertz: float = 3.0) -> NDArray[np.float64]:
    """A sine of 1 mV in lead II, twice that in lead I, on a baseline of 1.5 mV: (time, 2)."""
    t = np.arange(round(rate * seconds)) / rate
    wave = np.sin(2 * np.pi * hertz * t)
    return np.stack([wave + 1.5, 2 * wave + 1.5], 1)


def streamed(bundle: Bundle, record: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> NDArray[Any]:
    """The inputs (channels, time) of the network when the record is streamed."""
    seen = []
    run = Stream.run

    def watched(stream: Stream, x: NDArray[Any]) -> NDArray[Any]:
        seen.append(x[0].copy())
        return run(stream, x)

    source = open_source(str(record))
    signal = source.signal
    stream = EcgStream(bundle, leads=signal.leads, rate=signal.rate, unit=signal.unit, every=0.01, **options)
    with monkeypatch.context() as patch:
        patch.setattr(Stream, "run", watched)
        while not source.ended:
            for piece in source.read(777):
                if isinstance(piece, Samples):
                    stream.feed(piece.values)
                elif isinstance(piece, Missing):
                    stream.missing(piece.count)
        stream.finish()
    return np.concatenate(seen, 1)


class TestTheSamplesOfAStream:
    @pytest.mark.parametrize("rate", [100, 500, 360, 128, 250.5])
    @pytest.mark.parametrize("window", [None, 1.0, 2.3])
    def test_at_any_rate(
        self,
        opened: Bundle,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        rate: float,
        window: float | None,
    ) -> None:
        signals = beats(7, rate)
        signals[200:260, 0] = np.nan
        path = write_wfdb(tmp_path, "a", signals, rate)
        with pytest.warns(UserWarning, match=r"a: II nan$"):
            x = read(tmp_path, card=opened.manifest.card, window=window)
        assert np.array_equal(x, streamed(opened, path, monkeypatch))

    def test_of_a_published_record(self, twelve_leads: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        manifest = twelve_leads.manifest
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = load_data(LUDB.parent, manifest.model, manifest.card)
        assert np.array_equal(data.inputs[:][0], streamed(twelve_leads, LUDB, monkeypatch))

    @pytest.mark.parametrize("kind", ["edf", "npz", "jsonl"])
    def test_of_other_kinds(
        self, opened: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        x, path = beats(4, 250), tmp_path / f"a.{kind}"
        if kind == "edf":
            edfio.Edf(
                [
                    edfio.EdfSignal(
                        x[:, i], 250, label=f"ECG {lead}", physical_dimension="mV", physical_range=(-3, 3)
                    )
                    for i, lead in enumerate(("I", "II"))
                ]
            ).write(path)
        elif kind == "npz":
            np.savez(path, samples=x, leads=["I", "II"], rate=250, unit="mV")
        else:
            rows = [f'{{"samples": [[{a}, {b}]], "time": {i / 250}}}' for i, (a, b) in enumerate(x)]
            del rows[400:430]
            path.write_text("\n".join(['{"leads": ["I", "II"], "rate": 250, "unit": "mV"}', *rows]))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            inputs = read(tmp_path, card=opened.manifest.card)
        expected = [f"{path}: I gap, II gap"] if kind == "jsonl" else []
        assert [str(each.message) for each in caught] == expected
        assert inputs.shape == (2, 400)
        assert np.array_equal(inputs, streamed(opened, path, monkeypatch))

    def test_with_a_missing_and_a_renamed_lead(
        self, opened: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_wfdb(tmp_path, "a", beats(3, 250), 250, leads=("MLII", "V1"))
        options: dict[str, Any] = {"allow_missing": True, "rename": {"II": "MLII"}}
        with pytest.warns(UserWarning, match=r"a: I missing$"):
            x = read(tmp_path, card=opened.manifest.card, **options)
        assert np.abs(x[0]).max() < 1e-4 < np.abs(x[1]).max()
        assert np.array_equal(x, streamed(opened, path, monkeypatch, **options))


@pytest.mark.parametrize("rate", [100, 500, 360, 128, 250.5])
def test_any_rate_comes_out_at_the_cards(tmp_path: Path, rate: float) -> None:
    write_wfdb(tmp_path, "a", tone(rate, 10), rate)
    x = read(tmp_path)
    assert x.dtype == np.float32 and x.shape == (2, 1000)
    expected = (tone(100, 10).T[::-1] - 0.1) / 0.5
    middle = slice(50, -50)  # the samples beyond the ends of a record are unknown
    assert np.abs(x[:, middle] - expected[:, middle]).max() < 0.01
    # The first and the last sample are held; zeros would ring with the baseline, 3 here.
    assert np.abs(x - expected).max() < 0.5


@pytest.mark.parametrize(("unit", "factor"), [("V", 1e-3), ("mV", 1), ("uV", 1e3)])
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    write_wfdb(tmp_path, "a", tone(100, 2) * [1, factor], units=("mV", unit))
    x = read(tmp_path)[0]
    assert np.allclose(x, (tone(100, 2)[:, 1] - 0.1) / 0.5, atol=1e-3)
    in_volts = Card(preprocessing=replace(PREPROCESSING, unit="V", mean=1e-4, std=5e-4))
    assert np.allclose(read(tmp_path, card=in_volts)[0], x, atol=1e-3)


class TestPieces:
    def test_records_are_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for name, seconds in (("b", 3), ("a", 2)):
            write_wfdb(tmp_path, name, tone(100, seconds))
        write_wfdb(tmp_path / "sub", "c", tone(500, 1), 500)
        data = load(tmp_path)
        assert data.inputs.shape == (3, 2, 300) and data.inputs[:].dtype == np.float32
        assert data.lengths is not None and data.lengths.tolist() == [200, 300, 100]
        assert not data.inputs[:1][0, :, 200:].any()
        assert [data.record(row) for row in range(3)] == [
            f"record {tmp_path / name}" for name in ("a", "b", "sub/c")
        ]

    def test_a_window_cuts_them(self, tmp_path: Path) -> None:
        write_wfdb(tmp_path, "a", tone(100, 2.5))
        data = load(tmp_path, window=1)
        assert data.lengths is not None and data.lengths.tolist() == [100, 100, 50]
        whole = load(tmp_path)
        assert whole.lengths is None
        assert np.array_equal(read(tmp_path, window=1), whole.inputs[:][0])

    def test_without_a_window_they_are_cut_after_a_minute(self, tmp_path: Path) -> None:
        write_wfdb(tmp_path, "a", tone(100, 130))
        lengths = load(tmp_path).lengths
        assert lengths is not None and lengths.tolist() == [6000, 6000, 1000]

    def test_rows_in_any_order(self, tmp_path: Path) -> None:
        for name in "ab":
            write_wfdb(tmp_path, name, beats(3, 100, seed=ord(name)))
        data = load(tmp_path, window=1)
        rows = np.array([4, 0, 5, 2, 2])
        assert np.array_equal(data.inputs[rows], data.inputs[:][rows])
        part = data.first(4)
        assert (len(part), part.inputs.shape) == (4, (4, 2, 100))
        assert np.array_equal(part.inputs[:], data.inputs[:4])

    def test_a_segment_with_a_path_as_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "a.hea").write_text("a/2 2 250 1000\nb/c 500\n.. 500\n")
        assert find_records(tmp_path) == [tmp_path / "a.hea"]

    def test_a_multi_segment_record_is_one_record(self, tmp_path: Path) -> None:
        x = beats(4, 100)
        for name, part in (("s1", x[:150]), ("s2", x[150:])):
            write_wfdb(tmp_path, name, part)
        (tmp_path / "all.hea").write_text("all/2 2 100 400\ns1 150\ns2 250\n")
        data = load(tmp_path)
        assert (len(data), data.inputs.shape[-1], data.record(0)) == (1, 400, f"record {tmp_path / 'all'}")

    def test_the_digest_is_of_names_and_contents(self, tmp_path: Path) -> None:
        path = write_wfdb(tmp_path, "a", tone(100, 1)).with_suffix(".dat")
        digests = [sha256_of_folder(tmp_path)]
        assert sha256_of_folder(tmp_path) == digests[0]
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"!")
        digests.append(sha256_of_folder(tmp_path))
        path.write_bytes(content)
        path.rename(tmp_path / "b.dat")
        digests.append(sha256_of_folder(tmp_path))
        assert len(set(digests)) == 3


class TestLabels:
    def folder(self, home: Path) -> Path:
        for name in "abc":
            write_wfdb(home, name, beats(3, 100, seed=ord(name)))
        (home / "labels.csv").write_text("record,C,A,B\nc,1,0,0\na,0,1,1\n")
        return home

    def test_name_the_records_and_are_those_of_each_piece(self, opened: Bundle, tmp_path: Path) -> None:
        data = load_data(self.folder(tmp_path), SMALL, opened.manifest.card, window=2)
        assert data.labels is not None and data.classes == ["A", "B", "C"]
        assert data.labels.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 0]]
        assert [data.record(row)[-1] for row in range(4)] == ["c", "c", "a", "a"]
        assert load(tmp_path).classes == ["C", "A", "B"]  # a card without labels

    @pytest.mark.parametrize("graph", ["full", "step"])
    def test_a_bundle_is_evaluated_on_the_pieces(self, opened: Bundle, tmp_path: Path, graph: str) -> None:
        data = load_data(self.folder(tmp_path), SMALL, opened.manifest.card, window=2)
        in_memory = replace(data, inputs=data.inputs[:])
        result, expected = (evaluate(opened, each, graph=graph, batch=3) for each in (data, in_memory))
        assert result.metric == "auroc_macro" and len(result.predictions) == 4
        assert np.array_equal(result.predictions, expected.predictions)

    def test_a_network_is_calibrated_on_the_pieces(self, opened: Bundle, tmp_path: Path) -> None:
        data = load_data(self.folder(tmp_path), SMALL, opened.manifest.card, window=2)
        net = random_net(SMALL)
        with pytest.warns(UserWarning, match="only 4 records"):
            table = calibrate(net, data)
            expected = calibrate(net, replace(data, inputs=data.inputs[:]))
        assert table.to_json() == expected.to_json()

    def test_are_needed_to_evaluate(self, opened: Bundle, tmp_path: Path) -> None:
        write_wfdb(tmp_path, "a", tone(100, 1))
        with pytest.raises(DataError, match=r"has no labels, .* or labels.csv in a folder"):
            evaluate(opened, load_data(tmp_path, SMALL, opened.manifest.card))

    def test_streams_run_through_a_folder_one_at_a_time(self, opened: Bundle, tmp_path: Path) -> None:
        data = load_data(self.folder(tmp_path), SMALL, opened.manifest.card)
        with pytest.raises(InputError, match="cumulative pooling"):
            evaluate(opened, data, graph="step", state="carried", batch=2)


class TestRefusals:
    def test_no_records(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no recordings in the folder, expected \.hea"):
            load(tmp_path)

    def test_no_card_or_no_preprocessing(self, tmp_path: Path) -> None:
        for card in (None, Card()):
            with pytest.raises(DataError, match="need a card with preprocessing"):
                load_data(tmp_path, SMALL, card)

    def test_a_network_of_tokens(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="the network takes tokens"):
            load_data(tmp_path, variant(encoder="token"), CARD)

    def test_options_for_a_file(self, tmp_path: Path) -> None:
        options: list[dict[str, Any]] = [{"window": 1.0}, {"allow_missing": True}, {"rename": {"I": "V1"}}]
        for each in options:
            with pytest.raises(DataError, match="are options of a folder of recordings"):
                load_data(tmp_path / "a.npz", SMALL, CARD, **each)

    def test_a_missing_lead(self, tmp_path: Path) -> None:
        write_wfdb(tmp_path, "a", tone(100, 1), leads=("MLII", "I"))
        with pytest.raises(DataError, match="a: no lead II; the source has MLII, I"):
            load(tmp_path)

    def test_units_that_are_no_volts(self, tmp_path: Path) -> None:
        write_wfdb(tmp_path, "a", tone(100, 1), units=("mmHg", "mV"))
        with (
            pytest.warns(UserWarning, match="a: II: no voltage, not read"),
            pytest.raises(DataError, match="a: no lead II;"),
        ):
            load(tmp_path)
        write_wfdb(tmp_path, "a", tone(100, 1))
        with pytest.raises(DataError, match="the card's unit is 'adu'"):
            load(tmp_path, Card(preprocessing=replace(PREPROCESSING, unit="adu")))

    @pytest.mark.parametrize("suffix", [".dat", ".hea"])
    def test_damaged_files(self, tmp_path: Path, suffix: str) -> None:
        file = write_wfdb(tmp_path, "a", tone(100, 1)).with_suffix(suffix)
        whole = file.read_bytes()
        for content in (b"", whole[: len(whole) // 2]):
            file.write_bytes(content)
            with pytest.raises(DataError, match=r"a: (not a WFDB record, or damaged|no lead|truncated)"):
                read(tmp_path)

    def test_a_record_without_samples(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", samples=np.zeros((0, 2)), leads=["I", "II"], rate=100, unit="mV")
        with pytest.raises(DataError, match=r"a\.npz: has no samples"):
            load(tmp_path)

    def test_rates(self, tmp_path: Path) -> None:
        write_wfdb(tmp_path, "a", tone(100, 1))
        with pytest.raises(DataError, match=r"a: cannot resample from 100\.0 Hz to 0\.001 Hz"):
            load(tmp_path, Card(preprocessing=replace(PREPROCESSING, sampling_rate=1e-3)), window=1e4)
        write_wfdb(tmp_path, "a", tone(100, 1), rate=20)
        with pytest.raises(DataError, match=r"a: the rate is 20\.0 Hz, expected 50 to 2000 Hz"):
            load(tmp_path)

    @pytest.mark.parametrize("window", [1e-3, float("inf"), float("nan")])
    def test_windows(self, tmp_path: Path, window: float) -> None:
        write_wfdb(tmp_path, "a", tone(100, 1))
        with pytest.raises(DataError, match="expected a finite time of one sample or more"):
            load(tmp_path, window=window)


_MEASURED = """
import resource, sys
from multires_edge.cli.main import main

def peak():
    for command in commands:
        main([word.replace("FOLDER", folder) for word in command], standalone_mode=False)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

checkpoint, card, bundle, short, long, output = sys.argv[1:]
commands = [
    ["calibrate", checkpoint, "--card", card, "--data", "FOLDER", "-o", output, "--force"],
    ["evaluate", bundle, "--data", "FOLDER"],
    ["evaluate", bundle, "--data", "FOLDER", "--graph", "step"],
    ["evaluate", bundle, "--data", "FOLDER", "--ecg", "--every", "5s"],
]
folder = short
before = peak()
folder = long
print(peak() - before, file=sys.stderr)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recordings(two_leads: Path, tmp_path: Path) -> None:
    """An hour of four leads, 29 MB as the reader has them, needs no more than four minutes."""
    for name, minutes in (("short", 2), ("long", 30)):
        for i in range(2):
            signals = np.tile(beats(60, 250, 4, seed=i), (minutes, 1))
            write_wfdb(tmp_path / name, f"r{i}", signals, 250, ("I", "II", "V1", "V2"), ("mV",) * 4)
        (tmp_path / name / "labels.csv").write_text("record,A,B,C\nr0,0,1,0\nr1,1,0,1\n")
    home = two_leads.parent
    paths = [home / "ckpt.pth", home / "card.json", two_leads, tmp_path / "short", tmp_path / "long"]
    command = [sys.executable, "-W", "ignore", "-c", _MEASURED, *map(str, paths), str(tmp_path / "t.json")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    growth = int(run.stderr.splitlines()[-1]) / 1024
    assert growth < 10, f"{growth} MB"
