"""The picture of a network says what the configuration says."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.export.picture import duration, network_picture
from multires_edge.format.manifest import Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.specs import TensorSpec
from multires_edge.runtime import Bundle
from tests.conftest import SMALL
from tests.runtime.conftest import twelve_leads

__all__ = ["twelve_leads"]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def bars(svg: str) -> list[float]:
    return [float(width) for width in re.findall(r'class="bar" [^>]* width="([\d.]+)"', svg)]


@pytest.fixture(scope="module")
def manifest(twelve_leads: Bundle) -> Manifest:
    return twelve_leads.manifest


def test_the_demonstration(manifest: Manifest) -> None:
    svg = network_picture(manifest)
    told = texts(svg)
    assert told[:9] == [
        "input", "12 channels", "100 Hz", "encoder", "linear", "to 64 channels",
        "4 layers", "multiresolution,", "mixing, layer norm",
    ]  # fmt: skip
    assert {"pooling", "5 labels", "scale 9, dilation 512", "1,023 steps, 10.2 s", "1 step, 10 ms"} <= set(
        told
    )
    assert bars(svg) == sorted(bars(svg)) and len(bars(svg)) == 10


@given(
    st.sampled_from(["fading", "uniform"]),
    st.integers(2, 4),
    st.integers(1, 12),
    st.integers(1, 5),
    st.data(),
)
def test_the_longest_bar_is_the_receptive_field_of_a_layer(
    manifest: Manifest, tree: str, kernel: int, depth: int, layers: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(2, 40)) if tree == "uniform" else None
    shape = {"kernel_size": kernel, "depth": depth, "n_layers": layers}
    config = replace(SMALL, **shape, tree_select=tree, memory_size=size)  # type: ignore[arg-type]
    svg = network_picture(replace(manifest, network=config, preprocessing=None))
    scales = [text for text in texts(svg) if re.fullmatch(r"[\d,]+ steps?", text)]
    reaches = [int(text.split()[0].replace(",", "")) for text in scales]
    assert len(bars(svg)) == len(reaches) <= depth
    assert max(reaches, default=0) == config.layer_receptive_field - 1
    assert f"{layers} layers" in texts(svg)


def test_names_are_escaped(manifest: Manifest) -> None:
    tensors = (TensorSpec("x", "float32", ("batch", 2, "time")),), (TensorSpec("y", "float32", ("batch", 3)),)
    own = ModuleConfig("net:<b>Net</b>", *tensors, {}, 7, "tanh is no activation of a block", "joined")
    svg = network_picture(replace(manifest, network=own))
    assert "<b>" not in svg
    assert texts(svg) == [
        "input",
        "x (batch, 2, time)",
        "your module",
        "<b>Net</b>",
        "output",
        "y (batch, 3)",
    ]


@pytest.mark.parametrize(
    ("steps", "rate", "text"),
    [
        (1, None, "1 step"),
        (4093, 100.0, "4,093 steps, 40.9 s"),
        (1, 250.0, "1 step, 4 ms"),
        (720_000, 100.0, "720,000 steps, 120 min"),
        (0, None, "0 steps"),
    ],
)
def test_durations(steps: int, rate: float | None, text: str) -> None:
    assert duration(steps, rate) == text
