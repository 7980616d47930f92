"""``multires-edge stream`` and its files: outputs that stay whatever happens, and recordings that grow."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands.test_export import assert_refused
from tests.cli.commands.test_stream import command, decisions, recording, run
from tests.runtime.conftest import beats, two_leads
from tests.waiting import PATIENCE, until

__all__ = ["recording", "two_leads"]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file that a run may be writing."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@contextlib.contextmanager
def device(tmp_path: Path) -> Iterator[str]:
    """The address of a device that sends samples in real time, to one program after the other."""
    rows = [f"[{a:.4f},{b:.4f}]\n".encode() for a, b in beats(60, 250)]

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), connection:
                    connection.sendall(b'{"leads": ["I", "II"], "rate": 250, "unit": "mV"}\n')
                    for i in itertools.cycle(range(0, len(rows), 25)):
                        connection.sendall(b"".join(rows[i : i + 25]))
                        time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def stopped(process: subprocess.Popen[str], expected: int = 0) -> str:
    """End a run by a signal; its messages."""
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=PATIENCE)
    assert process.returncode == expected, messages
    return messages


@pytest.mark.slow
def test_lines_of_a_device_stay_although_no_state_could_be_written(two_leads: Path, tmp_path: Path) -> None:
    """Also in the order: full disk, stop, room, start. The device gives none of these samples again."""
    out, folder, away = tmp_path / "out", tmp_path / "states", tmp_path / "away"
    folder.mkdir()
    with device(tmp_path) as address:
        files = ("--output", out, "--state-file", folder / "state")
        options = (*files, "--every", "0.1s", "--state-every", "10ms")
        process = command(two_leads, address, *options, stderr=subprocess.PIPE)
        until(lambda: len(lines_of(out)) >= 3 and (folder / "state").exists(), of=process)
        folder.rename(away)
        at = len(lines_of(out))
        until(lambda: len(lines_of(out)) >= at + 10, of=process)
        messages = stopped(process, 1)
        assert "decisions continue without a new checkpoint" in messages
        assert "the next start keeps every line of the output" in messages
        away.rename(folder)
        before = lines_of(out)
        process = command(two_leads, address, *options, stderr=subprocess.PIPE)
        until(lambda: len(lines_of(out)) >= len(before) + 5, of=process)
        assert "lines before this one are newer" in stopped(process)
    after = lines_of(out)
    assert after[: len(before)] == before
    continued = after[len(before)]
    assert continued["event"] == "continued" and continued["lines"] >= 10
    assert not (tmp_path / "out.cut").exists()
    times = [entry["time"] for entry in after if entry["type"] == "decision"]
    assert times == sorted(set(times))


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--state-file", "state"), ("--state-file", "other"), ()])
def test_a_second_run_on_one_output_is_refused(
    two_leads: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    with device(tmp_path) as address:
        process = command(
            two_leads, address, "--output", out, "--state-file", tmp_path / "state", stderr=subprocess.PIPE
        )
        until(lambda: len(lines_of(out)) >= 2, of=process)
        mine = [tmp_path / option if option in ("state", "other") else option for option in options]
        assert_refused(run(two_leads, address, "--output", out, *mine), "another process")
        assert stopped(process) == ""


@pytest.mark.slow
def test_a_file_is_followed_while_it_grows_and_over_a_restart(two_leads: Path, tmp_path: Path) -> None:
    rows = [f"{a:.4f},{b:.4f}\n" for a, b in beats(20, 250)]
    path, whole, out = tmp_path / "a.csv", tmp_path / "whole", tmp_path / "out"
    path.write_text("I,II\n" + "".join(rows))
    given = (two_leads, path, "--rate", 250, "--unit", "mV")
    assert run(*given, "--output", whole).exit_code == 0
    path.write_text("I,II\n")
    options = (*given, "--follow", "--output", out, "--state-file", tmp_path / "state")
    written = 0
    for end in (2005, 2200, 5000):
        process = command(*options, stderr=subprocess.PIPE)
        with path.open("a") as file:
            for row in rows[written:end]:
                file.write(row[:5])
                file.flush()
                file.write(row[5:])
        written, least = end, (end - 25) // 125
        until(lambda least=least: len(lines_of(out)) >= least, of=process)  # type: ignore[misc]
        assert stopped(process) == ""
    assert out.read_text().splitlines() == whole.read_text().splitlines()[:-1]  # which the end would bring


def test_a_file_that_has_grown_goes_on_with_its_new_lines(two_leads: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "out"
    rows = [f"{a:.4f},{b:.4f}\n" for a, b in beats(6, 250)]
    given = ("--rate", 250, "--unit", "mV")
    options = (two_leads, path, *given, "--output", out, "--state-file", tmp_path / "s")
    path.write_text("I,II\n" + "".join(rows[:750]))
    assert run(*options).exit_code == 0
    first = out.read_text()
    assert run(*options).exit_code == 0
    assert out.read_text() == first  # nothing new
    with path.open("a") as file:
        file.write("".join(rows[750:]))
    assert run(*options).exit_code == 0
    assert out.read_text().startswith(first)
    new = lines_of(out)[len(first.splitlines()) :]
    assert new[0]["event"] == "restart"
    assert [entry["time"] for entry in new[1:]] == [3.5, 4, 4.5, 5, 5.5, 6]


def test_an_output_that_is_no_file(two_leads: Path, recording: Path, tmp_path: Path) -> None:
    assert_refused(run(two_leads, recording, "--output", tmp_path), "Is a directory")
    os.mkfifo(tmp_path / "pipe")
    assert_refused(run(two_leads, recording, "--output", tmp_path / "pipe"), "no program reads it")
    assert run(two_leads, recording, "--output", os.devnull).exit_code == 0
    process = command(two_leads, recording, "--output", "/dev/stdout", stdout=subprocess.PIPE)
    stdout, _ = process.communicate(timeout=PATIENCE)
    assert len(decisions(stdout)) == 24


def test_recordings_cannot_be_followed(two_leads: Path, recording: Path) -> None:
    assert_refused(run(two_leads, recording, "--follow"), "cannot be followed")
