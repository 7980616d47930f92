"""An output with sinks: none waits for another, and each continues where it was."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import InputError, OutputError
from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.output import Output
from multires_edge.runtime.ecg.output_file import OutputFile
from multires_edge.runtime.ecg.sinks import follower, output
from multires_edge.runtime.ecg.sinks.choice import Choice
from multires_edge.runtime.ecg.sinks.output import SinkOutput
from multires_edge.runtime.ecg.sinks.position import PositionFile
from multires_edge.runtime.ecg.sinks.protocol import DeliveryError, Line, Sink
from multires_edge.runtime.ecg.sinks.registry import OpenedSink
from tests.runtime.ecg.sinks.receivers import texts
from tests.waiting import PATIENCE, ends, until

EMPTY = hashlib.sha256(b"").hexdigest()


class Receiver(Sink):
    """Keeps lines; ``trouble`` is called before each batch."""

    most = 5

    def __init__(self, *, settled: bool = False, trouble: Callable[[], Any] = lambda: None) -> None:
        self.settled = settled
        self.lines: list[tuple[str, str]] = []
        self._trouble = trouble

    def send(self, lines: Sequence[Line]) -> None:
        self._trouble()
        self.lines += [(line.id, line.text) for line in lines]

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.lines if '"output"' not in text]

    def once(self) -> list[str]:
        """The texts without those that came again with the same id. No id has two texts."""
        named = dict(self.lines)
        assert all(named[name] == text for name, text in self.lines)
        return [text for text in named.values() if '"output"' not in text]


class Run:
    """One life of a run with an output file."""

    def __init__(
        self,
        path: Path,
        receivers: Sequence[Sink],
        mark: FileMark | None = None,
        *,
        repeatable: bool = True,
        waits: bool = False,
    ) -> None:
        self.said: list[str] = []
        self.inner = OutputFile(path, mark, repeatable=repeatable, endless=True, say=self.said.append)
        sinks = [OpenedSink(f"pager:{i}", sink, Choice()) for i, sink in enumerate(receivers)]
        try:
            self.output = SinkOutput(self.inner, sinks, say=self.said.append, waits=waits)
        except BaseException:
            self.inner.close()
            raise

    def kill(self) -> None:
        """End without another word to the disk."""
        for each in self.output.followers:
            assert each._file is not None
            each._file.write = lambda position: None  # type: ignore[method-assign]
            each.stop()
            each.join(10)
            each.free()
        self.inner.close()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(follower, "_FIRST_WAIT", 0.002)
    monkeypatch.setattr(follower, "_LONGEST_WAIT", 0.01)
    monkeypatch.setattr(follower, "_SAVE_EVERY", 0.0)
    yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out"


class TestTogether:
    @pytest.mark.parametrize("with_file", [True, False])
    def test_one_that_hangs_and_one_that_fails_stop_nobody(self, path: Path, with_file: bool) -> None:
        hangs = threading.Event()

        def fail() -> None:
            raise DeliveryError("away")

        good, hung, away = Receiver(), Receiver(trouble=hangs.wait), Receiver(trouble=fail)
        sinks = [OpenedSink(f"pager:{i}", sink, Choice()) for i, sink in enumerate((hung, away, good))]
        inner = OutputFile(path, None) if with_file else None
        lines = SinkOutput(inner, sinks, say=lambda _: None, hurry=lambda: True)

        def write() -> None:
            for text in texts(0, 300):
                lines.write([text])

        ends(write)
        until(lambda: len(good.lines) == 300)
        assert good.texts == texts(0, 300)
        ends(lines.close)
        assert lines.lost
        hangs.set()

    def test_lines_of_an_output_in_memory_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hangs = threading.Event()
        said: list[str] = []
        sink = OpenedSink("pager:1", Receiver(trouble=hangs.wait), Choice())
        lines = SinkOutput(None, [sink], say=said.append, hurry=lambda: True)
        for _ in range(10):
            lines.write(texts(0, 1000))
        (only,) = lines.followers
        assert only.waiting.dropped > 7900 and only.waiting.left < 300_000
        lines.close()
        assert (
            len(said) == 1 and "bytes of lines were not sent, " in said[0] and "lines were dropped" in said[0]
        )
        hangs.set()

    def test_the_inner_output_is_as_before(self) -> None:
        class Told(Output):
            unsettled, kept, reached = True, {"a": 3}, {"a": 1.5}

            def write(self, lines: list[str]) -> None:
                written.extend(lines)

        written: list[str] = []
        lines = SinkOutput(Told(), [], say=print)
        lines.write(texts(0, 2))
        assert written == texts(0, 2) and (lines.unsettled, lines.kept, lines.reached) == (
            True, {"a": 3}, {"a": 1.5},
        )  # fmt: skip
        lines.close()

    def test_a_slow_sink_gets_its_time_at_the_end(self, path: Path) -> None:
        receiver = Receiver(trouble=lambda: time.sleep(0.01))
        run = Run(path, [receiver])
        run.output.write(texts(0, 100))
        run.output.checkpoint()
        run.output.close()
        assert receiver.texts == texts(0, 100) and not run.output.lost and not run.said

    @pytest.mark.parametrize("waits", [True, False])
    def test_one_that_takes_nothing_does_not(
        self, path: Path, waits: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A live run, which is started again at once, would wait for longer than the test does.
        monkeypatch.setattr(output, "_PATIENCE", 0.1 if waits else 10 * PATIENCE)

        def fail() -> None:
            raise DeliveryError("away")

        run = Run(path, [Receiver(trouble=fail)], waits=waits)
        run.output.write(texts(0, 1))
        until(lambda: run.output.followers[0].failing)
        began = time.monotonic()
        ends(run.output.close)
        assert time.monotonic() - began >= 0.1 or not waits
        assert run.output.lost and run.said[0] == "warning: pager:0: away; lines wait and are sent again"
        assert "the next run with this output sends them" in run.said[1]


class TestAgain:
    @given(data=st.data(), repeatable=st.booleans(), settled=st.booleans())
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_however_it_is_killed_every_line_comes(
        self, tmp_path: Path, data: st.DataObject, repeatable: bool, settled: bool
    ) -> None:
        """A line may come again, with the same id. A recording makes the lines since the checkpoint again."""
        path = Path(tempfile.mkdtemp(dir=tmp_path)) / "out"
        receiver = Receiver(settled=settled)
        made = at_checkpoint = 0
        cut = False  # then lines may come with two ids, or have been sent and are not in the output
        run, mark = Run(path, [receiver]), None
        for _ in range(data.draw(st.integers(1, 10))):
            step = data.draw(st.sampled_from(["write", "write", "checkpoint", "pause", "kill", "power cut"]))
            if step == "write":
                count = data.draw(st.integers(1, 12))
                run.output.write(texts(made, made + count))
                made += count
            elif step == "checkpoint":
                mark, at_checkpoint = run.output.checkpoint(), made
            elif step == "pause":
                time.sleep(0.003)
            elif mark is not None:
                run.kill()
                if step == "power cut":  # the disk has half a line of what was not synced, or nothing
                    end = mark.size + data.draw(st.sampled_from([0, 60]))
                    os.truncate(path, min(end, path.stat().st_size))
                    made = at_checkpoint if not repeatable else made
                    cut = True
                run = Run(path, [receiver], mark, repeatable=repeatable)
                assert all("were moved to" in text for text in run.said)
                if repeatable:
                    made = at_checkpoint
                else:
                    mark, at_checkpoint = run.output.checkpoint(), made
        run.output.finish() if not repeatable else None
        again = max(made, len(path.read_text().splitlines()))  # the rest of what it had written before
        run.output.write(texts(made, again))
        run.output.checkpoint()
        run.output.close()
        assert path.read_text().splitlines() == texts(0, again)
        assert receiver.once() == texts(0, again) or (cut and {*receiver.once()} >= {*texts(0, again)})
        assert not run.output.lost

    def test_lines_that_a_run_does_not_make_again(self, path: Path) -> None:
        """The receiver has lines that the output has no more. Those in their place have other ids."""
        receiver = Receiver()
        run = Run(path, [receiver])
        run.output.write(texts(0, 4))
        mark = run.output.checkpoint()
        run.output.write(texts(4, 8))
        run.output.checkpoint()
        until(lambda: len(receiver.lines) == 8)
        run.output.close()
        run = Run(path, [receiver], mark)
        run.output.write([*texts(4, 6), *texts(106, 109)])
        run.output.checkpoint()
        run.output.close()
        assert receiver.once() == [*texts(0, 8), *texts(4, 6), *texts(106, 109)]
        assert path.read_text().splitlines() == [*texts(0, 6), *texts(106, 109)]

    def test_a_receiver_that_was_away_gets_what_it_missed(self, path: Path) -> None:
        away = [True]

        def trouble() -> None:
            if away:
                raise DeliveryError("away")

        receiver = Receiver(trouble=trouble)
        run = Run(path, [receiver])
        run.output.write(texts(0, 50))
        mark = run.output.checkpoint()
        run.kill()
        away.clear()
        run = Run(path, [receiver], mark)
        run.output.write(texts(50, 60))
        run.output.checkpoint()
        run.output.close()
        assert receiver.texts == texts(0, 60) and not run.output.lost

    def test_a_new_sink_begins_with_this_run(self, path: Path) -> None:
        run = Run(path, [])
        run.output.write(texts(0, 5))
        mark = run.output.checkpoint()
        run.output.close()
        receiver = Receiver()
        run = Run(path, [receiver], mark)
        run.output.write(texts(5, 7))
        run.output.close()
        assert receiver.texts == texts(5, 7)

    def test_an_output_that_is_moved_away(self, path: Path) -> None:
        receiver = Receiver()
        run = Run(path, [receiver])
        run.output.write(texts(0, 5))
        path.rename(path.with_name("out.1"))
        run.output.write(texts(5, 8))
        run.output.checkpoint()
        run.output.close()
        assert receiver.texts == texts(0, 8) and len({name for name, _ in receiver.lines}) == 9


class TestPositions:
    def file(self, path: Path) -> Path:
        return PositionFile(path, "pager:0").path

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"junk", "is no position of a sink, or damaged"),
            (b"\xff\xfe", "is no position of a sink, or damaged"),
            (b"{}", "is no position of a sink, or damaged"),
            (b"[" * 100_000, "is no position of a sink, or damaged"),
            (b" " * (2 << 20), "cannot be read"),
        ],
    )
    def test_damaged(self, path: Path, content: bytes, message: str) -> None:
        self.file(path).write_bytes(content)
        run = Run(path, [receiver := Receiver()])
        run.output.write(texts(0, 2))
        run.output.close()
        assert receiver.texts == texts(0, 2)
        assert (
            len(run.said) == 1
            and message in run.said[0]
            and "starts with the lines of this run" in run.said[0]
        )

    def test_that_the_sink_does_not_know(self, path: Path) -> None:
        class Picky(Receiver):
            def load(self, saved: str | None) -> None:
                if saved is not None:
                    raise InputError("is not mine")

        Run(path, [Receiver()]).kill()
        run = Run(path, [receiver := Picky()], FileMark(0, EMPTY))
        run.output.write(texts(0, 2))
        run.output.close()
        assert receiver.texts == texts(0, 2) and "is not mine; the sink starts with" in run.said[0]

    def test_nothing_is_left_open_after_a_refusal(self, path: Path) -> None:
        self.file(path).with_name(PositionFile(path, "pager:1").path.name).mkdir()
        with pytest.raises(OutputError, match="exists and is not a file"):
            Run(path, [Receiver(), Receiver()])
        Run(path, []).kill()  # the output is not locked

    def test_each_field_that_is_wrong(self, path: Path) -> None:
        run = Run(path, [Receiver()])
        run.kill()
        entry = json.loads(self.file(path).read_text())
        for key in entry:
            values: list[Any] = [None, 7, "x", [], {}, -1]
            for value in values:
                self.file(path).write_text(json.dumps(entry | {key: value}))
                found, wrong = PositionFile(path, "pager:0").read()
                fits = value == "x" and key == "saved"
                assert (found is not None) == fits and (wrong is not None) == (not fits), (key, value)

    def test_of_another_output(self, path: Path) -> None:
        run = Run(path, [Receiver()])
        run.output.write(texts(0, 5))
        run.output.checkpoint()
        run.output.close()
        path.unlink()
        run = Run(path, [receiver := Receiver()])
        run.output.write(texts(7, 9))
        run.output.close()
        assert receiver.texts == texts(7, 9)
        assert len(run.said) == 1 and "is a position in another output" in run.said[0]

    def test_that_cannot_be_written(self, path: Path) -> None:
        self.file(path).mkdir()
        with pytest.raises(OutputError, match="exists and is not a file"):
            Run(path, [Receiver()])

    def test_that_cannot_be_written_any_more(self, path: Path) -> None:
        """As on a full disk: the lines go on, and it is said once."""
        run = Run(path, [receiver := Receiver()])
        self.file(path).unlink()
        self.file(path).mkdir()
        for i in range(5):
            run.output.write(texts(i, i + 1))
            run.output.checkpoint()
            until(lambda n=i: len(receiver.lines) == n + 1)  # type: ignore[misc]
        run.output.close()
        assert len([text for text in run.said if "gets lines again" in text]) == 1

    def test_a_link_is_not_followed(self, path: Path, tmp_path: Path) -> None:
        self.file(path).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OutputError, match="exists and is not a file"):
            Run(path, [Receiver()])
