"""Reading weights files: what the native engine reads, and nothing that is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError
from multires_edge.export.native_weights import native_weights
from multires_edge.format.pooling import Cumulative
from multires_edge.runtime.backends.cuda.network import Network
from multires_edge.runtime.backends.cuda.plan import in_quads, make_plan
from multires_edge.runtime.backends.cuda.weights_file import WeightsFile
from tests.conftest import random_net, variant
from tests.runtime.backends.cuda.compiled import network_of
from tests.runtime.backends.test_native_queues import network_in

Tensors = dict[str, NDArray[Any]]
WHOLE = native_weights(network_in("int8", "int8", random_net(variant())), Cumulative(), None, "int8")
HEADER = int.from_bytes(WHOLE[:8], "little")


def load(content: bytes) -> None:
    make_plan(network_of(content), 1)


def changed(change: Callable[[Tensors], object], **metadata: str) -> bytes:
    """The file with other tensors or metadata."""
    tensors: Tensors = {name: array.copy() for name, array in safetensors.numpy.load(WHOLE).items()}
    change(tensors)
    header = json.loads(WHOLE[8 : 8 + HEADER])
    return safetensors.numpy.save(tensors, header["__metadata__"] | metadata)


def test_has_the_tensors_of_the_library() -> None:
    file = WeightsFile(WHOLE, Path("weights"))
    for name, tensor in safetensors.numpy.load(WHOLE).items():
        assert np.array_equal(file.tensor(name, tensor.shape, (tensor.dtype,)), tensor)


@given(st.integers(0, len(WHOLE) - 1))
def test_cut_anywhere(size: int) -> None:
    with pytest.raises(BundleError, match="export the checkpoint again"):
        load(WHOLE[:size])


@given(st.integers(0, 8 + HEADER - 1), st.integers(0, 255))
def test_any_byte_of_the_header_changed_is_an_error_or_harmless(where: int, value: int) -> None:
    data = bytearray(WHOLE)
    data[where] = value
    try:
        load(bytes(data))
    except BundleError as error:
        assert str(error).startswith("weights.safetensors: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("d_model", "0"), ("d_model", "-1"), ("d_model", "9" * 30), ("d_model", "٣"), ("depth", "31"),
        ("n_tokens", "5"), ("norm_groups", "3"), ("activation", "tanh"), ("queues", "int4"),
        ("norm_epsilon", "nan"), ("norm_epsilon", "x"), ("pooling", "mean+mean"), ("version", "3"),
        ("mixing", "plain"), ("filters", "untied"), ("kernel_size", "3"), ("n_layers", "3"),
    ],
)  # fmt: skip
def test_metadata(key: str, value: str) -> None:
    with pytest.raises(BundleError, match="export the checkpoint again"):
        load(changed(lambda _: None, **{key: value}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layers.0.mixing.input_scales", 0, "not above 0"),
        ("layers.1.mixing.weight_scales", -1, "not above 0"),
        ("layers.0.mixing.input_scales", 1e-39, "too small"),
        ("layers.1.queue_scales", 1e-39, "not a normal number above 0"),
        ("layers.1.queue_scales", 3e38, "overflow float32"),
        ("head.weight", np.nan, "NaN or infinity"),
    ],
)
def test_values(name: str, value: float, message: str) -> None:
    def change(tensors: Tensors) -> None:
        tensors["layers.1.highpass.2"][...] = 2
        tensors[name].flat[-1] = value

    with pytest.raises(BundleError, match=message):
        load(changed(change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("head.bias"), r"head\.bias is missing"),
        (lambda tensors: tensors.pop("layers.1.norm.scale"), r"layers\.1\.norm\.scale is missing"),
        (lambda tensors: tensors.pop("layers.0.norm.scale"), "no norm that the kernel knows"),
        (lambda tensors: tensors.update({"head.bias": np.zeros(4, np.float32)}), r"has shape \(4,\)"),
        (lambda tensors: tensors.update({"head.bias": np.zeros(3, np.float16)}), "is float16, expected"),
        (
            lambda tensors: tensors.update({"layers.1.highpass.0": np.zeros((5, 8), np.float32)}),
            "filters differ in length",
        ),
        (
            lambda tensors: tensors.update({"layers.1.output.weight": np.zeros((8, 8), np.float32)}),
            r"layers\.1\.output\.bias is missing",
        ),
    ],
)
def test_tensors(change: Callable[[Tensors], object], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load(changed(change))


@pytest.mark.parametrize(("dtype", "group"), [(np.float32, 1), (np.float16, 1), (np.int8, 4)])
def test_quads(dtype: Any, group: int) -> None:
    """Word k of output o has the weights of inputs group * k and on."""
    weights = np.random.default_rng(0).integers(-99, 99, (6, 7)).astype(dtype)
    quads = in_quads(weights)
    assert quads.shape == (-(-7 // group), 8, group)
    for k, o, i in np.ndindex(quads.shape):
        there = o < 6 and group * k + i < 7
        assert quads[k, o, i] == (weights[o, group * k + i] if there else 0)


def test_a_window_of_the_callers_own() -> None:
    network = Network(WeightsFile(WHOLE, Path("weights")), 5)
    assert network.state_shapes(2)["pool_prefix"] == ("float32", (2, 1, 6, 16))
