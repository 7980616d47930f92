"""The plots of the Python example: no lead touches another, and they follow the reader's colours."""

from __future__ import annotations

import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from multires_edge.base.palette import DARK
from multires_edge.runtime import Bundle
from tests.conftest import ROOT
from tests.runtime.conftest import beats

EXAMPLE = runpy.run_path(str(ROOT / "examples" / "python" / "classify_ecg.py"))


@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 50)), elements=st.floats(-5, 5)))
def test_leads_do_not_touch(mv: NDArray[np.float64]) -> None:
    drawn = mv - EXAMPLE["offsets"](mv)[:, None]
    for upper, lower in pairwise(drawn):
        assert upper.min() >= lower.max() - 1e-9


def test_a_plot_is_whole_and_has_both_schemes(twelve_leads: Bundle, tmp_path: Path) -> None:
    mv = beats(10, 100, leads=12).T
    EXAMPLE["draw"](tmp_path / "plots" / "1.svg", twelve_leads, mv, np.full((5, 1000), 0.5), "a < b")
    svg = (tmp_path / "plots" / "1.svg").read_text()
    assert "prefers-color-scheme:dark" in svg and DARK.trace in svg
    assert ">aVR</text>" in svg and "a &lt; b" in svg and ">STTC 0.50</text>" in svg
