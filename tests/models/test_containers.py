"""The files in which people keep weights, and the ones that have none."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import gzip
import json
import pathlib
import tarfile
import typing
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from multires_edge.base.errors import CheckpointError, ConfigError
from multires_edge.models import load_checkpoint
from multires_edge.models.checkpoint import read_checkpoint
from multires_edge.models.inference import Overrides
from multires_edge.models.network import MultiresNet
from tests.conftest import SMALL, random_net, variant

FADING = Overrides(tree_select="fading")
NET = random_net(SMALL)
STATE: dict[str, Any] = dict(NET.state_dict())
UNIFORM = variant(tree_select="uniform", memory_size=12, depth=5)


def behind(prefix: str) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


def lightning(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a Trainer saves."""
    return {
        "epoch": 3, "pytorch-lightning_version": "2.6.6", "state_dict": state, "loops": {},
        "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(0.5), "dirpath": "/runs"}},
        "optimizer_states": [torch.optim.AdamW(NET.parameters()).state_dict()], "lr_schedulers": [], **more,
    }  # fmt: skip


def is_net(path: Path, overrides: Overrides = FADING) -> bool:
    loaded = load_checkpoint(path, overrides).state_dict()
    return loaded.keys() == STATE.keys() and all(torch.equal(loaded[name], STATE[name]) for name in STATE)


def halves() -> tuple[dict[str, Any], dict[str, Any]]:
    names = sorted(STATE)
    return {n: STATE[n] for n in names[:7]}, {n: STATE[n] for n in names[7:]}


CONTENTS: dict[str, Any] = {
    "a bare state dict": STATE,
    "under any name": {"net": STATE},
    "two levels down": {"ema": {"shadow": STATE}},
    "in a list": {"models": [STATE]},
    "DataParallel": {"model": behind("module.")},
    "compiled": behind("_orig_mod."),
    "compiled, then DataParallel": behind("module._orig_mod."),
    "DataParallel, then compiled": behind("_orig_mod.module."),
    "compiled inside": {name.replace("layers.0.", "layers.0._orig_mod."): t for name, t in STATE.items()},
    "FSDP": behind("_fsdp_wrapped_module."),
    "averaged": torch.optim.swa_utils.AveragedModel(NET).state_dict(),
    "Lightning": lightning(behind("model.")),
    "Lightning, nested": lightning(behind("ts_encoder.predictor.predictor.")),
    "Lightning, two attributes of one network": lightning({**behind("model."), **behind("ema.")}),
    "a Namespace, a path, a date, a default dictionary": {
        "state_dict": STATE,
        "args": argparse.Namespace(out=pathlib.PurePosixPath("/runs"), when=datetime.datetime(2026, 1, 1)),
        "history": collections.defaultdict(list, loss=[0.5]),
        "last": collections.deque([1, 2], maxlen=3),
        "random": np.random.RandomState(0).get_state(),
        "optimizer": functools.partial(torch.optim.AdamW, lr=1e-3),
        "loss": torch.nn.BCEWithLogitsLoss(),
        "types": (dict[str, Any], typing.Dict[str, Any], typing.Tuple[float, ...], typing.Optional[int]),  # noqa: UP006, UP045
    },
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.filterwarnings("ignore:.*left out")
def test_the_network_is_found(name: str, tmp_path: Path) -> None:
    torch.save(CONTENTS[name], tmp_path / "model.ckpt")
    assert is_net(tmp_path / "model.ckpt")


class TestWhatIsLeftOut:
    @pytest.mark.parametrize("name", ["criterion.pos_weight", "n_averaged", "seq_layers.0.total_ops"])
    def test_is_named(self, name: str, tmp_path: Path) -> None:
        torch.save(STATE | {name: torch.ones(1)}, tmp_path / "model.ckpt")
        with pytest.warns(UserWarning, match=f"left out: {name}"):
            assert is_net(tmp_path / "model.ckpt")

    def test_outside_the_prefix(self, tmp_path: Path) -> None:
        torch.save(lightning(behind("model.") | {"stem.weight": torch.ones(1)}), tmp_path / "model.ckpt")
        with pytest.warns(UserWarning, match=r"left out: stem\.weight"):
            assert is_net(tmp_path / "model.ckpt")

    def test_never_a_part_of_the_network(self, tmp_path: Path) -> None:
        torch.save(behind("model.") | {"model.stem.weight": torch.ones(1)}, tmp_path / "model.ckpt")
        with pytest.raises(CheckpointError, match=r"unexpected stem\.weight"):
            load_checkpoint(tmp_path / "model.ckpt", FADING)


class TestSeveralNetworks:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        average = {name: tensor + 1 for name, tensor in STATE.items()}
        torch.save({"model": behind("module."), "model_ema": average}, tmp_path / "model.ckpt")
        return tmp_path / "model.ckpt"

    @pytest.mark.parametrize("content", [[STATE, STATE], {"model": STATE, "best": {"model": STATE}}])
    def test_equal_ones_are_asked_about(self, content: Any, tmp_path: Path) -> None:
        """Only the user knows which of them the file is kept for."""
        torch.save(content, tmp_path / "model.ckpt")
        with pytest.raises(ConfigError, match=r"2 networks: .*choose one with --weights"):
            load_checkpoint(tmp_path / "model.ckpt", FADING)

    def test_are_asked_about(self, path: Path) -> None:
        with pytest.raises(ConfigError, match=r"2 networks: model\.module, model_ema; choose .*--weights"):
            load_checkpoint(path, FADING)

    def test_are_chosen_by_name(self, path: Path) -> None:
        assert is_net(path, Overrides(tree_select="fading", weights="model.module"))
        assert not is_net(path, Overrides(tree_select="fading", weights="model_ema"))

    def test_an_unknown_name(self, path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no weights 'ema', expected one of: model\.module, model_ema"):
            load_checkpoint(path, Overrides(weights="ema"))


class TestWeightNorm:
    @pytest.mark.parametrize(
        "normed", [torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.weight_norm]
    )
    @pytest.mark.filterwarnings("ignore:.*weight_norm")
    @pytest.mark.parametrize("axis", [0, 1, None])
    def test_is_folded(self, normed: Callable[..., Any], axis: int | None, tmp_path: Path) -> None:
        net = random_net(SMALL)
        normed(net.encoder, dim=axis)
        normed(net.seq_layers[0], name="h1", dim=axis)
        assert "encoder.weight" not in net.state_dict()
        torch.save(net.state_dict(), tmp_path / "model.pth")
        loaded = load_checkpoint(tmp_path / "model.pth", FADING).state_dict()
        for name, tensor in STATE.items():
            torch.testing.assert_close(loaded[name], tensor)


class TestEquivalentLayers:
    def same_outputs(self, state: dict[str, Any], tmp_path: Path, **overrides: Any) -> bool:
        torch.save(state, tmp_path / "model.pth")
        loaded = load_checkpoint(tmp_path / "model.pth", Overrides(tree_select="fading", **overrides))
        x = torch.randn(2, loaded.config.channels, 50)
        return torch.equal(loaded(x), NET(x))

    def test_linear_encoder_mixing_and_convolution_as_head(self, tmp_path: Path) -> None:
        state = {name: t[..., 0] if name.endswith(("encoder.weight", "0.weight")) and t.dim() == 3 else t
                 for name, t in STATE.items()}  # fmt: skip
        assert state["encoder.weight"].dim() == state["mixing_layers.1.0.weight"].dim() == 2
        assert self.same_outputs(
            state | {"output_mapping.weight": STATE["output_mapping.weight"][..., None]}, tmp_path
        )

    def test_missing_biases_are_zero(self, tmp_path: Path) -> None:
        net = random_net(SMALL)
        for name in ("encoder.bias", "mixing_layers.0.0.bias", "output_mapping.bias"):
            net.get_parameter(name).zero_()
        state = {name: tensor for name, tensor in net.state_dict().items() if tensor.any() or "norm" in name}
        torch.save(state, tmp_path / "model.pth")
        loaded = load_checkpoint(tmp_path / "model.pth", FADING).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in net.state_dict().items())

    def test_a_square_encoder_is_asked_about(self, tmp_path: Path) -> None:
        config = variant(encoder="token", n_tokens=SMALL.d_model)
        table = random_net(config)
        torch.save(table.state_dict(), tmp_path / "model.pth")
        with pytest.raises(ConfigError, match="--encoder token or --encoder linear"):
            load_checkpoint(tmp_path / "model.pth", FADING)
        chosen = [Overrides(tree_select="fading", encoder=kind) for kind in ("token", "linear")]
        assert load_checkpoint(tmp_path / "model.pth", chosen[0]).config == config
        assert load_checkpoint(tmp_path / "model.pth", chosen[1]).config == variant(d_input=SMALL.d_model)


class TestFolders:
    def test_whole(self, tmp_path: Path) -> None:
        safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
        assert is_net(tmp_path)

    @pytest.mark.parametrize("suffix", ["safetensors", "bin"])
    def test_shards(self, tmp_path: Path, suffix: str) -> None:
        files = [f"model-0000{i}.{suffix}" for i in (1, 2)]
        index = {name: file for file, half in zip(files, halves(), strict=True) for name in half}
        for file, half in zip(files, halves(), strict=True):
            if suffix == "bin":
                torch.save(half, tmp_path / file)
            else:
                safetensors.torch.save_file(half, tmp_path / file)
        whole = "pytorch_model.bin" if suffix == "bin" else "model.safetensors"
        (tmp_path / f"{whole}.index.json").write_text(json.dumps({"weight_map": index}))
        assert is_net(tmp_path)

    @pytest.mark.parametrize("shard", ["missing.safetensors", "../ckpt.pth", "/etc/passwd", 3, ""])
    def test_a_shard_elsewhere_is_refused(self, tmp_path: Path, shard: Any) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        torch.save(STATE, tmp_path / "ckpt.pth")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
        with pytest.raises(CheckpointError, match="shard"):
            read_checkpoint(folder)

    def test_an_index_is_given(self, tmp_path: Path) -> None:
        """transformers puts the name of a variant before the suffix."""
        torch.save(STATE, tmp_path / "part.bin")
        index = tmp_path / "pytorch_model.bin.index.best.json"
        index.write_text(json.dumps({"weight_map": dict.fromkeys(STATE, "part.bin")}))
        assert is_net(index) and is_net(tmp_path)

    def test_variants(self, tmp_path: Path) -> None:
        safetensors.torch.save_file(STATE, tmp_path / "model.best.safetensors")
        assert is_net(tmp_path)
        safetensors.torch.save_file(STATE, tmp_path / "model.last.safetensors")
        with pytest.raises(CheckpointError, match=r"several weights: model\.best.*, model\.last.*; give one"):
            load_checkpoint(tmp_path)
        assert is_net(tmp_path / "model.best.safetensors")

    def test_options_are_in_config_json(self, tmp_path: Path) -> None:
        net = random_net(UNIFORM)
        safetensors.torch.save_file(dict(net.state_dict()), tmp_path / "model.safetensors")
        options = {"tree_select": "uniform", "depth": 5, "d_mem": 12, "architectures": ["Net"]}
        (tmp_path / "config.json").write_text(json.dumps(options))
        assert load_checkpoint(tmp_path).config == UNIFORM

    def test_safetensors_under_another_suffix(self, tmp_path: Path) -> None:
        safetensors.torch.save_file(STATE, tmp_path / "model.ckpt")
        assert is_net(tmp_path / "model.ckpt")


class TestHyperParameters:
    @pytest.mark.parametrize(
        "options",
        [
            {"tree_select": "uniform", "depth": 5, "d_mem": 12, "lr": 1e-3},
            {"model": {"tree-select": "uniform", "depth": 5}},
            argparse.Namespace(tree_select="uniform", depth=5),
            argparse.Namespace(model=argparse.Namespace(tree_select="uniform", depth=5)),
        ],
    )
    def test_serve_as_args_txt_does(self, options: Any, tmp_path: Path) -> None:
        torch.save(
            lightning(random_net(UNIFORM).state_dict(), hyper_parameters=options), tmp_path / "model.ckpt"
        )
        assert load_checkpoint(tmp_path / "model.ckpt").config == UNIFORM

    def test_a_depth_of_something_else_is_asked_about(self, tmp_path: Path) -> None:
        state = random_net(UNIFORM).state_dict()
        torch.save(lightning(state, hyper_parameters={"depth": 5}), tmp_path / "model.ckpt")
        with pytest.raises(ConfigError, match=r"depth 5 of .*hyper_parameters.*--tree-select uniform"):
            load_checkpoint(tmp_path / "model.ckpt")

    def test_without_a_tree_it_is_assumed_and_said(self, tmp_path: Path) -> None:
        torch.save(lightning(STATE, hyper_parameters={"lr": 1e-3}), tmp_path / "model.ckpt")
        with pytest.warns(UserWarning, match="assumed a fading tree"):
            load_checkpoint(tmp_path / "model.ckpt")


class TestArgs:
    @pytest.mark.parametrize(
        "lines",
        [
            ["--tree_select=uniform", "--d_mem=12", "--depth=5"],
            ["--tree", "uniform", "--d_me", "12", "--dep", "5"],
            ["--tr=uniform", "--dep=5"],
        ],
    )
    def test_abbreviated_as_their_parser_takes_them(self, lines: list[str], tmp_path: Path) -> None:
        torch.save(random_net(UNIFORM).state_dict(), tmp_path / "ckpt.pth")
        (tmp_path / "args.txt").write_text("\n".join(lines))
        assert load_checkpoint(tmp_path / "ckpt.pth").config == UNIFORM

    def test_an_abbreviation_of_several_is_refused(self, tmp_path: Path) -> None:
        torch.save(STATE, tmp_path / "ckpt.pth")
        (tmp_path / "args.txt").write_text("--d=5")
        with pytest.raises(CheckpointError, match=r"--d may mean d_mem, d_model.*in full"):
            read_checkpoint(tmp_path / "ckpt.pth")


def zipped(names: list[str]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "")

    return write


def in_a_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "model.pt")


def a_script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def an_exported_program(path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)


OTHER_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"weights")), "gunzip"),
    "a tar archive": (in_a_tar, "unpack it"),
    "TorchScript": (a_script, r"torch\.jit\.load"),
    "torch.export": (an_exported_program, r"torch\.export\.load"),
    "any zip archive": (zipped(["a/b.txt"]), "torch.save did not write"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "Keras"),
    "numpy": (lambda path: np.save(path.open("wb"), np.ones(3)), "numpy array"),
    "Git LFS": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "a page": (lambda path: path.write_text("<!doctype html><title>Not found</title>"), "download"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_say_what_they_are(name: str, tmp_path: Path) -> None:
    write, words = OTHER_FILES[name]
    write(tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("file", "words"), [(".metadata", "dcp_to_torch"), ("zero_to_fp32.py", "zero_to_fp32")]
)
def test_folders_to_convert_first(file: str, words: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path)


class Own:
    """A class of the user's program."""


@pytest.mark.parametrize("baggage", [Own(), print, eval, json.loads, pathlib.Path.unlink])
def test_other_classes_are_refused(baggage: Any, tmp_path: Path) -> None:
    torch.save({"model": STATE, "config": baggage}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="nothing was run"):
        read_checkpoint(tmp_path / "model.ckpt")


def test_a_network_is_not_a_module(tmp_path: Path) -> None:
    torch.save(MultiresNet(SMALL), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="Save the state dict alone"):
        read_checkpoint(tmp_path / "model.pth")
