"""Labelled recordings: data files at the card's rate, folders at their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.ecg.sources.protocol import Missing, Samples
from multires_edge.runtime.evaluation.pieces import Recording
from multires_edge.runtime.evaluation.recordings import load_recordings
from tests.conftest import DEMO
from tests.runtime.conftest import LUDB

HEADER = "record,NORM,CD,HYP,MI,STTC\n"


def samples(recording: Recording) -> NDArray[np.float64]:
    return np.concatenate([part.values for part in recording.parts() if isinstance(part, Samples)])


def folder_of(home: Path, table: str | None) -> Path:
    for suffix in (".hea", ".dat"):
        shutil.copy(LUDB.with_suffix(suffix), home)
    if table is not None:
        (home / "labels.csv").write_text(table)
    return home


def test_a_data_file_gives_back_its_samples(twelve_leads: Bundle) -> None:
    data = load_recordings(DEMO / "records.npz", twelve_leads)
    file = np.load(DEMO / "records.npz")
    assert (data.positive == file["labels"]).all()
    assert data.recordings[1].signal.rate == 100
    assert np.abs(samples(data.recordings[1]) - file["x_uv"][1].T / 1000).max() < 1e-6


def test_inputs_behind_a_filter_are_no_recordings(twelve_leads: Bundle, tmp_path: Path) -> None:
    """A stream filters what it is given: it would filter these twice."""
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 12, 50), np.float32), labels=np.eye(2, 5, dtype=int))
    with pytest.raises(DataError, match=r"a\.npz: has inputs of the network, .* give x_uv in place of x"):
        load_recordings(tmp_path / "a.npz", twelve_leads)


def test_labels_by_number_are_one_class_each(two_leads: Path, opened: Bundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2, 50), np.float32), labels=[2, 0, 1], lengths=[50, 20, 30])
    data = load_recordings(tmp_path / "a.npz", opened)
    assert data.positive.tolist() == [[False, False, True], [True, False, False], [False, True, False]]
    assert [len(samples(recording)) for recording in data.recordings] == [50, 20, 30]


def test_a_folder_keeps_the_rate_and_sorts_the_labels(twelve_leads: Bundle, tmp_path: Path) -> None:
    data = load_recordings(folder_of(tmp_path, HEADER + "1, 1,0,0,0,1\n\n"), twelve_leads)
    assert dict(zip(twelve_leads.labels or [], data.positive[0].tolist(), strict=True)) == {
        "NORM": True, "CD": False, "HYP": False, "MI": False, "STTC": True,
    }  # fmt: skip
    assert data.recordings[0].signal.rate == 500
    assert samples(data.recordings[0]).shape == (5000, 12)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (None, "no such file"), ("", "header is"), ("record,NORM\n1,1\n", "header is"),
        (HEADER, "no records after the header"), (HEADER + "1,1,0,0,0\n", "line 2"),
        (HEADER + "1,1,0,0,0,2\n", "line 2"),
        (HEADER + "1,1,0,0,0,1\n1,1,0,0,0,1\n", "line 3"), (HEADER + "none,1,0,0,0,1\n", "no such source"),
    ],
)  # fmt: skip
def test_bad_tables(table: str | None, complaint: str, twelve_leads: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        load_recordings(folder_of(tmp_path, table), twelve_leads)


def test_bundles_that_decide_nothing(drawing: Path, exported: Path, tmp_path: Path) -> None:
    for bundle, complaint in ((drawing, "expected a classifier of signals"), (exported, "has no card")):
        with pytest.raises(InputError, match=complaint):
            load_recordings(tmp_path, open_bundle(bundle))


def test_a_record_that_breaks_off_is_refused(twelve_leads: Bundle, tmp_path: Path) -> None:
    data = load_recordings(folder_of(tmp_path, HEADER + "1,1,0,0,0,1\n"), twelve_leads)
    whole = (tmp_path / "1.dat").read_bytes()
    (tmp_path / "1.dat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"1: truncated \(of 5000 samples, .*; repair or remove the record"):
        samples(data.recordings[0])


def test_a_record_without_samples_has_no_parts(twelve_leads: Bundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", samples=np.zeros((0, 12)), leads=list("abcdefghijkl"), rate=100, unit="mV")
    (tmp_path / "labels.csv").write_text(HEADER + "a.npz,1,0,0,0,1\n")
    (recording,) = load_recordings(tmp_path, twelve_leads).recordings
    assert recording.length == 0 and list(recording.parts()) == []


def test_samples_that_never_came_are_part_of_a_recording(opened: Bundle, tmp_path: Path) -> None:
    lines = ['{"leads": ["I", "II"], "rate": 250, "unit": "mV"}']
    lines += [f'{{"samples": [[0.1, 0.2]], "time": {i / 250}}}' for i in (*range(60), *range(90, 120))]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "labels.csv").write_text("record,A,B,C\na.jsonl,1,0,0\n")
    (recording,) = load_recordings(tmp_path, opened).recordings
    assert (recording.known_length, recording.length) == (None, 120)
    assert sum(part.count for part in recording.parts() if isinstance(part, Missing)) == 30
