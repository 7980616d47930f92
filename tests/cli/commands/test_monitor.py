"""``multires-edge monitor`` as a user types it; what it shows is tested in a browser."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from websockets.sync.client import connect

from multires_edge.cli.main import main
from multires_edge.runtime.ecg.output_file import OutputFile
from tests.cli.commands.test_export import assert_refused
from tests.runtime.conftest import beats, two_leads
from tests.waiting import PATIENCE

__all__ = ["two_leads"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["monitor", *(str(argument) for argument in arguments)])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", samples=beats(3, 250), leads=["I", "II"], rate=250, unit="mV")
    return tmp_path / "a.npz"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0 can be reached from other machines, so it needs a --token"),
        (("--host", "0.0.0.0", "--token", "1234"), "the token has 4 characters, expected 8 or more"),
        (("--name", "A", "--name", "B"), "2 names for 1 sources"),
        (("--every", "0"), "every is '0'"),
        (("--host", "a..b", "--token", "12345678"), "cannot listen there"),
        (("--host", "192.0.2.1", "--token", "12345678"), "cannot listen there"),
    ],
)
def test_refusals(two_leads: Path, recording: Path, options: tuple[str, ...], message: str) -> None:
    assert_refused(run(two_leads, recording, *options), message)


def test_an_output_that_exists_is_left_alone(two_leads: Path, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine\n")
    assert_refused(run(two_leads, recording, "--port", 0, "--output", tmp_path / "out"), "exists already")
    assert (tmp_path / "out").read_text() == "mine\n"


def test_an_output_that_another_process_writes_is_refused(
    two_leads: Path, recording: Path, tmp_path: Path
) -> None:
    other = OutputFile(tmp_path / "out", None)
    refused = run(two_leads, recording, "--port", 0, "--output", tmp_path / "out")
    assert_refused(refused, "another process writes it")
    other.close()


def test_without_the_library(two_leads: Path, recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert_refused(run(two_leads, recording), r"[monitor]'")


def start(*arguments: object) -> tuple[subprocess.Popen[str], str]:
    line = [sys.executable, "-m", "multires_edge", "monitor", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def everything(address: str) -> list[dict[str, Any]]:
    """What a page is told until every source has ended."""
    told = []
    with connect(f"ws{address.removeprefix('http')}stream", proxy=None) as page:
        while True:
            message = page.recv(timeout=PATIENCE)
            if isinstance(message, str):
                told.append(json.loads(message))
                if told[-1]["type"] == "status" and told[-1]["feed"] in ("ended", "lost"):
                    return told


@pytest.mark.slow
def test_lines_are_written_beside(two_leads: Path, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--output", out, "--threshold", "A=0.01", "--name", "Bed 3", "--no-timing")
    process, address = start(two_leads, recording, *options)
    told = everything(address)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE) == ("", "") and process.returncode == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [e for e in told if e["type"] in ("decision", "event")] == lines
    assert [e["time"] for e in lines if e["type"] == "decision"] == [0.5, 1, 1.5, 2, 2.5, 3]
    hello = told[0]
    assert hello["labels"] == ["A", "B", "C"] and hello["thresholds"] == {"A": 0.01}
    assert hello["patients"][0]["name"] == "Bed 3" and hello["every"] == 0.5
    streamed = CliRunner().invoke(
        main, ["stream", str(two_leads), str(recording), "--threshold", "A=0.01", "--no-timing"]
    )
    assert streamed.stdout == out.read_text()


@pytest.mark.slow
def test_a_source_that_breaks_off_is_exit_code_1(two_leads: Path, tmp_path: Path) -> None:
    from tests.runtime.conftest import write_wfdb

    data = write_wfdb(tmp_path, "b", beats(3, 250), 250, leads=("I", "II")).with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:2000])
    process, address = start(two_leads, tmp_path / "b")
    assert everything(address)[-1]["feed"] == "lost"
    process.terminate()
    _, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "b: truncated" in complaint and complaint.count("\n") == 1
