"""The one rule for lists of names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.base.errors import ConfigError
from multires_edge.base.names import check_name, split_names

WORDS = st.lists(st.text("abc08.-", min_size=1), min_size=1, unique=True)


@given(WORDS, st.sampled_from([",", ", ", " ,  "]))
def test_blanks_around_names_do_not_count(names: list[str], comma: str) -> None:
    assert split_names(comma.join(names)) == names


@pytest.mark.parametrize("text", ["", " ", ",", "a,", ",a", "a,,b", "a, ,b"])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="has an empty name, expected names separated by commas, each once"):
        split_names(text)


@given(WORDS)
def test_a_repeated_name_is_refused(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="has a name twice, expected names separated by commas, each once"):
        split_names(",".join([*names, names[0]]))


def test_an_unknown_name_comes_with_the_nearest() -> None:
    check_name("precision", "fp32", ["fp32", "fp16"])
    with pytest.raises(ConfigError) as caught:
        check_name("precision", "FP61", ["fp32", "fp16"])
    assert str(caught.value) == "unknown precision 'FP61', expected one of fp32, fp16; did you mean fp16?"
    with pytest.raises(ConfigError, match=r"expected one of fp32, fp16$"):
        check_name("precision", "x", ["fp32", "fp16"])
