"""A file of lines: never cut, never torn, never written by two, and in step with its checkpoint."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.base.errors import OutputError, StateError
from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.output_file import OutputFile


def line(number: int, text: str = "") -> str:
    return json.dumps({"type": "decision", "source": "a", "time": number / 2, "text": text})


def numbers(path: Path) -> list[int | str]:
    """The numbers of the decisions in a file, and the messages of its events. Every line must be whole."""
    content = path.read_text()
    assert not content or content.endswith("\n")
    entries = [json.loads(text) for text in content.splitlines()]
    return [round(e["time"] * 2) if e["type"] == "decision" else e["message"] for e in entries]


class Said(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def said() -> Said:
    return Said()


def killed(path: Path, *, before: int = 2, after: int = 3, torn: str = "") -> FileMark:
    """A run that wrote lines before and after its last checkpoint, and a part of one more; its checkpoint."""
    output = OutputFile(path, None)
    output.write([line(i) for i in range(before)])
    mark = output.checkpoint()
    output.write([line(i) for i in range(before, before + after)])
    output.close()
    with path.open("a") as file:
        file.write(torn)
    return mark


class TestOpening:
    def test_a_file_with_lines_needs_their_state(self, path: Path) -> None:
        path.write_text("x")
        with pytest.raises(OutputError, match="exists already"):
            OutputFile(path, None)
        assert path.read_text() == "x"

    def test_one_process_at_a_time(self, path: Path) -> None:
        first = OutputFile(path, None)
        for mark in (None, FileMark(0, "0" * 64)):
            with pytest.raises(OutputError, match="another process writes it"):
                OutputFile(path, mark)
        first.close()
        OutputFile(path, None).close()

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OutputError, match="is not a file of its own"):
            OutputFile(tmp_path / "pipe", None)
        with pytest.raises(OutputError, match="Is a directory"):
            OutputFile(tmp_path, None)
        with pytest.raises(OutputError, match="no such folder; create it"):
            OutputFile(tmp_path / "no" / "out", None)

    def test_its_name_is_on_the_disk(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[Path] = []
        monkeypatch.setattr("multires_edge.runtime.ecg.output_file.flush_folder", synced.append)
        OutputFile(path, None).close()
        assert synced == [path.parent]

    def test_through_a_link(self, path: Path, tmp_path: Path) -> None:
        path.symlink_to(tmp_path / "elsewhere")
        output = OutputFile(path, None)
        output.write([line(0)])
        output.close()
        assert numbers(tmp_path / "elsewhere") == [0] and path.is_symlink()


class TestRecordings:
    """Sources that can be read again: the lines after the checkpoint come again."""

    @pytest.mark.parametrize("torn", ["", line(5)[:9]])
    @pytest.mark.parametrize("at_once", [1, 2, 10])
    def test_no_line_is_written_twice(self, path: Path, said: Said, torn: str, at_once: int) -> None:
        mark = killed(path, torn=torn)
        output = OutputFile(path, mark, say=said)
        lines = [line(i) for i in range(2, 12)]
        for i in range(0, 10, at_once):
            output.write(lines[i : i + at_once])
        output.finish()
        assert output.checkpoint() == FileMark.of(output._file, path.stat().st_size)
        output.close()
        assert (numbers(path), said) == (list(range(12)), [])

    def test_a_stop_on_the_way_keeps_what_is_still_to_come(self, path: Path) -> None:
        mark = killed(path)
        output = OutputFile(path, mark)
        output.write([line(2)])
        mark = output.checkpoint()
        output.close()
        assert numbers(path) == [0, 1, 2, 3, 4]
        output = OutputFile(path, mark)
        output.write([line(3), line(4), line(5)])
        output.close()
        assert numbers(path) == [0, 1, 2, 3, 4, 5]

    def test_other_lines_are_moved_away(self, path: Path, said: Said) -> None:
        mark = killed(path)
        output = OutputFile(path, mark, say=said)
        output.write([line(2), line(3, "different"), line(4)])
        output.close()
        assert numbers(path) == [0, 1, 2, 3, 4]
        assert numbers(path.with_name("out.cut")) == [3, 4]
        assert len(said) == 1 and "moved to" in said[0]

    def test_lines_that_do_not_come_again_are_moved_away(self, path: Path, said: Said) -> None:
        mark = killed(path)
        output = OutputFile(path, mark, say=said)
        output.write([line(2)])
        output.finish()
        output.close()
        assert numbers(path) == [0, 1, 2]
        assert numbers(path.with_name("out.cut")) == [3, 4]
        assert len(said) == 1 and "did not make these lines again" in said[0]

    @pytest.mark.parametrize("meddle", ["rename", "truncate", "append"])
    def test_lines_that_may_be_there_twice_are_said(self, path: Path, said: Said, meddle: str) -> None:
        mark = killed(path)
        output = OutputFile(path, mark, say=said)
        if meddle == "rename":
            path.rename(path.with_name("out.1"))
        elif meddle == "truncate":
            os.truncate(path, 0)
        else:
            with path.open("a") as file:
                file.write(line(9) + "\n")
        output.write([line(2)])
        output.write([line(3), line(4), line(5)])
        output.close()
        assert numbers(path)[-4:] == [2, 3, 4, 5]
        assert len(said) == 1 and said[0].endswith("; lines may be written twice")
        assert path.read_text().count("; lines may be written twice") == 1

    @pytest.mark.parametrize("content", ["", line(0)[:-9], line(0) + "\n" + line(7) + "\n" + line(8) + "\n"])
    def test_another_file_is_refused_and_stays(self, path: Path, content: str) -> None:
        mark = killed(path)
        path.write_text(content)
        with pytest.raises(StateError, match="restore the file, or move file and state away"):
            OutputFile(path, mark)
        assert path.read_text() == content

    @given(st.lists(st.tuples(st.lists(st.tuples(st.integers(1, 4), st.booleans())), st.integers(0, 99))))
    def test_killed_and_continued_as_often_as_may_be(
        self, tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[list[tuple[int, bool]], int]]
    ) -> None:
        """Each life writes some lines at a time, saves a checkpoint or not, and loses bytes in the end."""
        path = tmp_path_factory.mktemp("killed") / "out"
        output = OutputFile(path, None)
        mark, position = output.checkpoint(), 0
        for writes, torn in lives:
            at = position
            for count, saved in writes:
                output.write([line(i) for i in range(at, at + count)])
                at += count
                if saved:
                    mark, position = output.checkpoint(), at
            output.close()
            os.truncate(path, max(mark.size, path.stat().st_size - torn))
            output = OutputFile(path, mark)
        output.write([line(i) for i in range(position, 100 + position)])
        output.finish()
        output.close()
        assert numbers(path) == list(range(100 + position))
        assert not path.with_name("out.cut").exists()


class TestLive:
    """Sources that give nothing again: what was written stays."""

    @pytest.mark.parametrize("torn", ["", line(5)[:9], "\0" * 5000, "7\n", "\0\0" + line(5) + "\n"])
    def test_whole_lines_stay(self, path: Path, said: Said, torn: str) -> None:
        mark = killed(path, torn=torn)
        output = OutputFile(path, mark, repeatable=False, say=said)
        assert (output.kept, output.reached) == ({"a": 3}, {"a": 2.0})
        output.write([line(6)])
        output.close()
        assert numbers(path) == [0, 1, 2, 3, 4, 6]
        assert len(said) == bool(torn)
        if torn:
            assert path.with_name("out.cut").read_text() == torn

    def test_a_file_that_was_moved_away_meanwhile(self, path: Path, said: Said) -> None:
        mark = killed(path)
        path.rename(path.with_name("out.1"))
        output = OutputFile(path, mark, repeatable=False, endless=True, say=said)
        output.write([line(5)])
        output.close()
        event, number = numbers(path)
        assert number == 5 and "is another file than at the last checkpoint" in str(event)
        assert numbers(path.with_name("out.1")) == [0, 1, 2, 3, 4]

    def test_a_file_of_something_else_is_refused(self, path: Path) -> None:
        mark = killed(path)
        path.write_text("I,II\n1,2\n")
        with pytest.raises(StateError, match="restore the file"):
            OutputFile(path, mark, repeatable=False, endless=True)
        assert path.read_text() == "I,II\n1,2\n"


class TestOtherPrograms:
    """What they do to the file while the run writes it."""

    @pytest.fixture
    def output(self, path: Path, said: Said) -> Iterator[OutputFile]:
        output = OutputFile(path, None, say=said)
        output.write([line(0), line(1)])
        output.checkpoint()
        yield output
        output.close()

    def check(self, output: OutputFile, path: Path, said: Said, expected: list[Any], message: str) -> None:
        """The next lines follow an event; a checkpoint is due, and fits what follows it."""
        output.write([line(2)])
        due = [output.unsettled]
        mark = output.checkpoint()
        assert [*due, output.unsettled] == [True, False]
        output.write([line(3)])
        found = numbers(path)
        assert [n for n in found if isinstance(n, int)] == expected
        (event,) = [n for n in found if isinstance(n, str)]
        assert message in event and len(said) >= 1 and message in said[-1]
        output.close()
        again = OutputFile(path, mark)
        again.write([line(3), line(4)])
        again.close()
        assert numbers(path)[-2:] == [3, 4]

    def test_cut_to_nothing(self, output: OutputFile, path: Path, said: Said) -> None:
        """As logrotate's copytruncate does."""
        os.truncate(path, 0)
        self.check(output, path, said, [2, 3], "bytes by another program")
        assert b"\0" not in path.read_bytes()

    def test_cut_within_a_line(self, output: OutputFile, path: Path, said: Said) -> None:
        os.truncate(path, path.stat().st_size - 5)
        self.check(output, path, said, [0, 2, 3], "was cut from")
        assert path.with_name("out.cut").read_text() == line(1)[:-4]

    def test_moved_away(self, output: OutputFile, path: Path, said: Said) -> None:
        path.rename(path.with_name("out.1"))
        self.check(output, path, said, [2, 3], "moved away or deleted")
        assert numbers(path.with_name("out.1")) == [0, 1]

    def test_its_mode_stays(self, output: OutputFile, path: Path) -> None:
        """Also that of what is moved out of it."""
        path.chmod(0o640)
        os.truncate(path, path.stat().st_size - 5)
        output.checkpoint()
        path.rename(path.with_name("out.1"))
        output.checkpoint()
        files = [path, path.with_name("out.1"), path.with_name("out.cut")]
        assert [file.stat().st_mode & 0o777 for file in files] == [0o640] * 3

    def test_moved_away_and_made_anew(self, output: OutputFile, path: Path, said: Said) -> None:
        path.rename(path.with_name("out.1"))
        path.touch(0o600)
        self.check(output, path, said, [2, 3], "moved away or deleted")

    def test_deleted(self, output: OutputFile, path: Path, said: Said) -> None:
        path.unlink()
        self.check(output, path, said, [2, 3], "moved away or deleted")

    def test_appended_to(self, output: OutputFile, path: Path, said: Said) -> None:
        with path.open("a") as file:
            file.write(line(9) + "\n")
        self.check(output, path, said, [0, 1, 9, 2, 3], "from another program")

    def test_cut_before_a_checkpoint(self, output: OutputFile, path: Path) -> None:
        os.truncate(path, 0)
        mark = output.checkpoint()
        assert mark.size == path.stat().st_size and mark.fits(output._file)

    def test_its_folder_is_gone(self, output: OutputFile, path: Path) -> None:
        path.unlink()
        path.parent.rmdir()
        with pytest.raises(OutputError, match="no such folder"):
            output.write([line(2)])

    def test_another_run_took_its_name(self, output: OutputFile, path: Path) -> None:
        path.rename(path.with_name("out.1"))
        other = OutputFile(path, None)
        with pytest.raises(OutputError, match="another process writes it"):
            output.write([line(2)])
        other.close()


def test_a_full_disk_leaves_whole_lines(path: Path) -> None:
    output = OutputFile(path, None)
    output.write([line(i) for i in range(3)])
    mark = output.checkpoint()
    room = path.stat().st_size + 2 * len(line(3)) + 10
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OutputError, match=r"File too large.*continues from the state file"):
            output.write([line(i) for i in range(3, 8)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    output.close()
    assert numbers(path) == [0, 1, 2, 3, 4]
    output = OutputFile(path, mark)
    output.write([line(i) for i in range(3, 8)])
    output.close()
    assert numbers(path) == list(range(8))
