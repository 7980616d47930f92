"""What accelerate writes: states and models, whole and in shards, from wrapped and compiled networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.frameworks.harness import Saved, Writer, X, Y, difference, loss_of, trainable

accelerate = pytest.importorskip("accelerate", reason="needs accelerate, of the test extra")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Wrapped(nn.Module):
    """A user's module, with the network in an attribute and a part of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = trainable()
        self.offset: Tensor
        self.register_buffer("offset", torch.zeros(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x - self.offset)
        return y


def trained(
    write: Callable[[Any, Any, Path], Path], module: Callable[[], nn.Module] = trainable, **options: Any
) -> Writer:
    """A writer: ``write`` takes an Accelerator, the prepared model and a folder."""

    def run(folder: Path) -> Saved:
        # Accelerators of one process share their settings.
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = accelerate.Accelerator(cpu=True, **options)
        net = module()
        optimizer = torch.optim.AdamW(net.parameters())
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        model, optimizer, schedule = accelerator.prepare(net, optimizer, schedule)
        accelerator.backward(loss_of(model(X).float(), Y))
        optimizer.step()
        path = write(accelerator, model, folder)
        saved = accelerator.unwrap_model(model, keep_torch_compile=False)
        accelerator.free_memory()
        # Mixed precision also wraps the forward of the network that is kept.
        saved.__dict__.pop("forward", None)
        return Saved(path, saved)

    return run


def state(accelerator: Any, model: Any, folder: Path) -> Path:
    accelerator.save_state(folder / "state")
    return folder / "state"


def state_by_pickle(accelerator: Any, model: Any, folder: Path) -> Path:
    accelerator.save_state(folder / "state", safe_serialization=False)
    return folder / "state"


def weights_of_state(accelerator: Any, model: Any, folder: Path) -> Path:
    return state(accelerator, model, folder) / "model.safetensors"


def model_folder(**options: Any) -> Callable[[Any, Any, Path], Path]:
    def write(accelerator: Any, model: Any, folder: Path) -> Path:
        accelerator.save_model(model, folder / "model", **options)
        assert ("max_shard_size" in options) == (len(list((folder / "model").iterdir())) > 1)
        return folder / "model"

    return write


def saved_by(content: Callable[[Any, Any], Any], **options: Any) -> Callable[[Any, Any, Path], Path]:
    def write(accelerator: Any, model: Any, folder: Path) -> Path:
        accelerator.save(content(accelerator, model), folder / "model.bin", **options)
        return folder / "model.bin"

    return write


WRITERS: dict[str, Writer] = {
    "save_state": trained(state),
    "save_state, pickle": trained(state_by_pickle),
    "save_state, its weights": trained(weights_of_state),
    "save_state, wrapped": trained(state, Wrapped),
    "save_state, bf16": trained(state, mixed_precision="bf16"),
    "save_state, compiled": trained(state, dynamo_backend="eager"),
    "save_model": trained(model_folder()),
    "save_model, pickle": trained(model_folder(safe_serialization=False)),
    "save_model, shards": trained(model_folder(max_shard_size="1KB")),
    "save_model, pickled shards": trained(model_folder(max_shard_size="1KB", safe_serialization=False)),
    "save_model, wrapped": trained(model_folder(), Wrapped),
    "save_model, compiled": trained(model_folder(), dynamo_backend="eager"),
    "save": trained(saved_by(lambda made, model: made.get_state_dict(model))),
    "save, safetensors": trained(
        saved_by(lambda made, model: made.get_state_dict(model), safe_serialization=True)
    ),
    "save, unwrapped": trained(saved_by(lambda made, model: made.unwrap_model(model).state_dict())),
    "save, with numbers": trained(saved_by(lambda _, model: {"model": model.state_dict(), "epoch": 3})),
}


@pytest.mark.parametrize("name", WRITERS)
def test_is_the_network(name: str, tmp_path: Path) -> None:
    assert difference(WRITERS[name](tmp_path)) < 1e-6
