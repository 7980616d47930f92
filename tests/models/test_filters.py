"""Filters in other forms than the published: for each scale, as a list, or shared by the channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from multires_edge.base.errors import CheckpointError
from multires_edge.models import load_checkpoint
from multires_edge.models.network import MultiresNet
from tests.conftest import random_inputs, random_net, save_published, variant

UNTIED = variant(filters="untied", depth=3)


def saved(tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    path = folder / "model.pth"
    torch.save(tensors, path)
    (folder / "args.txt").write_text("--layer=multires")
    return path


def same(net: MultiresNet, other: MultiresNet) -> bool:
    inputs = torch.from_numpy(random_inputs(net.config, 2, 40))
    return torch.equal(net(inputs), other(inputs))


def test_of_each_scale_are_known_by_their_shape(tmp_path: Path) -> None:
    net = random_net(UNTIED)
    loaded = load_checkpoint(save_published(net, tmp_path))
    assert loaded.config == UNTIED and same(net, loaded)


def as_lists(net: MultiresNet) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in net.state_dict().items():
        if name.endswith((".h0", ".h1")):
            tensors |= {f"{name}.{j}": each.clone() for j, each in enumerate(tensor)}
        else:
            tensors[name] = tensor
    return tensors


def test_as_a_list(tmp_path: Path) -> None:
    net = random_net(UNTIED)
    loaded = load_checkpoint(saved(as_lists(net), tmp_path))
    assert loaded.config == UNTIED and same(net, loaded)


@pytest.mark.parametrize("missing", ["seq_layers.0.h0.1", "seq_layers.1.h1.2"])
def test_a_list_with_a_gap_is_refused(missing: str, tmp_path: Path) -> None:
    tensors = as_lists(random_net(UNTIED))
    del tensors[missing]
    with pytest.raises(CheckpointError, match=r"seq_layers\.\d\.h"):
        load_checkpoint(saved(tensors, tmp_path))


@pytest.mark.parametrize("filters", ["tied", "untied"])
def test_shared_by_the_channels(filters: str, tmp_path: Path) -> None:
    config = variant(filters=filters)
    net = random_net(config)
    tensors = net.state_dict()
    for name in [name for name in tensors if name.endswith((".h0", ".h1"))]:
        shared = tensors[name].narrow(-3, 0, 1).clone()
        tensors[name].copy_(shared.expand_as(tensors[name]))
        tensors[name] = shared
    loaded = load_checkpoint(saved(tensors, tmp_path))
    assert loaded.config == config and same(net, loaded)
