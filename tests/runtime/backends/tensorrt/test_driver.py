"""The TensorRT backend on a compiled CUDA driver that needs no GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.backends.device.compiled_driver import build_driver, run_on_driver
from tests.runtime.backends.tensorrt.bundles import export

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libcuda.so.1."""
    return build_driver(tmp_path_factory.mktemp("driver"))


def test_streams_on_a_driver(driver: Path, tmp_path: Path) -> None:
    bundle = export(tmp_path, pool="window:5")
    run_on_driver(driver, "tests.runtime.backends.tensorrt.on_driver", bundle.path)


@pytest.mark.parametrize("status", [0, 801, 803, 999])
def test_doctor_says_what_the_driver_says(driver: Path, status: int) -> None:
    command = [sys.executable, "-m", "multires_edge", "doctor"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver), "CUINIT": str(status)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    if status:
        assert f"cuInit failed: CUDA_ERROR ({status}), of the fake driver" in said
    else:
        assert re.search(r"^ *gpu +Orin, 16 SMs, 30 GiB", said, re.MULTILINE)
