"""``multires-edge stream`` as a user types it."""

from __future__ import annotations

import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from multires_edge.base.files import sha256_of
from multires_edge.cli.main import main
from multires_edge.format.fields import digest_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.ecg.stream import EcgStream
from tests.cli.commands.test_export import assert_refused
from tests.runtime.conftest import CARD, beats, two_leads
from tests.waiting import PATIENCE, until

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


def killed(out: Path, size: int, *arguments: object, after: float = 0.0) -> str:
    """What ``stream`` has said when it is killed, ``after`` seconds later than ``out`` has ``size`` bytes."""
    program = Path(__file__).with_name("mortal.py")
    line = [sys.executable, program, out, size, after, "stream", *arguments]
    ended = subprocess.run(
        [*map(str, line)], stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended.stderr


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
        size = out.stat().st_size if out.exists() else 0
        killed(out, size + 1, *kept, after=pause.random() * 0.1)
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
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        process = command(two_leads, "-", address, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stdout, _ = process.communicate("".join([header, *lines]), timeout=PATIENCE)
        thread.join(PATIENCE)
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
    assert process.wait(PATIENCE) == 0
    process.stderr.close()


def test_standard_output_that_takes_nothing(two_leads: Path, recording: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("wb") as full:
        process = command(two_leads, recording, stdout=full, stderr=subprocess.PIPE)
        assert process.stderr is not None
        message = process.stderr.read()
    assert process.wait(PATIENCE) == 2
    assert (
        message.startswith("error: standard output cannot be written (No space") and message.count("\n") == 1
    )
    process.stderr.close()


@pytest.mark.parametrize("name", ["a", "a.previous", ".a.lock", ".a.partial"])
def test_output_and_state_are_two_files(two_leads: Path, recording: Path, tmp_path: Path, name: str) -> None:
    result = run(two_leads, recording, "--output", tmp_path / name, "--state-file", tmp_path / "." / "a")
    assert_refused(result, "is given for two outputs" if name == "a" else "is a file of the state")
    assert not list(tmp_path.glob("*a"))


def test_what_a_file_says_does_not_reach_the_terminal_raw(two_leads: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\x1b[31mI,II\n")
    result = run(two_leads, path, "--rate", 250, "--unit", "mV")
    assert_refused(result, "no lead I; the source has #1, II")


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


def version_of(path: Path) -> tuple[int, int]:
    """What differs after a file was replaced, also within a tick of the clock of file times."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


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
        out = tmp_path / "out"
        until(lambda: state.exists() and out.exists() and len(out.read_text().splitlines()) >= 5, of=process)
        before = version_of(state)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    assert version_of(state) != before
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
    until(lambda: state.exists() and not select.select([], [write], [], 0)[1], of=process)
    os.close(write)
    before = version_of(state)
    time.sleep(0.5)  # the pipe takes some lines more
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    os.close(read)
    assert version_of(state) != before
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
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        options = ("--rate", 250, "--unit", "mV", "--no-timing", "--state-file", state, "--output", output)
        for _ in range(2):
            result = run(two_leads, f"tcp://127.0.0.1:{listener.getsockname()[1]}", *options)
            assert (result.exit_code, result.stderr) == (0, "")
        thread.join(PATIENCE)
    found = decisions(output.read_text())
    half = len(found) // 2
    assert half == 8
    for first, again in zip(found[:half], found[half:], strict=True):
        assert again["time"] == pytest.approx(first["time"] + 4)
        assert (again["seen"], again["probabilities"]) == (first["seen"], first["probabilities"])
    assert [e["event"] for line in output.read_text().splitlines() if "event" in (e := json.loads(line))] == [
        "continued", "restart",
    ]  # fmt: skip
