"""What a residual block computes, as the user and training programs say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from multires_edge.base.errors import ConfigError
from multires_edge.format.config import ModelConfig
from multires_edge.models.block_options import block_option
from multires_edge.models.checkpoint import read_checkpoint
from multires_edge.models.inference import Inferred, Overrides, infer_config
from tests.conftest import random_net, save_published, variant

PRE_RMS: dict[str, Any] = {"norm": "rms", "norm_place": "before", "norm_eps": 1e-6, "activation": "silu"}


def inferred(path: Path, **block: Any) -> Inferred:
    return infer_config(read_checkpoint(path), Overrides("fading", block=block))


def saved(config: ModelConfig, folder: Path, **options: Any) -> Path:
    """A checkpoint without args.txt, with options as Lightning has them."""
    path = folder / "model.ckpt"
    torch.save({"state_dict": random_net(config).state_dict(), "hyper_parameters": options}, path)
    return path


class TestOption:
    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("norm=rms", ("norm", "rms")),
            ("norm_eps=1e-6", ("norm_eps", 1e-6)),
            ("norm_groups=4", ("norm_groups", 4)),
            ("mixing_output=true", ("mixing_output", True)),
        ],
    )
    def test_is_read(self, text: str, part: tuple[str, Any]) -> None:
        assert block_option(text) == part

    @pytest.mark.parametrize("text", ["norm", "norm=", "=rms", "nrom=rms", "d_model=3"])
    def test_names_the_parts_there_are(self, text: str) -> None:
        with pytest.raises(ConfigError, match="norm_place"):
            block_option(text)

    @pytest.mark.parametrize(
        ("block", "words"),
        [
            ({"activation": "swich"}, "expected one of gelu, gelu_tanh, relu"),
            ({"norm": "instance"}, "expected one of layer, batch, rms"),
            ({"norm_eps": "small"}, "norm_eps is 'small', expected a number"),
            ({"norm_place": "behind"}, "expected after or before"),
            ({"filters": "untied"}, "filters is given as untied, but its tensors have tied"),
            ({"mixing": "plain"}, "mixing is given as plain, but its tensors have glu"),
            ({"mixing_output": True}, "mixing_output is given as True"),
        ],
    )
    def test_a_wrong_value_is_refused(self, block: dict[str, Any], words: str, tmp_path: Path) -> None:
        path = saved(variant(), tmp_path)
        with pytest.raises(ConfigError, match=words):
            inferred(path, **block)

    def test_says_what_shapes_leave_open(self, tmp_path: Path) -> None:
        config = variant(**PRE_RMS)
        found = inferred(saved(config, tmp_path), **PRE_RMS)
        assert found.config == config
        assert not any(text.startswith("blocks") for text in found.assumed)


class TestTrainingOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"norm": "RMSNorm", "prenorm": True, "norm_eps": 1e-6, "activation": "SiLU"},
            {"norm_type": "rms", "norm_place": "before", "layer_norm_eps": 1e-6, "act": "swish"},
        ],
    )
    def test_are_taken(self, options: dict[str, Any], tmp_path: Path) -> None:
        config = variant(**PRE_RMS)
        assert inferred(saved(config, tmp_path, **options)).config == config

    def test_of_args_txt_are_taken(self, tmp_path: Path) -> None:
        config = variant(**PRE_RMS)
        args = "--norm=rms\n--pre_norm\n--norm_eps 1e-6\n--activation=silu"
        assert inferred(save_published(random_net(config), tmp_path, args)).config == config

    def test_that_mean_something_else_are_ignored(self, tmp_path: Path) -> None:
        path = saved(variant(), tmp_path, norm=2.0, activation="mish", prenorm="yes")
        assert inferred(path).config == variant()


def test_the_rest_is_assumed_and_said(tmp_path: Path) -> None:
    found = inferred(saved(variant(), tmp_path), norm_eps=1e-6)
    assert "blocks with norm layer, norm_place after, activation gelu" in found.assumed
    found = inferred(saved(variant(norm="none"), tmp_path))
    assert "blocks with activation gelu" in found.assumed
