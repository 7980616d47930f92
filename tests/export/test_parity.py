"""How long the sequences are that a proof is made on."""

from __future__ import annotations

from multires_edge.export.parity import sequence_steps
from multires_edge.export.proof import Proof
from multires_edge.format.pooling import Window
from tests.conftest import variant


def test_goes_past_the_networks_receptive_field_where_that_is_cheap() -> None:
    config = variant(d_model=128, n_layers=6, depth=10)
    assert sequence_steps(config, 650_000) > config.receptive_field


def test_goes_past_a_layers_where_the_networks_is_dear() -> None:
    config = variant(d_model=512, n_layers=48, depth=9, kernel_size=4)
    steps = sequence_steps(config, 38_400_000)
    assert config.layer_receptive_field < steps < config.receptive_field


def test_stays_affordable_whatever_the_depth() -> None:
    assert sequence_steps(variant(depth=20, kernel_size=8), 1000) <= 100_000


def test_leaves_both_blocks_of_a_pooling_window() -> None:
    assert sequence_steps(variant(), 1000, Window(5000)) > 2 * 5000


def test_says_when_a_window_could_not_be_covered() -> None:
    proof = Proof("noise", 900, variant(), 1000, Window(500))
    assert proof.parity().covers_window is False
    assert Proof("noise", 1001, variant(), 1000, Window(500)).covers_window
    assert Proof("noise", 1001, variant(), 1000, None).covers_window is None
