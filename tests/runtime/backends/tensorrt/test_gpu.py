"""Asking the driver for the GPU; a fake driver stands in for libcuda."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from multires_edge.runtime.backends.tensorrt import gpu
from multires_edge.runtime.backends.tensorrt.gpu import Gpu, find_gpu


def driver(devices: int = 1, failing: str = "") -> Any:
    """The calls of the CUDA driver API that are made; one may fail."""

    def count(pointer: Any) -> None:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = devices

    def attribute(pointer: Any, number: int, _: Any) -> None:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = {75: 8, 76: 7}[number]

    def fill(buffer: Any, size: int, _: Any) -> None:
        assert size == len(buffer)
        buffer.value = b"Orin"

    calls: dict[str, Callable[..., None]] = {
        "cuInit": lambda _: None,
        "cuDeviceGetCount": count,
        "cuDeviceGet": lambda *_: None,
        "cuDeviceGetName": fill,
        "cuDeviceGetAttribute": attribute,
    }

    def with_status(call: str) -> Any:
        return lambda *arguments: calls[call](*arguments) or 999 * (call == failing)

    return SimpleNamespace(**{call: with_status(call) for call in calls})


def test_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_load_driver", driver)
    assert find_gpu() == Gpu("Orin", "8.7")


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName"])
def test_a_driver_that_fails(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(gpu, "_load_driver", lambda: driver(failing=call))
    assert find_gpu() is None


def test_a_driver_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_load_driver", lambda: driver(devices=0))
    assert find_gpu() is None


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_load_driver", lambda: None)
    assert find_gpu() is None
