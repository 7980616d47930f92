"""What follows from tensors and training arguments, and what must be asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from multires_edge.base.errors import CheckpointError, ConfigError
from multires_edge.format.config import ModelConfig
from multires_edge.models import load_checkpoint
from multires_edge.models.inference import Overrides
from multires_edge.models.training_args import read_training_args
from tests.conftest import configs, random_net, save_published, variant

UNIFORM = variant(tree_select="uniform", memory_size=7, depth=4, kernel_size=4)


@pytest.mark.slow
@given(config=configs(published=True))
@settings(max_examples=30)
def test_every_configuration_is_found_again(
    config: ModelConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save_published(random_net(config), tmp_path_factory.mktemp("run"))
    assert load_checkpoint(path).config == config


class TestUniformDepth:
    def test_must_be_asked_for(self, tmp_path: Path) -> None:
        path = save_published(random_net(UNIFORM), tmp_path, "--tree_select=uniform\n--d_mem=7")
        with pytest.raises(ConfigError, match=r"--depth N.*--training-length N"):
            load_checkpoint(path)

    def test_by_option(self, tmp_path: Path) -> None:
        path = save_published(random_net(UNIFORM), tmp_path, "--tree_select=uniform\n--d_mem=7")
        assert load_checkpoint(path, Overrides(depth=4)).config == UNIFORM
        assert load_checkpoint(path, Overrides(training_length=40)).config == UNIFORM

    @pytest.mark.parametrize(("dataset", "depth"), [("ptbxl", 9), ("cifar10", 9), ("listops", 10)])
    def test_by_data_set(self, tmp_path: Path, dataset: str, depth: int) -> None:
        args = f"--tree_select=uniform\n--d_mem=7\n--dataset={dataset}"
        path = save_published(random_net(UNIFORM), tmp_path, args)
        assert load_checkpoint(path).config.depth == depth

    def test_an_unknown_data_set_is_no_answer(self, tmp_path: Path) -> None:
        args = "--tree_select=uniform\n--d_mem=7\n--dataset=mine"
        path = save_published(random_net(UNIFORM), tmp_path, args)
        with pytest.raises(ConfigError, match="--depth"):
            load_checkpoint(path)


class TestWithoutArgs:
    def test_is_taken_as_fading_and_said(self, tmp_path: Path) -> None:
        path = save_published(random_net(variant()), tmp_path, args=None)
        with pytest.warns(UserWarning, match="fading tree of depth 3"):
            assert load_checkpoint(path).config == variant()

    def test_a_memory_too_large_for_a_fading_tree_is_asked_about(self, tmp_path: Path) -> None:
        config = variant(tree_select="uniform", memory_size=24, depth=5)
        path = save_published(random_net(config), tmp_path, args=None)
        with pytest.raises(ConfigError, match="--tree-select uniform with --depth"):
            load_checkpoint(path)
        assert load_checkpoint(path, Overrides("uniform", 5)).config == config


def test_a_depth_that_contradicts_a_fading_tree(tmp_path: Path) -> None:
    path = save_published(random_net(variant()), tmp_path)
    with pytest.raises(ConfigError, match="--depth 5 contradicts"):
        load_checkpoint(path, Overrides(depth=5))
    with pytest.raises(ConfigError, match="--training-length 1000 contradicts"):
        load_checkpoint(path, Overrides(training_length=1000))
    assert load_checkpoint(path, Overrides(training_length=8)).config.depth == 3


@pytest.mark.parametrize(
    "line", ["--kernel_size=4", "--n_layers=7", "--d_model=99", "--batchnorm", "--depth=9", "--d_mem=5"]
)
def test_args_of_another_run_are_refused(tmp_path: Path, line: str) -> None:
    config = variant(tree_select="uniform", memory_size=9) if "d_mem" in line else variant()
    args = f"--tree_select={config.tree_select}\n--dataset=ptbxl\n{line}"
    path = save_published(random_net(config), tmp_path, args)
    with pytest.raises(ConfigError, match=r"args\.txt: has .* belongs to another run"):
        load_checkpoint(path)


def test_a_linked_checkpoint_keeps_its_args(tmp_path: Path) -> None:
    path = save_published(random_net(UNIFORM), tmp_path / "run")
    link = tmp_path / "elsewhere" / "model.pth"
    link.parent.mkdir()
    link.symlink_to(path)
    assert load_checkpoint(link).config == UNIFORM


class TestTrainingArgs:
    def read(self, tmp_path: Path, text: str) -> object:
        (tmp_path / "args.txt").write_text(text)
        return read_training_args(tmp_path / "args.txt")

    def test_one_line_two_lines_and_flags(self, tmp_path: Path) -> None:
        args = self.read(tmp_path, "--kernel_size=4\n--warmup\n5\n--batchnorm\n--d_mem\n7\n--depth=3")
        assert (args.kernel_size, args.d_mem, args.depth) == (4, 7, 3)  # type: ignore[attr-defined]
        assert args.batchnorm and args.tree_select is None  # type: ignore[attr-defined]

    def test_key_and_value_on_one_line_a_byte_order_mark_and_windows_line_ends(self, tmp_path: Path) -> None:
        (tmp_path / "args.txt").write_bytes(b"\xef\xbb\xbf--tree_select uniform\r\n--depth = 7 \r\n")
        args = read_training_args(tmp_path / "args.txt")
        assert (args.tree_select, args.depth) == ("uniform", 7)

    def test_an_unknown_line_is_a_warning(self, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="unknown argument '--wandb=on'"):
            self.read(tmp_path, "--wandb=on\n--kernel_size=4")

    @pytest.mark.parametrize("text", ["--kernel_size=two", "--tree_select=tall", "--depth", "--depth=-3"])
    def test_a_value_that_cannot_be(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(CheckpointError, match=r"args\.txt"):
            self.read(tmp_path, text)
