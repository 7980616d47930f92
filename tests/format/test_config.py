"""The configuration, and what follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.base.errors import ConfigError
from multires_edge.format.config import ModelConfig, depth_for_length
from multires_edge.format.fields import FieldError, plain, read_fields
from tests.conftest import SMALL, configs, variant


class TestDepth:
    @pytest.mark.parametrize(
        ("length", "kernel_size", "depth"),
        [(1000, 2, 10), (1024, 2, 10), (1025, 2, 11), (1024, 4, 9), (1000, 4, 9), (2048, 4, 10)],
    )
    def test_published_lengths(self, length: int, kernel_size: int, depth: int) -> None:
        assert depth_for_length(length, kernel_size) == depth

    @given(st.integers(2, 100_000), st.integers(2, 8))
    def test_covers_the_length_and_not_a_scale_more(self, length: int, kernel_size: int) -> None:
        depth = depth_for_length(length, kernel_size)
        assert (kernel_size - 1) * (2**depth - 1) >= length - 1
        assert (kernel_size - 1) * (2 ** (depth - 1) - 1) < length - 1


class TestMemoryColumns:
    def test_fading_spends_one_a_scale(self) -> None:
        assert [list(c) for c in variant(depth=4).memory_columns()] == [[4], [3], [2], [1]]

    def test_uniform_spends_coarsest_first_and_cuts_the_last(self) -> None:
        config = variant(tree_select="uniform", memory_size=10, depth=5)
        columns = [list(c) for c in config.memory_columns()]
        assert columns == [[], [8, 9], [4, 5, 6, 7], [2, 3], [1]]

    def test_uniform_with_longer_filters(self) -> None:
        config = variant(tree_select="uniform", memory_size=100, depth=4, kernel_size=4)
        assert [len(c) for c in config.memory_columns()] == [22, 10, 4, 1]

    @given(configs())
    def test_columns_are_disjoint_and_within_w(self, config: ModelConfig) -> None:
        used = [i for columns in config.memory_columns() for i in columns]
        assert len(used) == len(set(used)) == len(set(used) - {0, config.n_memory_weights - 1})
        assert max(used) < config.n_memory_weights


class TestHistory:
    def test_fading_needs_the_filters_reach(self) -> None:
        assert variant(depth=4, kernel_size=3).history() == [2, 4, 8, 16]

    def test_receptive_field_of_a_fading_layer(self) -> None:
        config = variant(depth=10, kernel_size=2, n_layers=6)
        assert config.layer_receptive_field == 1024
        assert config.receptive_field == 6 * 1023 + 1


class TestValidation:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"kernel_size": 1}, "kernel_size is 1"),
            ({"depth": 0}, "depth is 0"),
            ({"depth": 64}, "depth is 64, expected 1 to 20"),
            ({"n_layers": 10**9}, "n_layers is 1000000000, expected 1 to 1,000"),
            ({"norm": "instance"}, "norm is 'instance', expected one of layer, batch"),
            ({"norm": "group"}, "norm_groups is None with norm group"),
            ({"norm": "group", "norm_groups": 3}, "norm_groups is 3 .* divides 8 channels"),
            ({"norm_groups": 2}, "norm_groups is 2 with norm layer"),
            ({"norm_eps": -1e-5}, "norm_eps is -1e-05, expected 0 to 0.1"),
            ({"norm_place": "behind"}, "norm_place is 'behind', expected after or before"),
            ({"activation": "swish"}, "activation is 'swish', expected one of gelu, gelu_tanh"),
            ({"tree_select": "uniform"}, "memory_size is None"),
            ({"memory_size": 5}, "memory_size is 5 with tree_select fading"),
            ({"encoder": "token", "n_tokens": 0}, "n_tokens is 0"),
            ({"d_input": None}, "d_input is None"),
        ],
    )
    def test_names_what_is_wrong(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            variant(**changes)

    def test_survives_json(self) -> None:
        assert read_fields(ModelConfig, plain(SMALL)) == SMALL
        with pytest.raises(FieldError, match="model: has no encoder"):
            read_fields(ModelConfig, {"task": "classification"}, "model")
