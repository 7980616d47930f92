"""The last hours out of a file of lines: the end of a large file, in limited time, while it grows."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.runtime.monitor import review as module
from multires_edge.runtime.monitor.access import Refused
from multires_edge.runtime.monitor.review import (
    INTERVALS,
    OutOfTime,
    Past,
    lines_from_end,
    question,
    review,
    summary,
)

FOREVER = float("inf")


def decision(time: float, chance: float | None, source: str = "a") -> str:
    probabilities = None if chance is None else {"X": chance, "Y": 0.5}
    return json.dumps({"type": "decision", "source": source, "time": time, "probabilities": probabilities})


def event(time: float, kind: str = "gap", source: str = "a", **fields: Any) -> str:
    return json.dumps({"type": "event", "source": source, "time": time, "event": kind, **fields})


def past(end: float, lines: list[str] | None = None, source: str = "a") -> Past:
    return Past(source, ["X", "Y"], end, lines or [])


def summarized(lines: list[str], end: float, hours: int = 1) -> dict[str, Any]:
    return summary(past(end), (line.encode() for line in reversed(lines)), hours)


class TestSummary:
    def test_the_highest_of_every_interval(self) -> None:
        lines = [decision(t, 0.001 * (t % 97)) for t in range(7200)]
        found = summarized(lines, 7199.0)
        assert (found["start"], found["end"], found["step"]) == (3599.0, 7199.0, 10.0)
        assert found["complete"] and found["reached"] == 3599.0
        expected = [
            max(0.001 * (t % 97) for t in range(7200) if t >= 3599 and (t - 3599) // 10 == i)
            for i in range(INTERVALS - 1)
        ]
        assert found["highest"]["X"][:-1] == expected
        assert found["highest"]["Y"] == [0.5] * INTERVALS

    def test_nothing_is_shown_where_nothing_was_decided(self) -> None:
        found = summarized([decision(10, 0.2), decision(600, None), decision(1800, 0.9)], 3600.0)
        shown = {i: p for i, p in enumerate(found["highest"]["X"]) if p is not None}
        assert shown == {1: 0.2, 180: 0.9}

    def test_events_come_the_latest_first(self) -> None:
        lines = [event(t) for t in (1, 2, 3)] + [event(2.5, source="b")]
        found = summarized(lines, 3.0)
        assert [e["time"] for e in found["events"]] == [3, 2, 1] and found["omitted"] == 0

    def test_events_are_bounded(self) -> None:
        lines = [event(t) for t in range(1000)] + [event(1001.0, message="x" * 5000)]
        found = summarized(lines, 1001.0)
        assert [e["time"] for e in found["events"]] == list(range(999, 699, -1))
        assert found["omitted"] == 701
        assert len(json.dumps(found)) < 100_000

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "{",
            "[" * 5000,
            '"a"',
            '{"type": "decision", "source": "a"}',
            '{"type": "decision", "source": "a", "time": null}',
            '{"type": "decision", "source": "a", "time": NaN}',
            '{"type": "event", "source": "a", "time": 5, "event": "gap", "seconds": 1e999}',
            '{"type": "decision", "source": "a", "time": 1' + "0" * 500 + "}",
            '{"type": "decision", "source": "a", "time": 5, "probabilities": {"X": "high", "Z": 1}}',
            '{"type": "decision", "source": "a", "time": 5, "probabilities": [1, 2]}',
            '{"type": "note", "source": "a", "time": 5}',
            '{"source": "a", "time": 5}',
            '{"type": "event", "source": null, "time": null, "event": "output", "message": "\\"a\\""}',
        ],
    )
    def test_other_lines_change_nothing(self, line: str) -> None:
        good = [decision(1, 0.1), decision(9, 0.9)]
        found = summarized([good[0], line, good[1]], 9.0)
        assert json.loads(json.dumps(found, allow_nan=False)) == summarized(good, 9.0)


class TestLines:
    @given(
        st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=30), st.data()
    )
    def test_are_those_of_the_file(
        self, tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], data: st.DataObject
    ) -> None:
        path = tmp_path_factory.mktemp("lines") / "out"
        path.write_bytes(
            b"".join(line + b"\n" for line in lines) + data.draw(st.just(b"") | st.just(b"half"))
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_BLOCK", data.draw(st.integers(1, 50)))
            found = list(lines_from_end(path, FOREVER))
        assert [line for line in found if line] == [line for line in reversed(lines) if line]

    def test_of_a_file_that_is_written_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_text("".join(f"{i:09}\n" for i in range(300_000)))
        lines = lines_from_end(path, FOREVER)
        assert next(line for line in lines if line) == b"000299999"
        with path.open("a") as file:
            file.write("later\n")
        assert sum(1 for _ in lines) == 299_999

    def test_of_a_file_that_is_cut_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_text("".join(f"{i:09}\n" for i in range(300_000)))
        lines = lines_from_end(path, FOREVER)
        next(lines)
        os.truncate(path, 10)
        assert 0 < sum(1 for _ in lines) < 300_000

    def test_end_at_a_line_without_an_end(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"first\n" + b"x" * (3 << 20) + b"\nlast\n")
        assert [line for line in lines_from_end(tmp_path / "out", FOREVER) if line] == [b"last"]

    def test_of_a_pipe_are_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="not a regular file"):
            list(lines_from_end(tmp_path / "pipe", FOREVER))

    def test_take_no_longer_than_they_may(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"line\n" * 500_000)
        lines = lines_from_end(tmp_path / "out", time.monotonic() - 1)
        with pytest.raises(OutOfTime):
            for _ in lines:
                pass


class TestReview:
    def test_reads_only_the_end_of_a_large_file(self, tmp_path: Path) -> None:
        """200 MB that are not lines at all, and behind them an hour."""
        path = tmp_path / "out.jsonl"
        with path.open("wb") as file:
            file.truncate(200 << 20)
            file.seek(0, os.SEEK_END)
            hour = [decision(t, 0.5) for t in range(3600, 7300)]
            file.write(("\n" + "\n".join(hour) + "\n").encode())
        tracemalloc.start()
        found = json.loads(review(past(7299.0), path, 1))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found["complete"] and found["file"] and found["start"] == 3699.0
        assert peak < 16 << 20

    def test_says_how_far_it_came(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_SECONDS", -1.0)
        monkeypatch.setattr(module, "_BLOCK", 1000)
        lines = [decision(t, 0.5) for t in range(100)]
        (tmp_path / "out").write_text("".join(f"{line}\n" for line in lines))
        found = json.loads(review(past(99.0), tmp_path / "out", 1))
        assert not found["complete"] and 80 < found["reached"] < 99

    @pytest.mark.parametrize("kind", ["none", "gone"])
    def test_without_a_file_memory_has_the_last_minutes(self, tmp_path: Path, kind: str) -> None:
        lines = [decision(1, 0.25), event(2, "onset", label="X", probability=0.25)]
        output = None if kind == "none" else tmp_path / "gone"
        found = json.loads(review(past(2.0, lines), output, 1))
        assert not found["file"] and max(filter(None, found["highest"]["X"])) == 0.25
        assert [e["event"] for e in found["events"]] == ["onset"]

    def test_a_name_of_any_kind(self) -> None:
        lines = [json.dumps(json.loads(decision(1, 0.5, 'Zoë "1"')), ensure_ascii=False)]
        found = json.loads(review(past(1.0, lines, 'Zoë "1"'), None, 1))
        assert max(filter(None, found["highest"]["X"])) == 0.5


OTHER_QUESTIONS = """
patient=0
hours=1
patient=0&hours=0
patient=0&hours=25
patient=x&hours=1
patient=0&hours=1e1
patient=0&patient=1&hours=1
patient=0&hours=1&more=2
""".splitlines()


@pytest.mark.parametrize("query", [*OTHER_QUESTIONS, "&" * 1000, "patient=0&hours=" + "9" * 5000])
def test_other_questions_are_refused(query: str) -> None:
    with pytest.raises(Refused, match="1 to 24 hours"):
        question(query)


def test_a_question() -> None:
    assert question("patient=3&hours=24") == (3, 24)
