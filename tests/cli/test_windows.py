"""The runtime's commands as on Windows, where nothing else of the tests runs (tests/cli/as_windows.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.cli.main import main
from tests import ecg_files
from tests.conftest import ROOT
from tests.runtime.conftest import beats, two_leads

__all__ = ["two_leads"]


def on_windows(*arguments: object) -> str:
    command = [sys.executable, "-m", "tests.cli.as_windows", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def here(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_tells_the_same_of_a_bundle(two_leads: Path, command: str) -> None:
    assert on_windows(command, two_leads) == here(command, two_leads)


@pytest.mark.parametrize("kind", ["npz", "csv", "edf", "layout"])
def test_streams_a_recording_and_continues(two_leads: Path, tmp_path: Path, kind: str) -> None:
    samples = beats(12, 250)
    numbers = np.round(1000 * samples).astype(np.int16)
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, samples=samples, leads=["I", "II"], rate=250, unit="mV")
    elif kind == "csv":
        np.savetxt(path, samples, delimiter=",", header="I,II", comments="")
    elif kind == "edf":
        signals = [(lead, "uV", numbers[:, i].reshape(12, 250)) for i, lead in enumerate(("I", "II"))]
        path.write_bytes(ecg_files.edf(signals))
    else:
        path = ecg_files.layout(tmp_path, numbers)
    given = ("--rate", 250, "--unit", "mV") if kind == "csv" else ()
    made = {}
    for run in (on_windows, here):
        folder = tmp_path / run.__name__
        folder.mkdir()
        files = ("--output", folder / "out", "--state-file", folder / "state", "--sink", f"wfdb:{folder}")
        for _ in range(2):  # the second has nothing to add
            run("stream", two_leads, path, *given, *files, "--every", "1s", "--speed", "max")
        annotations = [path for path in folder.iterdir() if path.suffix == ".multires"]
        made[run] = [path.read_bytes() for path in (folder / "out", *annotations)]
    assert made[on_windows] == made[here]
    assert [len(content) > 100 for content in made[here]] == [True, True]
