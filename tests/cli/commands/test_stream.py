"""``multires-edge stream`` as a user types it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from multires_edge.base.files import sha256_of
from multires_edge.cli.main import main
from multires_edge.format.fields import digest_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.ecg.streams import EcgStream
from tests.cli.commands.test_export import assert_refused
from tests.runtime.conftest import CARD, beats, two_leads

__all__ = ["two_leads"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["stream", *(str(argument) for argument in arguments)])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", samples=beats(12, 250), leads=["I", "II"], rate=250, unit="mV")
    return tmp_path / "a.npz"


def decisions(text: str) -> list[dict[str, Any]]:
    return [entry for line in text.splitlines() if (entry := json.loads(line))["type"] == "decision"]


def test_writes_what_the_library_decides(two_leads: Path, recording: Path) -> None:
    result = run(
        two_leads, recording, "--every", "2s", "--pool", "reset:4s", "--threshold", "A=0.5", "--json"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    stream = EcgStream(
        open_bundle(two_leads), leads=["I", "II"], rate=250, every=2, pool="reset:4s", name=str(recording)
    )
    expected = stream.feed(beats(12, 250)) + stream.finish()
    assert decisions(result.stdout) == [d.to_json() for d in expected]
    assert list(decisions(result.stdout)[1]) == ["type", "source", "time", "seen", "probabilities", "quality"]


def test_options_reach_the_stream(two_leads: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(f"{1000 * a:.1f}" for a, _ in beats(3, 250)) + "\n")
    options = ("--leads", "MLII", "--rate", 250, "--unit", "uV", "--lead", "II=MLII", "--allow-missing")
    result = run(
        two_leads, path, *options, "--every", "500ms", "--backend", "onnxruntime", "--pool", "bundle"
    )
    assert result.exit_code == 0
    assert re.fullmatch(r"note: 3\.0 s of record in \d+\.\d\d s, [\d,]+ times real time\n", result.stderr)
    assert [d["quality"] for d in decisions(result.stdout)] == [{"I": ["missing"]}] * 6


def test_a_source_that_breaks_off_is_exit_code_1(two_leads: Path, recording: Path, tmp_path: Path) -> None:
    from tests.runtime.conftest import write_wfdb

    data = write_wfdb(tmp_path, "b", beats(12, 250), 250, leads=("I", "II")).with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:8000])
    result = run(two_leads, tmp_path / "b", recording, "--json")
    assert result.exit_code == 1
    assert (
        result.stderr.count("\n") == 1 and "b: truncated: of 3000 samples, 2000 can be read" in result.stderr
    )
    times = [d["time"] for d in decisions(result.stdout)]
    assert times.count(8.0) == 2 and times[-1] == 12.0


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--every", "0"), "every is '0'"),
            (("--pool", "last:2s"), "pool is 'last:2s'"),
            (("--gap", "skip"), "gap is 'skip'"),
            (("--threshold", "X=0.5"), "the labels are A, B, C"),
            (("--lead", "II"), "expected CHANNEL=LEAD"),
            (("--state-every", "x"), "state-every is 'x'"),
            (("--precision", "fp16"), "no step graph in 'fp16'"),
        ],
    )
    def test_options(self, two_leads: Path, recording: Path, options: tuple[str, ...], message: str) -> None:
        assert_refused(run(two_leads, recording, *options), message)

    def test_sources(self, two_leads: Path, recording: Path) -> None:
        assert_refused(run(two_leads, recording, recording), "a source is given twice")
        assert_refused(run(two_leads, "nothing"), "no such source")

    def test_a_bundle_without_a_card(self, exported: Path, recording: Path) -> None:
        assert_refused(run(exported, recording), "has no card")

    def test_states(self, two_leads: Path, recording: Path, tmp_path: Path) -> None:
        state, out = tmp_path / "state", tmp_path / "out"
        kept = (two_leads, recording, "--state-file", state)
        assert run(*kept, "--output", out).exit_code == 0
        assert_refused(
            run(*kept, "--output", out, "--every", "1s"), "a run with every '0.5s', this run has '1s'"
        )
        assert_refused(run(*kept), "of a run with a file as --output")
        assert_refused(run(*kept, "--output", os.devnull), "of a run with a file as --output")
        assert_refused(run(two_leads, recording, "--output", out), "exists already")
        out.write_text("")
        assert_refused(run(*kept, "--output", out), "restore the file")
        for path in tmp_path.glob("state*"):
            path.write_bytes(b"junk")
        assert_refused(run(*kept, "--output", out), "damaged")

    def test_a_full_disk(self, two_leads: Path, recording: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        assert_refused(run(two_leads, recording, "--output", "/dev/full"), "No space left")


def command(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "multires_edge", "stream", *map(str, arguments)]
    return subprocess.Popen(line, text=True, **options)


@pytest.mark.slow
def test_killed_and_started_again_it_writes_every_decision_once(two_leads: Path, tmp_path: Path) -> None:
    """By SIGKILL, wherever it is; the tests of the session are thorough about that."""
    np.savez(tmp_path / "a.npz", samples=beats(900, 250), leads=["I", "II"], rate=250, unit="mV")
    options = (
        two_leads,
        tmp_path / "a.npz",
        "--threshold",
        "A=0.5",
        "--state-every",
        "1ms",
        "--every",
        "0.1s",
    )
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(*options, "--output", whole).exit_code == 0
    kept = (*options, "--output", out, "--state-file", tmp_path / "state")
    pause = random.Random(0)
    for _ in range(3):
        process = command(*kept)
        size = out.stat().st_size if out.exists() else 0
        while process.poll() is None and (not out.exists() or out.stat().st_size <= size):
            time.sleep(0.005)
        time.sleep(pause.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(*kept).exit_code == 0
    assert out.read_bytes() == whole.read_bytes()


def test_from_a_socket_and_standard_input_at_once(two_leads: Path) -> None:
    header = '{"leads": ["I", "II"], "rate": 250, "unit": "mV"}\n'
    lines = [json.dumps([round(a, 4), round(b, 4)]) + "\n" for a, b in beats(3, 250)]

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.sendall("".join([header, *lines]).encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        process = command(two_leads, "-", address, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stdout, _ = process.communicate("".join([header, *lines]), timeout=60)
        thread.join()
    assert process.returncode == 0
    for source in ("-", address):
        mine = [d for d in decisions(stdout) if d["source"] == source]
        assert [d["time"] for d in mine] == [0.5, 1, 1.5, 2, 2.5, 3]
        # The last is due when the source ends, and not when a sample arrives.
        assert all(d["timing"]["age"] > 0.1 for d in mine[:-1])


def test_a_reader_that_leaves_ends_it_quietly(two_leads: Path, recording: Path) -> None:
    process = command(
        two_leads, recording, "--every", "0.01s", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0
    process.stderr.close()


def test_standard_output_that_takes_nothing(two_leads: Path, recording: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("wb") as full:
        process = command(two_leads, recording, stdout=full, stderr=subprocess.PIPE)
        assert process.stderr is not None
        message = process.stderr.read()
    assert process.wait(60) == 2
    assert (
        message.startswith("error: standard output cannot be written (No space") and message.count("\n") == 1
    )
    process.stderr.close()


@pytest.mark.parametrize("name", ["a", "a.previous", ".a.lock", ".a.partial"])
def test_output_and_state_are_two_files(two_leads: Path, recording: Path, tmp_path: Path, name: str) -> None:
    result = run(two_leads, recording, "--output", tmp_path / name, "--state-file", tmp_path / "." / "a")
    assert_refused(result, "is a file of the state")
    assert not list(tmp_path.glob("*a"))


def test_what_a_file_says_does_not_reach_the_terminal_raw(two_leads: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\x1b[31mI,II\n")
    result = run(two_leads, path, "--rate", 250, "--unit", "mV")
    assert_refused(result, "no lead I; the source has \ufffd[31mI, II")


def test_a_source_in_another_spelling_is_the_same(two_leads: Path, recording: Path) -> None:
    assert_refused(run(two_leads, recording, f"{recording.parent}/./a.npz"), "a source is given twice")


def test_a_state_is_of_one_card(two_leads: Path, recording: Path, tmp_path: Path) -> None:
    """The same checkpoint under another card decides something else."""
    from multires_edge.export import export_bundle

    card = CARD | {"labels": ["X", "Y", "Z"]}
    (tmp_path / "card.json").write_text(json.dumps(card))
    checkpoint = two_leads.parent / "ckpt.pth"
    other = export_bundle(checkpoint, tmp_path / "other.bundle", card=tmp_path / "card.json").path
    options = (recording, "--output", tmp_path / "out", "--state-file", tmp_path / "state")
    assert run(two_leads, *options).exit_code == 0
    assert_refused(run(other, *options), "the state is of a run with card")


def test_a_state_is_of_the_weights_that_made_it(two_leads: Path, recording: Path, tmp_path: Path) -> None:
    """Another export of the same checkpoint may have other weights."""
    other = shutil.copytree(two_leads, tmp_path / "other.bundle")
    manifest = json.loads((other / "manifest.json").read_text())
    weights = manifest["native"]["fp32"]
    content = (other / weights["file"]).read_bytes()
    (other / weights["file"]).write_bytes(content[:-4] + np.float32(0.125).tobytes())
    weights["sha256"] = sha256_of(other / weights["file"])
    (other / "manifest.json").write_text(json.dumps(manifest | {"sha256": digest_of(manifest)}))
    options = (recording, "--output", tmp_path / "out", "--state-file", tmp_path / "state")
    assert run(two_leads, *options).exit_code == 0
    before = (tmp_path / "out").read_bytes()
    assert_refused(run(other, *options), "the state is of a run with weights")
    assert (tmp_path / "out").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_state_kept(
    two_leads: Path, tmp_path: Path, number: signal.Signals
) -> None:
    read, write = os.pipe()
    state = tmp_path / "state"
    options = (two_leads, "-", "--state-file", state, "--output", tmp_path / "out")
    process = command(*options, stdin=read, stderr=subprocess.PIPE)
    os.close(read)
    rows = "".join(f"{a:.4f},{b:.4f}\n" for a, b in beats(3, 250))
    with os.fdopen(write, "w") as pipe:
        pipe.write('{"leads": ["I", "II"], "rate": 250, "unit": "mV"}\n')
        pipe.write("".join(f"[{row}]\n" for row in rows.split()))
        pipe.flush()
        while not (tmp_path / "out").exists() or len((tmp_path / "out").read_text().splitlines()) < 5:
            assert process.poll() is None
            time.sleep(0.01)
        before = state.stat().st_mtime_ns
        process.send_signal(number)
        assert process.wait(60) == 0
    assert state.stat().st_mtime_ns > before
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.slow
def test_a_reader_that_stands_still_does_not_keep_it_from_hearing_a_signal(
    two_leads: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", samples=beats(600, 250), leads=["I", "II"], rate=250, unit="mV")
    read, write = os.pipe()
    state = tmp_path / "state"
    options = (two_leads, tmp_path / "a.npz", "--every", "0.02s", "--state-file", state, "--json")
    process = command(*options, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.01)
    before = state.stat().st_mtime_ns
    time.sleep(0.5)  # it may stand still now, or later
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    os.close(read)
    assert state.stat().st_mtime_ns > before
    assert process.stderr is not None
    *_, warning = process.stderr.read().splitlines()
    assert "the reader of standard output is too slow" in warning
    process.stderr.close()


def test_a_device_that_hung_up_is_a_new_recording_when_it_is_back(two_leads: Path, tmp_path: Path) -> None:
    """Started again with the state, and not at the end for ever."""
    samples = beats(4, 250)
    text = "I,II\n" + "".join(f"{a},{b}\n" for a, b in samples.tolist())

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(text.encode())

    state, output = tmp_path / "state", tmp_path / "output"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        options = ("--rate", 250, "--unit", "mV", "--no-timing", "--state-file", state, "--output", output)
        for _ in range(2):
            result = run(two_leads, f"tcp://127.0.0.1:{listener.getsockname()[1]}", *options)
            assert (result.exit_code, result.stderr) == (0, "")
        thread.join()
    found = decisions(output.read_text())
    half = len(found) // 2
    assert half == 8
    for first, again in zip(found[:half], found[half:], strict=True):
        assert again["time"] == pytest.approx(first["time"] + 4)
        assert (again["seen"], again["probabilities"]) == (first["seen"], first["probabilities"])
    assert [e["event"] for line in output.read_text().splitlines() if "event" in (e := json.loads(line))] == [
        "continued", "restart",
    ]  # fmt: skip


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
                    for i in range(0, 15000, 25):
                        connection.sendall(b"".join(rows[i : i + 25]))
                        time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def stopped(process: subprocess.Popen[str], expected: int = 0) -> str:
    """End a run by a signal; its messages."""
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == expected, messages
    return messages


@pytest.mark.slow
def test_lines_of_a_device_stay_although_no_state_could_be_written(two_leads: Path, tmp_path: Path) -> None:
    """Also in the order: full disk, stop, room, start. The device gives none of these samples again."""
    out, state, partial = tmp_path / "out", tmp_path / "state", tmp_path / ".state.partial"
    with device(tmp_path) as address:
        options = ("--every", "0.1s", "--output", out, "--state-file", state, "--state-every", "10ms")
        process = command(two_leads, address, *options, stderr=subprocess.PIPE)
        while len(lines_of(out)) < 3:
            time.sleep(0.01)
        while not partial.is_dir():
            with contextlib.suppress(OSError):
                partial.mkdir()
            if partial.is_file():
                partial.unlink(missing_ok=True)  # it may just have been renamed
        at = len(lines_of(out))
        while len(lines_of(out)) < at + 10:
            time.sleep(0.01)
        messages = stopped(process, 1)
        assert "decisions continue without a new checkpoint" in messages
        assert "the next start keeps every line of the output" in messages
        partial.rmdir()
        before = lines_of(out)
        process = command(two_leads, address, *options, stderr=subprocess.PIPE)
        while len(lines_of(out)) < len(before) + 5:
            assert process.poll() is None
            time.sleep(0.01)
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
        while len(lines_of(out)) < 2:
            time.sleep(0.01)
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
    for until in (2005, 2200, 5000):
        process = command(*options, stderr=subprocess.PIPE)
        with path.open("a") as file:
            for row in rows[written:until]:
                file.write(row[:5])
                file.flush()
                file.write(row[5:])
        written = until
        while len(lines_of(out)) < (until - 25) // 125:
            assert process.poll() is None
            time.sleep(0.01)
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
    stdout, _ = process.communicate(timeout=60)
    assert len(decisions(stdout)) == 24


def test_recordings_cannot_be_followed(two_leads: Path, recording: Path) -> None:
    assert_refused(run(two_leads, recording, "--follow"), "cannot be followed")
