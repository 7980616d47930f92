"""The comparisons of the kit, and what it reads of the machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multires_edge.format.comparison import Limit
from multires_edge.runtime.kit.cases import assemble
from multires_edge.runtime.kit.checks import compare
from multires_edge.runtime.kit.machine import machine


def test_assemble() -> None:
    recorded = np.arange(20).reshape(2, 1, 10)
    streams = assemble(recorded, [[[0, 1]], [[0, 0], [2, 1], [5, 0]]], 6)
    assert streams[:, 0].tolist() == [[10, 11, 12, 13, 14, 15], [0, 1, 10, 11, 12, 0]]


def test_the_first_step_that_is_off_is_named() -> None:
    reference = np.ones((2, 3, 50))
    y = reference.copy()
    y[1, 2, 30] += 0.5
    y[0, 1, 17] += 0.1
    found = compare("a", "y", y, reference, Limit(1e-3, "max"), over_time=True)
    assert not found.passed and found.error == pytest.approx(0.5)
    assert found.at is not None and (found.at.step, found.at.row, found.at.index) == (17, 0, (1,))


def test_a_mean_is_that_of_the_worst_row() -> None:
    reference = np.ones((10, 100))
    y = reference.copy()
    y[3, 7] += 30
    found = compare("a", "y", y, reference, Limit(0.1, "mean"))
    assert not found.passed and found.error == pytest.approx(0.3)
    assert found.at is not None and (found.at.row, found.at.index) == (3, (7,))


def test_a_sum_is_held_on_its_scale() -> None:
    reference, limit = np.zeros((1, 1)), Limit(1e-5, "max")
    y = reference + 1e-3
    assert compare("a", "y", y, reference, limit, floor=1000).passed
    assert not compare("a", "y", y, reference, limit).passed


def test_the_machine_as_found(tmp_path: Path) -> None:
    gpu = tmp_path / "sys/class/devfreq/17000000.gpu"
    gpu.mkdir(parents=True)
    for name, value in (("min_freq", 918), ("cur_freq", 918), ("max_freq", 918)):
        (gpu / name).write_text(f"{value}\n")
    model = tmp_path / "proc/device-tree/model"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0")
    found = machine(tmp_path)
    assert (found.model or "").endswith("Developer Kit")
    assert (found.gpu_clocks or {})["17000000.gpu"].locked
    assert {"l4t_release", "cpu_clocks", "temperatures"} <= set(found.absent)
