"""Recorded inputs and outputs, and the first steps of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multires_edge.format.golden import Golden
from multires_edge.format.pooling import Window
from multires_edge.runtime.bundle import open_bundle
from tests.conftest import within_limit


@pytest.mark.parametrize("name", ["exported", "drawing", "token_predictor", "token_classifier"])
@pytest.mark.parametrize("steps", [1, 20])
def test_the_first_steps_are_what_the_graphs_give(
    name: str, steps: int, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)
    bundle = open_bundle(path)
    first = bundle.golden().first(steps, bundle.manifest.pooling)
    assert first.inputs.shape[-1] == steps and first.full is not None
    assert within_limit(bundle.full()(first.inputs), first.full)
    assert within_limit(bundle.stream(len(first.inputs)).run(first.inputs), first.stepwise)


def test_a_window_that_the_first_steps_leave() -> None:
    golden = Golden(np.zeros((1, 2, 60)), np.zeros((1, 3, 60)), np.zeros((1, 3)))
    assert golden.first(50, Window(40)).full is None
    assert golden.first(40, Window(40)).full is not None
