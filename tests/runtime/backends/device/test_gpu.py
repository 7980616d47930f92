"""What the driver says of the GPU, or of why there is none."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from multires_edge.base.errors import BackendError
from multires_edge.cli.main import main
from multires_edge.runtime.backends.device import driver as cuda_driver
from multires_edge.runtime.backends.device.gpu import find_gpu, why_no_gpu
from tests.runtime.backends.device.fake_driver import ORIN, FakeCuda, on_driver

pytestmark = pytest.mark.native


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the facts about the machine are; first a PC."""
    monkeypatch.setattr(cuda_driver, "ROOT", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def put(root: Path, name: str, content: bytes = b"") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_device(driver: FakeCuda, root: Path) -> None:
    assert find_gpu() == ORIN and why_no_gpu() is None
    put(root, "proc/device-tree/model", b"NVIDIA Jetson Orin Nano\0")
    nano = find_gpu()
    assert nano == replace(ORIN, board="NVIDIA Jetson Orin Nano")
    assert str(nano) == "Orin, 16 SMs, 30 GiB, NVIDIA Jetson Orin Nano"


@pytest.mark.parametrize(
    "call", ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2"]
)
def test_every_failure_is_in_the_words_of_the_driver(driver: FakeCuda, call: str) -> None:
    driver.refuse(call, 801)
    said = r"^cu\w+ failed: CUDA_ERROR_NOT_SUPPORTED \(801\), of the fake driver$"
    with pytest.raises(BackendError, match=said):
        find_gpu()


@pytest.mark.parametrize("status", [100, 801, 999])
@pytest.mark.parametrize(
    ("name", "content"),
    [("etc/nv_tegra_release", b"# R36"), ("proc/device-tree/compatible", b"nvidia,p3768\0nvidia,tegra234\0")],
)
def test_a_user_outside_the_groups_of_a_jetson(
    driver: FakeCuda, root: Path, status: int, name: str, content: bytes
) -> None:
    put(root, name, content)
    driver.refuse("cuInit", status)
    with pytest.raises(BackendError, match=rf"\({status}\).*usermod -aG video,render \$USER, and log in"):
        find_gpu()
    said = CliRunner().invoke(main, ["doctor"]).stdout
    assert said.count("usermod -aG video,render") == 4


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (2, "stop other programs"),
        (3, "start it anew"),
        (34, "remove stubs from LD_LIBRARY_PATH"),
        (46, "nvidia-smi -c DEFAULT"),
        (100, "nvidia-smi lists the devices"),
        (221, "libnvidia-ptxjitcompiler"),
        (222, "need the driver of CUDA 12.5 or later"),
        (802, "nvidia-fabricmanager"),
        (803, "update the driver"),
        (804, "remove compat folders"),
        (999, "sudo nvidia-modprobe -u"),
    ],
)
def test_advice(driver: FakeCuda, status: int, advice: str) -> None:
    driver.refuse("cuInit", status)
    assert advice in str(why_no_gpu())


def test_no_device(driver: FakeCuda, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    driver.refuse("cuInit", 100)
    put(root, "run/.containerenv")
    assert "--gpus all" in str(why_no_gpu())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES is '-1'" in str(why_no_gpu())
    driver.refuse("", 0)
    driver.have(ORIN, devices=0)
    assert why_no_gpu() == "the CUDA driver found no device"


def test_no_driver(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(cuda_driver, "load_library", lambda: None)
    assert str(why_no_gpu()).startswith("no CUDA driver was found (libcuda.so.1")
    put(root, "etc/nv_tegra_release")
    assert "nvidia-jetpack" in str(why_no_gpu())
    put(root, ".dockerenv")
    assert "--runtime nvidia" in str(why_no_gpu())


def test_a_driver_without_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "load_library", object)
    assert "too old, it has no cuInit: update it" in str(why_no_gpu())


@pytest.mark.parametrize("status", [0, 801, 803, 999])
def test_doctor_says_what_the_driver_says(status: int, tmp_path: Path) -> None:
    """By the driver that the loader finds."""
    command = [sys.executable, "-m", "multires_edge", "doctor"]
    here = on_driver(tmp_path, CUDA_FAILS=f"cuInit:{status}")
    said = subprocess.run(command, env=here, capture_output=True, text=True, check=True).stdout
    if status:
        assert re.search(rf"cuInit failed: CUDA_ERROR_\w+ \({status}\), of the fake driver", said)
    else:
        assert re.search(r"^ *gpu +Orin, 16 SMs, 30 GiB", said, re.MULTILINE)
