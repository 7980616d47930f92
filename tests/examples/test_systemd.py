"""The unit that ships: systemd understands it, and the command understands what it says."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.cli.main import main
from tests.conftest import ROOT
from tests.runtime.conftest import beats, two_leads

__all__ = ["two_leads"]

HOME = ROOT / "examples" / "systemd"
PROGRAM = "/opt/multires-edge/bin/multires-edge"


def unit() -> str:
    return (HOME / "multires-edge@.service").read_text()


def verify(folder: Path, *drop_ins: str) -> tuple[int, str]:
    """What systemd says of the unit with drop-ins."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, which this machine does not have")
    path = folder / "multires-edge@.service"
    path.write_text(unit().replace(PROGRAM, shutil.which("true") or "/bin/true"))
    for i, text in enumerate(drop_ins):
        drop_in = folder / f"{path.name}.d" / f"{i}.conf"
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(text)
    result = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    return result.returncode, result.stderr


def test_systemd_verifies_it(tmp_path: Path) -> None:
    assert verify(tmp_path) == (0, "")


def test_systemd_verifies_the_drop_in_for_gpus(tmp_path: Path) -> None:
    gpu = (HOME / "multires-edge@.service.d" / "gpu.conf").read_text()
    assert verify(tmp_path, gpu) == (0, "")
    # The driver and the cuda backend keep their kernels for the next start.
    for variable in ("CUDA_CACHE_PATH", "XDG_CACHE_HOME"):
        assert f"\nEnvironment={variable}=%C/multires-edge/%i\n" in gpu
    assert "Unknown key" in verify(tmp_path, gpu, "[Service]\nPrivateDevice=no\n")[1]


def test_the_command_runs_as_it_says(two_leads: Path, tmp_path: Path) -> None:
    (line,) = [line for line in unit().replace("\\\n", "").splitlines() if line.startswith("ExecStart=")]
    settings = dict(
        line.split("=", 1) for line in (HOME / "ward.env").read_text().splitlines() if line[0] != "#"
    )
    np.savez(tmp_path / "a.npz", samples=beats(12, 250), leads=["I", "II"], rate=250, unit="mV")
    options = settings["OPTIONS"].replace("MI=", "A=")
    assert settings["SOURCE"].startswith("tcp://127.0.0.1:")
    (tmp_path / "multires-edge" / "ward3").mkdir(parents=True)
    for placeholder, value in (
        ("${BUNDLE}", two_leads), ("${SOURCE}", tmp_path / "a.npz"), ("$OPTIONS", options),
        ("%S", tmp_path), ("%i", "ward3"),
    ):  # fmt: skip
        assert placeholder in line
        line = line.replace(placeholder, str(value))
    program, *arguments = shlex.split(line.removeprefix("ExecStart="))
    assert program == PROGRAM
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    # It is the device that runs at its own speed.
    assert result.stderr.startswith("note: 12.0 s of record") and result.stderr.count("\n") == 1
    lines = (tmp_path / "multires-edge" / "ward3" / "decisions.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["type"] == "decision" for line in lines) == 24
