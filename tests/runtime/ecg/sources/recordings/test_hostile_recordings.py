"""Damaged recordings of every kind: read, read up to the damage, or refused in one line.

``MULTIRES_HOSTILE=1000 pytest -k hostile_recordings`` tries 1000 files of each kind.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format
from tests import ecg_files
from tests.hostile import COUNT
from tests.hostile_files import Trial, damaged

X = ecg_files.numbers(250)
_SIGNALS = [("EEG C3-A2", "uV", X[:, 0].reshape(5, 50)), ("ECG II", "\u00b5V", X[:, 1].reshape(5, 50))]
_HEADER = "a 2 250 125\na.dat 16x2 1000(3)/mV 16 0 0 0 0 I\na.dat 16x2:1 200/uV 12 0 0 0 0 II\n# Ann\n"
_MASTER = "a/3 2 250 325\np_layout 0\n~ 75\np_1 125\n~ 125\n"
_KINDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "edf": (".edf", lambda: ecg_files.edf(_SIGNALS)),
    "edf+d": (".edf", lambda: ecg_files.edf(_SIGNALS, kind="EDF+D", times=[0, 1, 2, 9, 10])),
    "bdf": (".bdf", lambda: ecg_files.edf(_SIGNALS, bits=24)),
    "dicom": (".dcm", lambda: ecg_files.dicom(X)),
    "aecg": (".xml", lambda: ecg_files.aecg(X)),
    "muse": (".xml", lambda: ecg_files.muse(X[:, :8])),
    "philips": (".xml", lambda: ecg_files.philips(X)),
    "ishne": (".ecg", lambda: ecg_files.ishne(X[:, :3])),
    "wfdb": (".hea", _HEADER.encode),
    "wfdb in parts": (".hea", _MASTER.encode),
}


def use(path: Path) -> None:
    """Read a recording to its end, or to its damage."""
    source = open_source(str(path), Format(wanted=["II", "V1"]))
    for _ in range(10_000):
        if source.ended:
            break
        source.read(1 << 14)
    assert source.ended
    source.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
def test_hostile_recordings(tmp_path: Path, kind: str) -> None:
    suffix, make = _KINDS[kind]
    content, draw = make(), random.Random(len(kind))
    if suffix == ".hea":
        X[:, :2].tofile(tmp_path / "a.dat")
        ecg_files.layout(tmp_path, X[:, :2])
    trial = Trial(use, tmp_path, suffix)
    trial.add([("whole", content), *(damaged(content, draw) for _ in range(COUNT))])
    trial.run()
    assert trial.taken and trial.refused
