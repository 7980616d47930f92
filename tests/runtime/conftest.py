"""Bundles with cards, and recordings, that the tests of streams share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from numpy.typing import NDArray

from multires_edge.export import export_bundle
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.device import driver as cuda_driver
from tests.conftest import DEMO, ROOT, SMALL, random_net, save_published
from tests.runtime.backends.device.fake_driver import FakeCuda

LUDB = ROOT / "tests" / "data" / "ludb" / "1"
CARD: dict[str, Any] = {
    "preprocessing": {"sampling_rate": 100, "channels": ["I", "II"], "unit": "mV", "mean": 0.05, "std": 0.25},
    "labels": ["A", "B", "C"],
    "output": "sigmoid",
}


@pytest.fixture(scope="session")
def two_leads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle of leads I and II at 100 Hz, with random weights."""
    return named_leads(tmp_path_factory.mktemp("two_leads"), ["I", "II"])


def named_leads(folder: Path, leads: list[str], labels: Sequence[str] = CARD["labels"]) -> Path:
    """The same with two leads and labels of other names."""
    card = CARD | {"preprocessing": CARD["preprocessing"] | {"channels": leads}, "labels": labels}
    (folder / "card.json").write_text(json.dumps(card))
    checkpoint = save_published(random_net(SMALL, seed=3), folder)
    return export_bundle(checkpoint, folder / "two.bundle", card=folder / "card.json").path


@pytest.fixture(scope="session")
def opened(two_leads: Path) -> Bundle:
    return open_bundle(two_leads)


@pytest.fixture(scope="session")
def twelve_leads(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demonstration network."""
    folder = tmp_path_factory.mktemp("twelve_leads")
    return open_bundle(export_bundle(DEMO / "ckpt.pth", folder / "demo.bundle", card=DEMO / "card.json").path)


@pytest.fixture(scope="session")
def ludb() -> tuple[NDArray[np.float64], list[str]]:
    """Ten seconds of twelve leads at 500 Hz: samples (5000, 12) in mV, and the leads' names."""
    record = wfdb.rdrecord(str(LUDB))
    return record.p_signal, record.sig_name


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A CUDA driver without a GPU, where the package looks for it."""
    driver = FakeCuda()
    monkeypatch.setattr(cuda_driver, "load_library", lambda: driver)
    return driver


def write_wfdb(
    folder: Path,
    name: str,
    signals: NDArray[np.float64],
    rate: float = 100,
    leads: tuple[str, ...] = ("II", "I"),
    units: tuple[str, ...] = ("mV", "mV"),
) -> Path:
    """Write a WFDB record of samples (time, leads); its path without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name, fs=rate, units=list(units), sig_name=list(leads), p_signal=signals,
        fmt=["16"] * len(leads), write_dir=str(folder),
    )  # fmt: skip
    return folder / name


def beats(seconds: float, rate: float, leads: int = 2, seed: int = 0) -> NDArray[np.float64]:
    """Something like an ECG in mV: (time, leads), a narrow beat a second, a slow wave and a little noise."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    phase = t % 0.9 - 0.3
    wave = 1.2 * np.exp(-((phase / 0.012) ** 2)) + 0.25 * np.exp(-(((phase - 0.25) / 0.05) ** 2))
    wave += 0.1 * np.sin(2 * np.pi * 0.3 * t)
    noise = 0.005 * random.standard_normal((len(t), leads))
    return np.stack([wave * (1 - 0.3 * i) for i in range(leads)], 1) + noise
