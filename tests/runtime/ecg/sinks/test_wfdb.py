"""Annotation files, read by the WFDB library, and what happens to them when a run is killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import InputError
from multires_edge.runtime.ecg.sinks.protocol import About, DeliveryError, Line, Sink
from multires_edge.runtime.ecg.sinks.registry import open_sinks
from multires_edge.runtime.ecg.sinks.wfdb import note, record_names
from tests.runtime.ecg.sinks.receivers import decision, event, line

ABOUT = About({"a": 250.0, "b": 360.5}, ["A", "B"])


def start(folder: Path, saved: str | None = None, about: About = ABOUT) -> Sink:
    (found,) = open_sinks([f"wfdb:{folder}"], about)
    found.sink.load(saved)
    return found.sink


def read(path: Path) -> tuple[float, list[tuple[int, str]]]:
    """The rate of annotations, and pairs of sample and text."""
    found = wfdb.rdann(str(path.with_suffix("")), path.suffix[1:])
    assert set(found.symbol) <= {'"'}
    return found.fs, list(zip(found.sample.tolist(), found.aux_note, strict=True))


def lines(*times: float, source: str = "a") -> list[Line]:
    return [line(decision(time, source)) for time in times]


def test_each_source_has_a_file(tmp_path: Path) -> None:
    sink = start(tmp_path)
    sink.send([*lines(0.5, 1.0), *lines(1.0, source="b"), line(event(None, "continued", source=None))])
    sink.send([line(event(1.0, "onset", label="A", probability=0.9)), line(event(9.5, "gap", seconds=8.25))])
    assert read(tmp_path / "a.multires") == (
        250,
        [
            (125, "A=0.250 B=0.500"),
            (250, "A=0.250 B=0.500"),
            (250, "onset A 0.900"),
            (2375, "gap seconds=8.25"),
        ],
    )
    assert read(tmp_path / "b.multires") == (360.5, [(360, "A=0.250 B=0.500")])


@given(
    st.lists(st.tuples(st.floats(0, 400_000), st.text(max_size=8)), min_size=1, max_size=30),
    st.lists(st.integers(1, 5), min_size=30, max_size=30),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_times_and_texts(tmp_path: Path, given: list[tuple[float, str]], sizes: list[int]) -> None:
    """The file is whole after each write, whatever the distances and the lengths of texts."""
    for old in tmp_path.glob("a.multires*"):
        old.unlink()
    sink = start(tmp_path)
    given = sorted(given)
    entries = [
        event(time, "lost", label="x" + "".join(c for c in text if c.isprintable())) for time, text in given
    ]
    rest = [line(entry) for entry in entries]
    done: list[dict[str, Any]] = []
    for size in sizes:
        part, rest = rest[:size], rest[size:]
        if not part:
            break
        sink.send(part)
        done += [dict(each.entry) for each in part]
        expected = [(max(1, round(e["time"] * 250)), note(e)) for e in done]
        found = read(tmp_path / "a.multires")[1]
        assert [(s, text.encode("latin-1")) for s, text in found] == [
            (s, text.encode()) for s, text in expected
        ]


def test_times_that_go_back_are_put_at_the_last_one(tmp_path: Path) -> None:
    """A reader expects them in order."""
    start(tmp_path).send(lines(10, 3, 11))
    assert [sample for sample, _ in read(tmp_path / "a.multires")[1]] == [2500, 2500, 2750]


def test_a_long_text_is_cut_between_its_parts() -> None:
    chances = {f"label{i:03d}": i / 100 for i in range(100)}
    text = note(decision(1.0, probabilities=chances))
    assert len(text) <= 255 and text.endswith("label016=0.160")
    text = note(decision(1.0, probabilities=None, quality={"V1": ["nan", "flat"]}))
    assert text == "no_signal V1:nan,flat"


def test_a_run_that_was_killed_writes_no_line_twice(tmp_path: Path) -> None:
    sink = start(tmp_path)
    sink.send(lines(1, 2))
    saved = sink.save()
    sink.send([*lines(3, 4), *lines(1, source="b")])
    again = start(tmp_path, saved)
    again.send([*lines(3, 4), *lines(1, source="b")])
    again.send(lines(5))
    assert [sample for sample, _ in read(tmp_path / "a.multires")[1]] == [250, 500, 750, 1000, 1250]
    # A file that no position knows stays, under another name.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.multires", "b.multires", "b.multires.1"]


def test_a_file_of_another_run_is_kept(tmp_path: Path) -> None:
    for run in range(3):
        start(tmp_path).send(lines(run + 1))
    names = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(names) == ["a.multires", "a.multires.1", "a.multires.2"]
    (tmp_path / "a.multires.1").rename(tmp_path / "first.multires")
    assert read(tmp_path / "first.multires")[1][0][0] == 250 and read(tmp_path / "a.multires")[1][0][0] == 750


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of an annotation that fitted is replaced when there is room again."""
    sink = start(tmp_path)
    sink.send(lines(1))
    write, full = os.pwrite, [True]

    def short(file: int, data: bytes, at: int) -> int:
        if full and len(data) <= 7:
            raise OSError(28, "No space left on device")
        return write(file, data[:7] if full else data, at)

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(DeliveryError, match=r"cannot be written \(No space left on device"):
        sink.send(lines(2, 3))
    full.clear()
    sink.send(lines(2, 3))
    assert [sample for sample, _ in read(tmp_path / "a.multires")[1]] == [250, 500, 750]


def test_a_file_that_another_program_cut(tmp_path: Path) -> None:
    sink = start(tmp_path)
    sink.send(lines(1, 2))
    os.truncate(tmp_path / "a.multires", 10)
    with pytest.raises(DeliveryError, match="another program cut it"):
        sink.send(lines(3))
    again = start(tmp_path, sink.save())
    again.send(lines(3))
    assert [sample for sample, _ in read(tmp_path / "a.multires")[1]] == [750]


@pytest.mark.parametrize("saved", ["[]", "{", '{"a": 7}', '{"a": {"size": -1, "sample": 0}}'])
def test_a_position_that_is_none(tmp_path: Path, saved: str) -> None:
    with pytest.raises(InputError, match="has no places in annotation files"):
        start(tmp_path, saved)


def test_names_of_records() -> None:
    names = record_names(
        ["rec/100", "other/100.dat", "tcp://10.0.0.7:5000", "-", "Bed 7 \u00e4.csv", "..", "a.b/"]
    )
    assert list(names.values()) == ["100", "100_2", "10_0_0_7_5000", "source", "Bed_7", "source_2", "a"]
