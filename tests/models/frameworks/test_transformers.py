"""What transformers writes: save_pretrained in several types and shards, and the folders of its Trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from multires_edge.models.network import MultiresNet
from tests.conftest import SMALL
from tests.models.frameworks.harness import Saved, Writer, X, Y, difference, loss_of, trainable

transformers = pytest.importorskip("transformers", reason="needs transformers, of the test extra")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Config(transformers.PretrainedConfig):  # type: ignore[misc, name-defined]
    model_type = "multires"

    def __init__(self, tree_select: str = "fading", depth: int = 3, **more: Any) -> None:
        super().__init__(**more)
        self.tree_select, self.depth = tree_select, depth


class Pretrained(transformers.PreTrainedModel):  # type: ignore[misc, name-defined]
    """A user's model, with the network in an attribute."""

    config_class = Config
    base_model_prefix = "backbone"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.backbone = MultiresNet(SMALL)
        self.backbone.load_state_dict(trainable().state_dict())

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.backbone(x)
        return logits if labels is None else {"loss": loss_of(logits, labels), "logits": logits}


def pretrained(dtype: torch.dtype = torch.float32, file: str | None = None, **options: Any) -> Writer:
    """Saved by save_pretrained; ``file`` of the folder is given, by default the folder."""

    def write(folder: Path) -> Saved:
        model = Pretrained(Config()).to(dtype)
        model.save_pretrained(folder / "model", **options)
        # The depth and the tree are in config.json.
        return Saved(folder / "model" / (file or ""), model.backbone)

    return write


def by_trainer(place: Callable[[Path], Path], wrap: Callable[[nn.Module], nn.Module] | None = None) -> Writer:
    """Trained by transformers' Trainer; ``place`` is the path in its folder."""

    def write(folder: Path) -> Saved:
        model = Pretrained(Config())
        options = transformers.TrainingArguments(
            folder / "run", max_steps=2, save_steps=2, per_device_train_batch_size=2, report_to=[],
            use_cpu=True, disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        records = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
        trainer = transformers.Trainer(wrap(model) if wrap else model, options, train_dataset=records)
        trainer.train()
        trainer.save_model(folder / "run" / "last")
        return Saved(place(folder / "run"), model.backbone)

    return write


def alone(model: nn.Module) -> nn.Module:
    """A module that is no PreTrainedModel: the Trainer saves its state dict alone."""
    return Alone(model)


class Alone(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        return self.model(x, labels)


WRITERS: dict[str, Writer] = {
    "save_pretrained": pretrained(),
    "save_pretrained, the file": pretrained(file="model.safetensors"),
    "save_pretrained, shards": pretrained(max_shard_size="1KB"),
    "save_pretrained, the index": pretrained(max_shard_size="1KB", file="model.safetensors.index.json"),
    "save_pretrained, bf16": pretrained(torch.bfloat16),
    "save_pretrained, fp16": pretrained(torch.float16),
    "save_pretrained, a variant": pretrained(torch.float16, variant="fp16"),
    "save_pretrained, a variant in shards": pretrained(variant="best", max_shard_size="1KB"),
    "Trainer, checkpoint": by_trainer(lambda run: run / "checkpoint-2"),
    "Trainer, last": by_trainer(lambda run: run / "last"),
    "Trainer, a module": by_trainer(lambda run: run / "checkpoint-2", alone),
}


@pytest.mark.parametrize("name", WRITERS)
def test_is_the_network(name: str, tmp_path: Path) -> None:
    assert difference(WRITERS[name](tmp_path)) < 1e-6


def test_the_options_are_in_its_configuration(tmp_path: Path) -> None:
    saved = pretrained()(tmp_path)
    assert difference(Saved(saved.path, saved.net, {"tree_select": None})) < 1e-6
