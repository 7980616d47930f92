"""Types of queues, and the scales of int8 ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import ConfigError
from multires_edge.export.precision.queues import Queues
from multires_edge.export.precision.types import INT8
from tests.conftest import random_net, variant
from tests.runtime.cpp.networks import calibrated

ONES = np.ones((3, 2, 8), np.float32)


def test_scales_are_the_ranges_of_the_table() -> None:
    config = variant(depth=3, n_layers=2, d_model=8)
    table = calibrated(random_net(config))
    queues = Queues.int8(table)
    assert queues.dtype == np.int8 and queues.scales is not None
    assert queues.scales.shape == (3, 2, 8) and queues.scales.dtype == np.float32
    assert np.array_equal(queues.scales[2, 1], table.tensors["layers.1.queues.2"].scales)
    queues.check_network(config)
    with pytest.raises(ConfigError, match="calibrate it, and use its own table"):
        queues.check_network(variant(depth=4))


def test_others_have_none() -> None:
    assert Queues().dtype == Queues.float32().dtype == np.float32
    assert Queues.float16().dtype == np.float16
    Queues.float16().check_network(variant())


@pytest.mark.parametrize(
    ("dtype", "scales", "message"),
    [
        (np.dtype(np.float64), None, "queues of float64: expected float32, float16 or int8"),
        (INT8, None, "queues of int8 were given no scales"),
        (np.dtype(np.float16), ONES, "queues of float16 were given their scales"),
        (INT8, ONES.astype(np.float64), "are float64"),
        (INT8, ONES[0], r"\(2, 8\), expected float32 \(depth, n_layers, d_model\)"),
        (INT8, ONES * 0, "positive, normal and finite"),
        (INT8, ONES * np.float32(1e-39), "positive, normal and finite"),
        (INT8, ONES * np.float32(np.inf), "positive, normal and finite"),
        (INT8, ONES * np.float32(np.nan), "positive, normal and finite"),
    ],
)
def test_what_cannot_be_queues(dtype: Any, scales: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Queues(dtype, scales)
