"""Where lines go."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from multires_edge.base.errors import OutputError, StateError
from multires_edge.runtime.ecg.output import BackgroundOutput, FileOutput, Output


def test_a_file_goes_on_where_it_was_good(tmp_path: Path) -> None:
    path = tmp_path / "out"
    output = FileOutput(path, None)
    output.write(["ä", "b"])
    good = output.checkpoint()
    output.write(["too much"])
    output.close()
    output = FileOutput(path, good)
    output.write(["c"])
    output.close()
    assert path.read_text() == "ä\nb\nc\n"


def test_a_file_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("short")
    with pytest.raises(StateError, match="has 5 bytes, but had 6 when the state was saved"):
        FileOutput(path, 6)
    with pytest.raises(OutputError, match="exists already"):
        FileOutput(path, None)
    with pytest.raises(OutputError, match="cannot be written"):
        FileOutput(tmp_path / "no" / "out", None)


def test_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    output = FileOutput(Path("/dev/full"), 0)
    with pytest.raises(OutputError, match=r"No space left.*continues from the state file"):
        output.write(["a"])
    output.close()


class Reader(Output):
    """A reader that takes one batch, and the next only when it is let."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reading, self.go_on = threading.Event(), threading.Event()

    def write(self, lines: list[str]) -> None:
        self.reading.set()
        assert self.go_on.wait(10)
        self.lines += lines


def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    reader = Reader()
    output = BackgroundOutput(reader, lambda count: f"{count} dropped", longest=5)
    output.write(["first"])
    assert reader.reading.wait(10)
    for i in range(20):
        output.write([str(i)])  # and none of these waits
    reader.go_on.set()
    output.close()
    assert reader.lines == ["first", "15 dropped", "15", "16", "17", "18", "19"]


def test_a_reader_that_has_gone_is_an_error_at_the_next_line() -> None:
    class Gone(Reader):
        def write(self, lines: list[str]) -> None:
            self.reading.set()
            raise BrokenPipeError

    reader = Gone()
    output = BackgroundOutput(reader, str)
    output.write(["a"])
    reader.reading.wait(10)
    output._thread.join(10)
    with pytest.raises(BrokenPipeError):
        output.write(["b"])
    with pytest.raises(BrokenPipeError):
        output.close()


def test_at_the_end_a_reader_has_its_own_time_unless_there_is_a_hurry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("multires_edge.runtime.ecg.output._FAREWELL", 0.05)
    left: list[int] = []
    hurry = threading.Event()

    def say(count: int) -> str:
        left.append(count)
        return ""

    reader = Reader()
    output = BackgroundOutput(reader, say, hurry.is_set)
    output.write(["a"])
    assert reader.reading.wait(10)
    output.write(["b", "c"])
    closing = threading.Thread(target=output.close)
    closing.start()
    closing.join(0.3)
    assert closing.is_alive()  # a little longer than a farewell
    hurry.set()
    closing.join(10)
    assert left == [2]
    reader.go_on.set()
