"""The kit in an environment of its own, with the oldest Python and numpy that a device has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.kit.conftest import report_in

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python 3.10 with numpy 1.21 and ONNX Runtime, and nothing else."""
    oldest = sys.executable if sys.version_info < (3, 11) else shutil.which("python3.10")
    if oldest is None or subprocess.run([oldest, "-c", ""], check=False).returncode:
        pytest.skip("needs python3.10, which this machine does not have")
    folder = tmp_path_factory.mktemp("oldest")
    subprocess.run([oldest, "-m", "venv", "--without-pip", folder], check=True)
    there = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(there), "install", "--quiet", "--no-deps"]
    packages = ["--require-hashes", "-r", str(HERE / "oldest.txt")]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the packages of oldest.txt: {done.stderr[-200:]}")
    return there


@pytest.mark.parametrize("backend", ["onnxruntime", "taps", "in-place"])
def test_it_passes_there(backend: str, kit: Path, python: Path) -> None:
    command = [str(python), "check_device.py", "--backend", backend, "--streams", "3", "--steps", "5"]
    done = subprocess.run(command, cwd=kit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = report_in(kit)
    assert report["passed"] and report["device"]["numpy"] == "1.21.6" and report["backend"]["name"] == backend
