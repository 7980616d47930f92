"""Building and running the engine's C++ test programs."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "runtime" / "cpp"
ISAS = ("baseline", "avx2", "avx512", "avx512vnni") if platform.machine() in {"x86_64", "AMD64"} else ("",)


def needs(*tools: str) -> None:
    """Skip the test where a tool is missing; `.ci/run` installs all of them first."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}, which this machine does not have")


def build(name: str, tmp_path_factory: pytest.TempPathFactory, *options: str) -> Path:
    """Configure and compile without a warning, once for all workers of a test run; the build folder."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / f"build-{name}"
    with (root / f"build-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
            cmake = shutil.which("cmake", path=search)
            assert cmake is not None, "cmake is part of the test extra"
            run(cmake, "-S", SOURCE, "-B", folder, *options)
            output = run(cmake, "--build", folder, "-j2")
            assert "warning:" not in output, output
            (folder / "done").touch()
    return folder


def run(*command: str | Path, **environment: str) -> str:
    """What a program prints; fails with the end of it when the program does."""
    result = subprocess.run(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{command} gave {result.returncode}:\n{result.stdout[-4000:]}"
    return result.stdout
