"""Calibrating a network on data."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError, DataError, OverflowedError
from multires_edge.base.files import sha256_of
from multires_edge.calibration import CalibrationTable, calibrate
from multires_edge.calibration.histogram import MagnitudeHistogram
from multires_edge.calibration.ranges import METHODS, Method, clipping_thresholds
from multires_edge.calibration.tensors import ENCODER_INPUT, HEAD_INPUT, logical_tensors, observe, queue
from multires_edge.format.card import read_card
from multires_edge.format.config import ModelConfig
from multires_edge.format.specs import DataUsed
from multires_edge.models import load_checkpoint
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.recordings import load_data
from tests.conftest import DEMO, SMALL, configs, random_inputs, random_net, variant

MEMORY = Path("memory.npz")


def data(inputs: NDArray[Any], lengths: NDArray[np.int64] | None = None) -> Dataset:
    return Dataset(MEMORY, inputs, lengths)


def quietly(*arguments: Any, **options: Any) -> CalibrationTable:
    """Calibrate, little data or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return calibrate(*arguments, **options)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@given(config=configs(max_depth=4), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_order_and_padding_change_no_bit(method: str, config: ModelConfig, seed: int) -> None:
    random = np.random.default_rng(seed)
    net, inputs = random_net(config), random_inputs(config, 9, 25, seed)
    if config.encoder == "linear":
        inputs *= np.ldexp(1, random.integers(-3, 4, (9, 1, 1))).astype(np.float32)
    lengths = random.integers(1, 26, 9)
    order = random.permutation(9)
    wider = np.concatenate([inputs, inputs[..., :7]], -1)
    table = quietly(net, data(inputs, lengths), method)
    again = quietly(net, data(wider[order], lengths[order]), method)
    assert again.to_json() == table.to_json()


def test_memory_does_not_grow_with_the_number_of_records() -> None:
    net = random_net(SMALL)

    def peak(records: int) -> int:
        dataset = data(random_inputs(SMALL, records, 300))
        tracemalloc.start()
        try:
            quietly(net, dataset)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert peak(40) < 1.05 * peak(4)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_change_no_bit(size: int) -> None:
    net, inputs = random_net(SMALL), random_inputs(SMALL, 5, 40)
    histograms = {name: MagnitudeHistogram(channels) for name, channels in logical_tensors(SMALL).items()}
    for start in range(0, 5, size):
        batch = inputs[start : start + size]
        observe(net, batch, None, lambda name, values: histograms[name].add(values))
    table = quietly(net, data(inputs))
    for j in range(SMALL.depth):
        name = queue(1, j)
        assert np.array_equal(
            table.tensors[name].thresholds, clipping_thresholds(Method.of("percentile"), histograms[name])
        )


def test_what_the_table_says() -> None:
    net, x = random_net(SMALL), random_inputs(SMALL, 20, 100)
    lengths = np.arange(81, 101)
    table = calibrate(net, data(x, lengths), "minmax")
    steps = int(lengths.sum())
    assert table.method == Method("minmax")
    assert table.data == DataUsed("memory.npz", None, 20, steps)
    assert list(table.tensors) == list(logical_tensors(SMALL))
    seen = np.concatenate([row[:, :n].ravel() for row, n in zip(x, lengths, strict=True)])
    samples = table.tensors[ENCODER_INPUT]
    assert samples.count == len(seen) == 2 * steps
    of_channel = np.max([np.abs(row[:, :n]).max(axis=1) for row, n in zip(x, lengths, strict=True)], axis=0)
    assert np.array_equal(samples.thresholds, of_channel) and np.float32(samples.largest) == of_channel.max()
    assert samples.scales.dtype == np.float32
    assert np.array_equal(samples.scales, of_channel / np.float32(127))
    expected, _ = np.histogram(np.abs(seen), 64, (0, samples.histogram.range))
    assert np.array_equal(samples.histogram.counts, expected)
    a = table.tensors[queue(1, 2)]
    assert a.thresholds.shape == a.scales.shape == (8,) and a.thresholds.max() == np.float32(a.largest)
    assert table.tensors[HEAD_INPUT].count == 20 * 8 * SMALL.d_model  # 1, 2, 4, ..., 64, all


@pytest.mark.slow
def test_the_demonstration_network() -> None:
    net = load_checkpoint(DEMO / "ckpt.pth")
    dataset = load_data(DEMO / "records.npz", net.config, read_card(DEMO / "card.json"))
    with pytest.warns(UserWarning, match="has only 6 records, at least 8 are advised"):
        table = calibrate(net, dataset)
    assert table.data.sha256 == sha256_of(DEMO / "records.npz")
    assert all(tensor.sqnr_db > 15 for tensor in table.tensors.values())


def test_a_tensor_of_few_values() -> None:
    with pytest.warns(UserWarning, match=r"encoder\.input has only 20 values, at least 1000"):
        calibrate(random_net(SMALL), data(random_inputs(SMALL, 10, 1)))


def test_progress_is_told() -> None:
    told: list[str] = []
    quietly(random_net(SMALL), data(random_inputs(SMALL, 2, 9)), progress=told.append)
    assert told == ["record 1 of 2", "record 2 of 2", "choosing ranges"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((3, 5, 9), np.float32), r"memory.npz: x has shape \(3, 5, 9\), expected \(n, 2, "),
            (np.zeros((0, 2, 9), np.float32), "shape"),
            (np.zeros((3, 2, 0), np.float32), "shape"),
            (np.zeros((3, 2, 9)), "dtype float64, expected float32"),
            (np.full((3, 2, 9), np.nan, np.float32), "NaN"),
            (np.zeros((3, 2, 9), np.float32), "memory.npz: encoder.input is all zeros"),
        ],
    )  # fmt: skip
    def test_samples(self, x: NDArray[Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            calibrate(random_net(SMALL), data(x))

    @pytest.mark.parametrize(
        ("lengths", "message"),
        [([0, 5, 5], "lengths run from 0"), ([9, 9, 10], "to 10"), ([9, 9], "shape")],
    )
    def test_lengths(self, lengths: list[int], message: str) -> None:
        with pytest.raises(DataError, match=message):
            calibrate(random_net(SMALL), data(random_inputs(SMALL, 3, 9), np.array(lengths)))

    def test_tokens(self) -> None:
        net = random_net(variant(encoder="token"))
        with pytest.raises(DataError, match="token 11, expected 0 to 10"):
            calibrate(net, data(np.full((3, 9), 11)))

    def test_numbers_beyond_float32(self) -> None:
        x = random_inputs(SMALL, 3, 9)
        x[1] = 3e38
        with pytest.raises(OverflowedError, match=r"layers\.0\.queues\.0 overflows float32 in record 1"):
            calibrate(random_net(SMALL), data(x))

    def test_a_tensor_that_is_never_used(self) -> None:
        net = random_net(SMALL)
        net.state_dict()["seq_layers.1.h0"].zero_()
        with pytest.raises(DataError, match=r"layers\.1\.queues\.1 is all zeros"):
            calibrate(net, data(random_inputs(SMALL, 3, 9)))

    def test_an_unknown_method(self) -> None:
        with pytest.raises(ConfigError, match="unknown method 'kl'"):
            calibrate(random_net(SMALL), data(random_inputs(SMALL, 3, 9)), "kl")
