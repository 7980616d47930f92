"""Runs of `stream` that are killed at random moments, on full disks, and among programs that meddle."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.runtime.conftest import beats
from tests.waiting import PATIENCE, until

_RATE = 250
_EVERY = 0.1
_MISCHIEF = ("none", "none", "states", "full", "copytruncate", "rename", "swap", "two")


class History(ABC):
    """The lives of one run with a state and an output in ``folder``, until it is stopped for good.

    ``bundle`` and ``other`` have other weights; they are exchanged under the running program. A life has at
    most ``longest`` seconds, without its start. A recording has ``seconds``.
    """

    longest = 1.0

    def __init__(self, folder: Path, bundle: Path, other: Path, draw: random.Random, seconds: int) -> None:
        folder.mkdir(parents=True)
        self.folder, self.draw, self.seconds = folder, draw, seconds
        self.out, self.state = folder / "out", folder / "state"
        self.bundle, self.other = folder / "bundle", folder / "other"
        shutil.copytree(bundle, self.bundle)
        shutil.copytree(other, self.other)
        self.rotated: list[Path] = []
        self.kills = self.restored = 0

    @property
    @abstractmethod
    def source(self) -> tuple[str, ...]:
        """The source and its options."""

    @abstractmethod
    def last_life(self) -> tuple[str, int]:
        """Let a run end without a kill. Returns its messages and its exit code."""

    def end(self) -> None:
        """The last life, and another if the file was moved away just before the kill of the one before."""
        complaints, code = self.last_life()
        if "restore the file" in complaints:
            self.restore()
            complaints, code = self.last_life()
        assert code == 0, complaints

    @abstractmethod
    def check(self) -> None:
        """Fail if a line of the union of the files is missing or there twice, and no file says so."""

    def command(self, state: Path | None) -> list[str]:
        kept = [] if state is None else ["--state-file", str(state), "--state-every", "20ms"]
        return [
            sys.executable, "-m", "multires_edge", "stream", str(self.bundle), *self.source,
            "--pool", "window:2s", "--every", f"{_EVERY}s", "--threshold", "A=0.405:0.402", "--no-timing",
            "--json", "--output", str(self.out), *kept,
        ]  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(self.state), stderr=subprocess.PIPE, text=True)

    def live(self, mischief: str) -> bool:
        """One life, which ends by a kill unless it ends before. Returns whether the run is complete."""
        before = self._changed()
        process = self.start()
        assert process.stderr is not None
        early = self.draw.random() < 0.2  # killed while it starts
        limit = time.monotonic() + (self.draw.random() * 1.0 if early else PATIENCE)
        while process.poll() is None and self._changed() == before and time.monotonic() < limit:
            time.sleep(0.005)
        if process.poll() is None and not early:
            time.sleep(self.draw.random() * self.longest / 2)
            with self.meddled(mischief, process):
                time.sleep(self.draw.random() * self.longest / 2)
        process.kill()
        complaints = process.stderr.read()
        process.stderr.close()
        code = process.wait()
        self.kills += code == -signal.SIGKILL
        assert "Traceback" not in complaints, complaints
        if "restore the file" in complaints:
            self.restore()
        elif code > 0:
            # States or output could not be written; and 2 is one line.
            assert mischief in ("states", "full"), complaints
            assert complaints.count("error:") == (code == 2), complaints
        return code == 0

    def _changed(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self.state.stat().st_mtime_ns
        return 0

    @contextlib.contextmanager
    def meddled(self, mischief: str, process: subprocess.Popen[str]) -> Iterator[None]:
        """Do something to the files of a running process, and undo what would stop the next one."""
        if mischief == "states":
            self._refuse_states(process)
        elif mischief == "full" and self.out.exists():
            room = self.out.stat().st_size + self.draw.randrange(3000)
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        elif mischief in ("copytruncate", "rename"):
            self._rotate(mischief, process)
        elif mischief == "swap":
            self._swap()
        elif mischief == "two":
            self._second(process)
        yield
        if mischief == "states":
            (self.folder / ".state.partial").rmdir()
        elif mischief == "swap":
            process.kill()
            process.wait()
            self._check_refused(self.command(self.state), "the state is of a run with")
            self._swap()

    def _refuse_states(self, process: subprocess.Popen[str]) -> None:
        """No state can be written, as on a full disk."""
        partial = self.folder / ".state.partial"

        def is_refused() -> bool:
            with self._asleep(process), contextlib.suppress(FileExistsError):  # it is writing a state
                partial.mkdir()
            return partial.is_dir()

        until(is_refused)

    @contextlib.contextmanager
    def _asleep(self, process: subprocess.Popen[str]) -> Iterator[None]:
        process.send_signal(signal.SIGSTOP)
        if process.returncode is None:  # else it has ended, and this noticed
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        yield
        process.send_signal(signal.SIGCONT)

    def _rotate(self, kind: str, process: subprocess.Popen[str]) -> None:
        """As logrotate does. The process sleeps meanwhile, because copytruncate alone loses lines."""
        with self._asleep(process):
            if self.out.exists():
                away = self.folder / f"out.{len(self.rotated)}"
                if kind == "rename":
                    self.out.rename(away)
                else:
                    shutil.copy(self.out, away)
                    os.truncate(self.out, 0)
                self.rotated.append(away)

    def _swap(self) -> None:
        third = self.folder / "third"
        self.bundle.rename(third)
        self.other.rename(self.bundle)
        third.rename(self.other)

    def _second(self, process: subprocess.Popen[str]) -> None:
        """A second run on the same files, or on the output alone, is refused."""
        state = self.draw.choice([self.state, self.folder / "state2", None])
        with self._asleep(process):
            if process.poll() is None and self._has_output(process):
                self._check_refused(self.command(state), "another process")

    def _has_output(self, process: subprocess.Popen[str]) -> bool:
        """Whether a process that sleeps has the output open: at its end it gives it back before it exits."""
        files = Path(f"/proc/{process.pid}/fd").iterdir()
        return any(file.readlink() == self.out.resolve() for file in files)

    def _check_refused(self, command: list[str], reason: str) -> None:
        files = {path: path.read_bytes() for path in (self.out, self.state) if path.exists()}
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
        assert result.returncode == 2, result.stderr
        assert reason in result.stderr, result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
        assert all(path.read_bytes() == content for path, content in files.items())

    def restore(self) -> None:
        """Do what the message asks for: the file was moved away, and the process killed before it noticed."""
        assert self.rotated
        whole = self.rotated.pop()
        with whole.open("ab") as file:
            if self.out.exists():
                file.write(self.out.read_bytes())
        whole.replace(self.out)
        self.restored += 1

    def union(self) -> list[str]:
        """Every line of the files in their order. Each must be whole."""
        text = "".join(path.read_text() for path in [*self.rotated, self.out])
        assert text.endswith("\n") and "\0" not in text
        return text.splitlines()


class Recording(History):
    """A recording: the union equals the output of a run that was left alone, but for events of the file."""

    options: tuple[str, ...] = ()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._path = self.folder / "a.csv"
        self._rows = [f"{a:.4f},{b:.4f}\n" for a, b in beats(self.seconds, _RATE).round(4).tolist()]
        self._write()

    def _write(self) -> None:
        self._path.write_text("I,II\n" + "".join(self._rows))

    @property
    def source(self) -> tuple[str, ...]:
        return str(self._path), "--rate", str(_RATE), "--unit", "mV", *self.options

    def last_life(self) -> tuple[str, int]:
        process = self.start()
        _, complaints = process.communicate(timeout=PATIENCE)
        return complaints, process.returncode

    def whole(self) -> list[str]:
        """The lines of a run that was left alone."""
        self.options, self.out = (), self.folder / "whole"
        subprocess.run(self.command(None), check=True, timeout=PATIENCE)
        return self.out.read_text().splitlines()

    def lines(self) -> list[str]:
        """The union without events of the file. Lines that it may have twice are there once."""
        lines: list[str] = []
        may_repeat = False
        for line in self.union():
            entry = json.loads(line)
            if entry.get("event") == "output":
                may_repeat |= "written twice" in entry["message"]
                continue
            if may_repeat and line in lines:
                del lines[lines.index(line) :]
            may_repeat = False
            lines.append(line)
        return lines

    def check(self) -> None:
        lines, whole = self.lines(), self.whole()
        assert lines == whole, first_difference(lines, whole)


class Followed(Recording):
    """A recording that grows meanwhile, and is followed."""

    options = ("--follow",)

    def _write(self) -> None:
        self._path.write_text("I,II\n")
        threading.Thread(target=self._grow, daemon=True).start()

    def _grow(self) -> None:
        """Forty times as fast as a device, without regard to the ends of lines."""
        text = "".join(self._rows)
        with self._path.open("a") as file:
            for start in range(0, len(text), 1499):
                file.write(text[start : start + 1499])
                file.flush()
                time.sleep(1499 / len(text) * self.seconds / 40)

    def last_life(self) -> tuple[str, int]:
        process = self.start()
        until(lambda: process.poll() is not None or self._all_written())
        return stopped(process)

    def _all_written(self) -> bool:
        with contextlib.suppress(FileNotFoundError), self.out.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
            return f'"time": {self.seconds - 1}.' in file.read().decode()
        return False

    def check(self) -> None:
        lines = self.lines()
        whole = self.whole()
        assert len(lines) > len(whole) - 20, f"{len(lines)} lines of {len(whole)}"
        assert lines == whole[: len(lines)], first_difference(lines, whole)


class Device(History):
    """A device: times only go on, and where some are missing, an event says why."""

    longest = 3.0  # what was lost is known a second after the start

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._timed = self.draw.random() < 0.5
        self._server = socket.create_server(("127.0.0.1", 0))
        self._began = time.monotonic()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def source(self) -> tuple[str, ...]:
        return (f"tcp://127.0.0.1:{self._server.getsockname()[1]}",)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._send, args=(connection,), daemon=True).start()

    def _send(self, connection: socket.socket) -> None:
        """Packets of 50 ms in real time."""
        x, size = beats(60, _RATE).round(4).tolist(), _RATE // 20
        sent = int((time.monotonic() - self._began) * _RATE)
        with contextlib.suppress(OSError), connection:
            connection.sendall(
                json.dumps({"leads": ["I", "II"], "rate": _RATE, "unit": "mV"}).encode() + b"\n"
            )
            while True:
                time.sleep(max(0.0, self._began + (sent + size) / _RATE - time.monotonic()))
                packet: dict[str, Any] = {"samples": [x[(sent + i) % len(x)] for i in range(size)]}
                if self._timed:
                    packet["time"] = sent / _RATE
                connection.sendall(json.dumps(packet).encode() + b"\n")
                sent += size

    def last_life(self) -> tuple[str, int]:
        before = self._changed()
        process = self.start()
        until(lambda: process.poll() is not None or self._changed() != before)
        if process.poll() is None:
            time.sleep(self.longest)
        return stopped(process)

    def end(self) -> None:
        super().end()
        self._server.close()

    def check(self) -> None:
        last = -1.0
        explained = may_repeat = False
        for line in self.union():
            entry = json.loads(line)
            if entry["type"] == "event":
                explained |= entry["event"] in ("output", "continued", "gap", "restart")
                may_repeat |= "written twice" in entry.get("message", "")
                continue
            at = entry["time"]
            assert at > last + 1e-6 or may_repeat, f"{at} s after {last} s: {line}"
            assert at < last + 1.5 * _EVERY or explained or last < 0, f"{at} s after {last} s: {line}"
            last, explained, may_repeat = at, False, False


def stopped(process: subprocess.Popen[str]) -> tuple[str, int]:
    """The messages and the exit code of a run that a signal ends."""
    process.send_signal(signal.SIGTERM)
    _, complaints = process.communicate(timeout=PATIENCE)
    return complaints, process.returncode


def first_difference(lines: list[str], whole: list[str]) -> str:
    """The first line that differs, and how many there are."""
    for number, (line, expected) in enumerate(zip(lines, whole, strict=False)):
        if line != expected:
            return f"line {number}: {line}\nexpected {expected}"
    return f"{len(lines)} lines, expected {len(whole)}"


def run_trial(folder: Path, bundle: Path, other: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill runs ``kills`` times in total; returns how often each thing happened."""
    seconds, at_most = (1200, 12) if kills >= 100 else (240, 2)
    draw = random.Random(seed)
    counts = dict.fromkeys(["histories", "kills", "restored", *_MISCHIEF], 0)
    while counts["kills"] < kills:
        kind = (Recording, Device, Followed)[counts["histories"] % 3]
        history = kind(folder / str(counts["histories"]), bundle, other, draw, seconds)
        complete = False
        most = min(kills - counts["kills"], at_most)
        while not complete and history.kills < most:
            mischief = draw.choice(_MISCHIEF)
            counts[mischief] += 1
            complete = history.live(mischief)
        history.end()
        history.check()
        counts["kills"] += history.kills
        counts["restored"] += history.restored
        counts["histories"] += 1
    return counts
