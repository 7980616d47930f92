"""The mixing of a block in other forms than the published, as checkpoints have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from multires_edge.models import load_checkpoint
from tests.conftest import random_inputs, random_net, variant


@pytest.mark.parametrize("mixing", ["glu", "plain"])
@pytest.mark.parametrize("task", ["classification", "autoregressive"])
@pytest.mark.parametrize("second", [True, False])
def test_is_known_by_its_shapes(mixing: str, task: str, second: bool, tmp_path: Path) -> None:
    net = random_net(variant(mixing=mixing, task=task, mixing_output=second))
    torch.save(net.state_dict(), tmp_path / "model.pth")
    (tmp_path / "args.txt").write_text("--layer=multires")
    loaded = load_checkpoint(tmp_path / "model.pth")
    assert (loaded.config.mixing, loaded.config.second_convolution) == (mixing, second)
    inputs = torch.from_numpy(random_inputs(net.config, 2, 40))
    assert torch.equal(loaded(inputs), net(inputs))


@pytest.mark.parametrize(("first", "second"), [("", None), ("1.", None), ("0.", "2."), ("1.", "4.")])
def test_at_other_places_of_its_sequential(first: str, second: str | None, tmp_path: Path) -> None:
    net = random_net(variant(mixing="plain", mixing_output=second is not None))

    def renamed(name: str) -> str:
        if not name.startswith("mixing_layers"):
            return name
        _, layer, place, part = name.split(".")
        return f"mixing_layers.{layer}.{first if place == '0' else second}{part}"

    torch.save({renamed(name): value for name, value in net.state_dict().items()}, tmp_path / "model.pth")
    (tmp_path / "args.txt").write_text("--layer=multires")
    inputs = torch.from_numpy(random_inputs(net.config, 2, 40))
    assert torch.equal(load_checkpoint(tmp_path / "model.pth")(inputs), net(inputs))
