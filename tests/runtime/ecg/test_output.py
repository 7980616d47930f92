"""Where lines go."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from multires_edge.base.errors import OutputError
from multires_edge.runtime.ecg.output import BackgroundOutput, DeviceOutput, Output, is_device
from tests.waiting import PATIENCE


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


class TestDevices:
    def test_a_pipe_gets_lines(self, pipe: Path) -> None:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        output = DeviceOutput(pipe)
        output.write(["ä", "b"])
        output.close()
        assert os.read(reader, 100) == "ä\nb\n".encode()
        os.close(reader)

    def test_a_pipe_without_a_reader_is_refused_and_does_not_wait(self, pipe: Path) -> None:
        with pytest.raises(OutputError, match="no program reads it"):
            DeviceOutput(pipe)

    def test_a_reader_that_left(self, pipe: Path) -> None:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        output = DeviceOutput(pipe)
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            output.write(["a"])
        output.close()

    def test_an_open_file_by_its_number(self) -> None:
        read, write = os.pipe()
        output = DeviceOutput(Path(f"/dev/fd/{write}"))
        output.write(["a"])
        output.close()
        output.close()
        os.close(write)
        assert os.read(read, 100) == b"a\n"
        os.close(read)

    def test_a_full_disk(self) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        output = DeviceOutput(Path("/dev/full"))
        with pytest.raises(OutputError, match="No space left"):
            output.write(["a"])
        output.close()

    def test_what_is_a_device(self, pipe: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        devices = [pipe, Path(os.devnull), Path("/dev/stdout"), Path("/dev/fd/1"), Path("-")]
        assert all(map(is_device, devices))
        assert not any(map(is_device, [tmp_path, tmp_path / "file", tmp_path / "none"]))


class Reader(Output):
    """A reader that takes one batch, and the next only when it is let."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reading, self.go_on = threading.Event(), threading.Event()

    def write(self, lines: list[str]) -> None:
        self.reading.set()
        assert self.go_on.wait(PATIENCE)
        self.lines += lines


def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    reader = Reader()
    output = BackgroundOutput(reader, lambda count: f"{count} dropped", longest=5)
    output.write(["first"])
    assert reader.reading.wait(PATIENCE)
    for i in range(20):
        output.write([str(i)])  # and none of these waits
    reader.go_on.set()
    output.close()
    assert reader.lines == ["first", "15 dropped", "15", "16", "17", "18", "19"]


def test_a_recording_waits_for_a_slow_reader() -> None:
    reader, hurry = Reader(), threading.Event()
    output = BackgroundOutput(reader, str, hurry.is_set, longest=5, waits=True)
    output.write(["first"])
    assert reader.reading.wait(PATIENCE)
    output.write(list("abcde"))

    def write() -> None:
        output.write(["last"])
        output.checkpoint()

    waiting = threading.Thread(target=write, daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and "last" not in output._lines
    reader.go_on.set()
    waiting.join(PATIENCE)
    assert reader.lines == ["first", *"abcde", "last"]  # and so is every line before a state
    output.close()


def test_a_recording_in_a_hurry_does_not_wait() -> None:
    reader = Reader()
    output = BackgroundOutput(reader, str, lambda: True, longest=5, waits=True)
    output.write(["first"])
    assert reader.reading.wait(PATIENCE)
    output.write(list("abcdefgh"))
    output.checkpoint()
    reader.go_on.set()
    output.close()


def test_a_reader_that_has_gone_is_an_error_at_the_next_line() -> None:
    class Gone(Reader):
        def write(self, lines: list[str]) -> None:
            self.reading.set()
            raise BrokenPipeError

    reader = Gone()
    output = BackgroundOutput(reader, str)
    output.write(["a"])
    reader.reading.wait(PATIENCE)
    output._thread.join(PATIENCE)
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
    assert reader.reading.wait(PATIENCE)
    output.write(["b", "c"])
    closing = threading.Thread(target=output.close, daemon=True)
    closing.start()
    closing.join(0.3)
    assert closing.is_alive()  # a little longer than a farewell
    hurry.set()
    closing.join(PATIENCE)
    assert left == [2]
    reader.go_on.set()
