"""The lines that wait for a sink: none is lost or repeated but where it has to be, and that is said."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.runtime.ecg.output_file import OutputFile
from multires_edge.runtime.ecg.sinks import waiting
from multires_edge.runtime.ecg.sinks.position import Position
from multires_edge.runtime.ecg.sinks.waiting import LogLines, MemoryLines, Waiting, new_run
from tests.runtime.ecg.sinks.receivers import texts
from tests.waiting import PATIENCE, ends, until


def taken(lines: Waiting, most: int = 3) -> list[tuple[str, str]]:
    """All lines that are there, and those that follow until the lines are closed."""
    found: list[tuple[str, str]] = []
    while part := lines.take(most):
        assert len(part) <= most
        lines.done()
        found += part
    return found


class TestMemory:
    def test_lines_come_in_order_with_different_ids(self) -> None:
        lines = MemoryLines()
        lines.put(texts(0, 5))
        lines.put(texts(5, 8))
        assert lines.left == sum(map(len, texts(0, 8)))
        lines.close()
        found = taken(lines)
        assert [text for _, text in found] == texts(0, 8)
        assert len({name for name, _ in found}) == 8 and lines.left == 0

    def test_the_oldest_are_dropped_and_a_line_says_so(self) -> None:
        lines = MemoryLines(longest=3)
        lines.put(texts(0, 10))
        lines.close()
        first, *others = taken(lines, most=10)
        assert json.loads(first[1])["event"] == "dropped_lines" and json.loads(first[1])["lines"] == 7
        assert [text for _, text in others] == texts(7, 10) and lines.dropped == 7

    def test_a_recording_waits_for_a_slow_sink(self) -> None:
        lines = MemoryLines(waits=True, longest=5)
        found: list[str] = []

        def slow() -> None:
            while part := lines.take(1):
                time.sleep(0.002)
                found.extend(text for _, text in part)
                lines.done()

        thread = threading.Thread(target=slow, daemon=True)
        thread.start()
        for text in texts(0, 40):
            lines.put([text])
        lines.close()
        thread.join(PATIENCE)
        assert found == texts(0, 40) and not lines.dropped

    def test_but_not_for_one_that_takes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(waiting, "_PATIENCE", 0.1)
        lines = MemoryLines(waits=True, longest=5)
        lines.put(texts(0, 5))
        assert lines.take(1)
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            time.sleep(seconds)

        monkeypatch.setattr(lines._changed, "wait", wait)

        def put() -> None:
            for text in texts(5, 105):
                lines.put([text])

        ends(put)
        assert len(waits) <= 1 and lines.dropped > 90


class Log:
    """An output file with a reader, told as SinkOutput does."""

    def __init__(self, path: Path, position: Position | None = None, *, settled: bool = False) -> None:
        self.file = OutputFile(path, None)
        self.said: list[str] = []
        start = self.file.start
        self.lines = LogLines(
            self.file.duplicate(), start, start, position, settled=settled, say=self.said.append
        )
        self._moves = self.file.moves

    def write(self, lines: list[str]) -> None:
        self.file.write(lines)
        if self.file.moves != self._moves:
            self._moves = self.file.moves
            self.lines.moved(self.file.duplicate(), self.file.start)
        self.lines.grew(self.file.position)

    def checkpoint(self) -> None:
        self.lines.synced(self.file.checkpoint().size)

    def end(self) -> list[str]:
        self.lines.close()
        found = [text for _, text in taken(self.lines)]
        self.lines.free()
        self.file.close()
        return found


class TestLog:
    @given(st.data())
    @settings(max_examples=25, deadline=None)
    def test_every_line_once_in_order(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        """However it is written and read, and also if the file is moved away in between."""
        path = tmp_path_factory.mktemp("log") / "out"
        log, written = Log(path), 0
        found: list[str] = []
        names: set[str] = set()
        away = 0
        for _ in range(data.draw(st.integers(1, 12))):
            step = data.draw(st.sampled_from(["write", "write", "take", "take", "move"]))
            if step == "write":
                count = data.draw(st.integers(1, 40))
                log.write(texts(written, written + count))
                written += count
            elif step == "take" and log.lines.left:
                part = log.lines.take(data.draw(st.integers(1, 50)))
                log.lines.done()
                found += [text for _, text in part]
                names |= {name for name, _ in part}
            elif step == "move" and away < waiting._MOST_STRETCHES - 1:
                path.rename(path.with_name(f"out.{away}"))
                away += 1
                log.write(texts(written, written + 1))
                written += 1
        assert len(names) == len(found)
        found += log.end()
        found = [text for text in found if '"output"' not in text]
        assert found == texts(0, written) and not log.said

    def test_a_line_that_is_read_again_has_the_same_id(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "out")
        log.write(texts(0, 10))
        log.checkpoint()
        first = log.lines.take(4)
        log.lines.done()
        others = log.lines.take(100)
        place = log.lines.position
        assert place is not None and place[1] == sum(len(text) + 1 for text in texts(0, 4))
        position, end = Position("x", place[0], log.lines.mark(place[1]), ""), log.file.position
        again = LogLines(log.file.duplicate(), 0, end, position, settled=False, say=print)
        again.grew(end)
        assert again.take(100) == others and not {name for name, _ in first} & {name for name, _ in others}
        again.done()
        # What is written now may be where a power cut took other lines away.
        log.write(texts(10, 12))
        again.grew(log.file.position)
        fresh = {name.partition("-")[0] for name, _ in again.take(100)}
        assert len(fresh) == 1 and fresh.isdisjoint(name.partition("-")[0] for name, _ in others)
        again.free()
        log.end()

    def test_the_position_is_never_after_what_is_on_the_disk(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "out")
        log.write(texts(0, 2))
        log.checkpoint()
        log.write(texts(2, 4))
        assert len(log.lines.take(10)) == 4
        log.lines.done()
        place = log.lines.position
        assert place is not None and place[1] == sum(len(text) + 1 for text in texts(0, 2))
        log.end()

    def test_a_settled_sink_gets_only_what_is_on_the_disk(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "out", settled=True)
        log.write(texts(0, 2))
        log.checkpoint()
        log.write(texts(2, 4))
        assert [text for _, text in log.lines.take(10)] == texts(0, 2)
        log.lines.done()
        log.checkpoint()
        assert log.end() == texts(2, 4)

    def test_a_file_that_another_program_cut(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "out")
        log.write(texts(0, 2))
        os.truncate(tmp_path / "out", 0)
        log.write(texts(2, 4))
        assert [text for text in log.end() if '"output"' not in text] == texts(2, 4)
        assert len(log.said) == 1 and "bytes of lines were not sent" in log.said[0]
        assert log.lines.dropped == sum(len(text) + 1 for text in texts(0, 2))

    def test_files_that_are_moved_away_faster_than_they_are_read(self, tmp_path: Path) -> None:
        """They would fill the disk, because the reader keeps them open."""
        log = Log(tmp_path / "out")
        for i in range(8):
            log.write(texts(2 * i, 2 * i + 2))
            (tmp_path / "out").unlink()
        log.write(texts(16, 18))
        files = [file.resolve() for file in Path("/proc/self/fd").iterdir()]
        assert sum(file.is_relative_to(tmp_path) for file in files) <= waiting._MOST_STRETCHES + 1
        found = [text for text in log.end() if '"output"' not in text]
        assert found == [*texts(0, 2), *texts(12, 18)] and len(log.said) == 5

    def test_a_long_line(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "out")
        long = json.dumps({"type": "event", "text": "x" * 200_000})
        log.write([*texts(0, 1), long, *texts(1, 2)])
        assert log.end() == [*texts(0, 1), long, *texts(1, 2)]

    def test_lines_wake_the_reader(self, tmp_path: Path) -> None:
        log = Log(tmp_path / "out")
        found: list[tuple[str, str]] = []
        thread = threading.Thread(target=lambda: found.extend(taken(log.lines)), daemon=True)
        thread.start()
        for i in range(5):
            log.write(texts(i, i + 1))
            until(lambda: log.lines.left == 0)
        log.lines.close()
        thread.join(10)
        assert [text for _, text in found] == texts(0, 5)
        log.end()


def test_runs_have_different_ids() -> None:
    assert len({new_run() for _ in range(100)}) == 100
