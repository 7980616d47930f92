"""The ranges that an engine is built for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.base.errors import InputError
from multires_edge.format.specs import GraphSpec, TensorSpec
from multires_edge.format.targets import MOST_ELEMENTS
from multires_edge.runtime.engine_builder.shapes import Profile, Range

FULL = GraphSpec(
    "full.onnx", "", 24,
    (TensorSpec("x", "float32", ("batch", 12, "time")),),
    (TensorSpec("logits", "float32", ("batch", 5)),),
)  # fmt: skip


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=3))
def test_a_range_as_it_is_written(sizes: list[int]) -> None:
    text = ":".join(map(str, sorted(sizes)))
    assert str(Range.parse(text, "--batch")) == text
    assert Range.parse(str(sizes[0]), "--batch") == Range(sizes[0], sizes[0], sizes[0])


@pytest.mark.parametrize("text", ["", "1:2", "1:2:3:4", "a", "-1:1:1", "1.5", "1::2", "٣", "9" * 20])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(InputError, match="or MIN:OPT:MAX"):
        Range.parse(text, "--batch")


@pytest.mark.parametrize("text", ["0", "0:1:2", "2:1:3", "1:4:3"])
def test_a_range_in_disorder(text: str) -> None:
    with pytest.raises(InputError, match="1 <= MIN <= OPT <= MAX"):
        Range.parse(text, "--time")


def test_shapes_of_a_tensor() -> None:
    profile = Profile({"batch": Range(1, 2, 4), "time": Range(1, 100, 1000)})
    assert profile.shapes(("batch", 12, "time")) == ([1, 12, 1], [2, 12, 100], [4, 12, 1000])
    assert profile.shapes((3,)) == ([3], [3], [3])


def test_the_widest_row_decides_how_much_fits() -> None:
    width = 256
    most = MOST_ELEMENTS // width
    Profile({"batch": Range(1, 1, 1), "time": Range(1, 1, most)}).check(FULL, width)
    with pytest.raises(InputError, match=r"--batch 1:1:1 and --time 1:1:\d+ makes a tensor of"):
        Profile({"batch": Range(1, 1, 1), "time": Range(1, 1, most + 1)}).check(FULL, width)
