"""Checkpoints of runs: what is said and written where no state could be saved."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import OutputError
from multires_edge.runtime import Bundle
from multires_edge.runtime.ecg.checkpoint import Checkpoint, Checkpointer
from multires_edge.runtime.ecg.session import Session
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Samples, Source
from multires_edge.runtime.ecg.state_file import StateFile
from multires_edge.runtime.ecg.streams import EcgStreams
from tests.runtime.conftest import beats
from tests.runtime.ecg.test_session import Crash, CrashingOutput, Restarted


class Disk(StateFile):
    """A state file on a disk that has no room at some of the writes."""

    full: Container[int] = ()
    writes = 0

    def write(self, tree: dict[str, Any]) -> None:
        self.writes += 1
        if self.writes in self.full:
            raise OutputError(f"{self.path}: cannot be written (No space left on device)")
        super().write(tree)


@pytest.fixture
def recording(tmp_path: Path) -> str:
    np.savez(tmp_path / "a.npz", samples=beats(20, 250), leads=["I", "II"], rate=250, unit="mV")
    return str(tmp_path / "a.npz")


def live(
    bundle: Bundle, sources: list[Source], folder: Path, *, full: Container[int] = (), crash_at: int = 10**9
) -> list[str]:
    """One life of a run that saves its state in every round; what it says."""
    said: list[str] = []
    streams = EcgStreams(bundle, [source.signal for source in sources], lockstep=False)
    session, file = Session(streams, sources), Disk(folder / "state")
    file.full = full
    tree, _ = file.read()
    saved = None if tree is None else Checkpoint.from_tree(tree)
    if saved is not None:
        session.load(saved.session)
    repeatable = not any(source.live for source in sources)
    mark = None if saved is None else saved.output
    output = CrashingOutput(folder / "out", mark, repeatable=repeatable, say=said.append)
    output.writes = crash_at
    checkpointer = Checkpointer(session, output, file, {}, seconds=0, timing=False, say=said.append)
    try:
        checkpointer.checkpoint(must=True) if saved is None else checkpointer.resume(saved)
        checkpointer.run()
    except Crash:
        pass
    finally:
        output.close()
    return said


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out").read_text().splitlines()]


def test_a_recording_beside_a_device_is_not_written_twice(
    opened: Bundle, recording: str, tmp_path: Path
) -> None:
    """The lines of the device stay, so those of the recording do too, and come again."""

    def sources() -> list[Source]:
        return [
            Restarted("device", [[Samples(x, 0.0)] for x in np.split(beats(60, 250), 60)]),
            open_source(recording),
        ]

    live(opened, sources(), tmp_path, full=range(4, 99), crash_at=7)
    assert (tmp_path / "out").read_text().count("\n") > 20  # the last line is torn
    live(opened, sources(), tmp_path, full=range(99), crash_at=4)
    live(opened, sources(), tmp_path, crash_at=3)
    live(opened, sources(), tmp_path, crash_at=12)
    live(opened, sources(), tmp_path)
    decisions = [e for e in lines(tmp_path) if e["type"] == "decision" and e["source"] == recording]
    assert [e["time"] for e in decisions] == np.arange(0.5, 20.1, 0.5).tolist()
    assert [e["event"] for e in lines(tmp_path) if e["source"] is None] == ["continued"] * 4


def test_a_run_says_what_the_next_start_does(opened: Bundle, recording: str, tmp_path: Path) -> None:
    said = live(opened, [open_source(recording)], tmp_path, full=range(2, 99))
    assert "decisions continue without a new checkpoint" in said[0]
    assert "reads the recordings again from there, and writes no line twice" in said[1]
    assert len(said) == 2
    whole = lines(tmp_path)
    assert live(opened, [open_source(recording)], tmp_path) == []
    assert lines(tmp_path) == whole


def test_a_disk_that_has_room_again_is_said(opened: Bundle, recording: str, tmp_path: Path) -> None:
    said = live(opened, [open_source(recording)], tmp_path, full=[2])
    assert ["decisions continue" in text for text in said] == [True, False]
    assert "checkpoints are written again" in said[1]
