"""Checkpoints that Lightning writes: ways to hold a network, options, callbacks, precisions, strategies."""

from __future__ import annotations

import argparse
import datetime
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import swa_utils

from multires_edge.models.network import MultiresNet
from tests.conftest import SMALL
from tests.models.frameworks.harness import Saved, Writer, X, Y, difference, loss_of, trainable

lightning = pytest.importorskip("lightning.pytorch", reason="needs lightning, of the test extra")
omegaconf = pytest.importorskip("omegaconf", reason="needs omegaconf, of the test extra")

from lightning.fabric import Fabric  # noqa: E402
from lightning.pytorch import callbacks  # noqa: E402
from torchmetrics import Accuracy  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the frameworks' own, of which there are many
]

OPTIONS = {"tree_select": "fading", "depth": 3, "lr": 1e-3}
Optimizers = Callable[[list[nn.Parameter]], Any]


class Task(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """A user's module, with the network in some attribute."""

    logs = True

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__()
        self.save_hyperparameters(*([] if config is None else [config]))
        self.model: nn.Module = trainable()
        self.optimizers_of: Optimizers = torch.optim.AdamW
        self.setup_parts()

    def setup_parts(self) -> None:
        """More parts."""

    def run_network(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = loss_of(self.run_network(batch[0].to(self.dtype)), batch[1])
        if self.logs:
            self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return self.optimizers_of(list(self.parameters()))


class Nested(Task):
    def setup_parts(self) -> None:
        self.ts_encoder = nn.ModuleDict({"predictor": nn.Sequential(self.model)})
        del self.model

    @property
    def net(self) -> nn.Module:
        net: nn.Module = self.ts_encoder["predictor"][0]  # type: ignore[index]
        return net

    def run_network(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y


class WithLoss(Task):
    def setup_parts(self) -> None:
        self.criterion = nn.BCEWithLogitsLoss(pos_weight=torch.full((3,), 2.0))


class WithMetric(Task):
    def setup_parts(self) -> None:
        self.accuracy = Accuracy("multilabel", num_labels=3)
        self.accuracy.persistent(True)
        self.register_buffer("mean", torch.zeros(2))


class Teacher(Task):
    """An average of its own beside the network, as for distillation."""

    def setup_parts(self) -> None:
        self.ema = swa_utils.AveragedModel(self.model)

    def on_train_batch_end(self, *_: Any) -> None:
        self.ema.update_parameters(self.model)


class Itself(MultiresNet, lightning.LightningModule):  # type: ignore[misc, name-defined]
    """The network is the LightningModule: no prefix."""

    def __init__(self) -> None:
        super().__init__(SMALL)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss_of(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def fit(folder: Path, module: Any, steps: int = 2, weights_only: bool = False, **options: Any) -> Path:
    """Train a few steps, and save."""
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=2)
    options = {"accelerator": "cpu", "devices": 1, "max_steps": steps} | options
    trainer = lightning.Trainer(
        default_root_dir=folder, logger=False, enable_progress_bar=False, enable_model_summary=False,
        **{"enable_checkpointing": False} | options,
    )  # fmt: skip
    trainer.fit(module, loader)
    trainer.save_checkpoint(folder / "model.ckpt", weights_only)
    return folder / "model.ckpt"


def of(kind: type[Task] = Task, config: Any = None, **options: Any) -> Writer:
    """A writer for a user's module."""

    def write(folder: Path) -> Saved:
        module = kind(config)
        path = fit(folder, module, **options)
        return Saved(path, getattr(module, "net", None) or module.model)

    return write


def with_callback(*made: Callable[[], Any], weights: str | None = None, **options: Any) -> Writer:
    def write(folder: Path) -> Saved:
        module = Task()
        path = fit(folder, module, callbacks=[make() for make in made], **options)
        return Saved(path, module.model, {} if weights is None else {"weights": weights})

    return write


def by_model_checkpoint(name: str, **options: Any) -> Writer:
    """The file that the callback writes, not the trainer."""

    def write(folder: Path) -> Saved:
        module = Task(dict(OPTIONS))
        callback = callbacks.ModelCheckpoint(dirpath=folder / "kept", monitor="loss", **options)
        fit(folder, module, callbacks=[callback], enable_checkpointing=True)
        (path,) = [path for path in (folder / "kept").iterdir() if path.match(name)]
        return Saved(path, module.model)

    return write


def optimized(optimizers: Optimizers) -> Writer:
    def write(folder: Path) -> Saved:
        module = Task()
        module.optimizers_of = optimizers
        return Saved(fit(folder, module), module.model)

    return write


def scheduled(kind: Callable[..., Any], **options: Any) -> Optimizers:
    def make(parameters: list[nn.Parameter]) -> Any:
        optimizer = torch.optim.SGD(parameters, lr=1e-2, momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": kind(optimizer, **options)}

    return make


def itself(folder: Path) -> Saved:
    net = Itself()
    return Saved(fit(folder, net), net)


def compiled(folder: Path) -> Saved:
    module = Task()
    net = module.model
    setattr(module, "model", torch.compile(net, backend="eager"))  # noqa: B010
    return Saved(fit(folder, module), net)


def compiled_as_a_whole(folder: Path) -> Saved:
    module = Task()
    module.logs = False
    return Saved(fit(folder, torch.compile(module, backend="eager")), module.model)


def averaged_beside(folder: Path) -> Saved:
    module = Teacher()
    return Saved(fit(folder, module), module.ema.module, {"weights": "state_dict.ema.module"})


def ema_of_the_callback(folder: Path) -> Saved:
    module, callback = Task(), callbacks.EMAWeightAveraging(decay=0.5)
    path = fit(folder, module, callbacks=[callback])
    average = module.model
    return Saved(path, average, {"weights": "state_dict.model"})


def fabric(precision: Any, content: Callable[..., dict[str, Any]]) -> Writer:
    def write(folder: Path) -> Saved:
        made = Fabric(accelerator="cpu", devices=1, precision=precision)
        net = trainable()
        model, optimizer = made.setup(net, torch.optim.AdamW(net.parameters()))
        made.backward(loss_of(model(X), Y))
        optimizer.step()
        made.save(folder / "model.ckpt", content(model, optimizer))
        return Saved(folder / "model.ckpt", net)

    return write


omega = omegaconf.OmegaConf.create
NAMESPACE = argparse.Namespace(**OPTIONS, out=Path("/runs"), since=datetime.datetime(2026, 1, 1))
NESTED = {"net": {"tree_select": "fading", "depth": 3}, "optimizer": {"betas": (0.9, 0.99)}}
WRITERS: dict[str, Writer] = {
    "self.model": of(),
    "nested attributes": of(Nested),
    "the network itself": itself,
    "pos_weight": of(WithLoss),
    "a metric and a buffer": of(WithMetric),
    "an average beside": averaged_beside,
    "compiled network": compiled,
    "compiled module": compiled_as_a_whole,
    "options, dict": of(config=dict(OPTIONS)),
    "options, nested dict": of(config=NESTED),
    "options, Namespace": of(config=NAMESPACE),
    "options, OmegaConf": of(config=omega(NESTED)),
    "options, OmegaConf with links": of(config=omega({"a": 3, "depth": "${a}", "l": [1, "${a}"]})),
    "options, a class and a partial": of(config={**OPTIONS, "opt": functools.partial(torch.optim.AdamW)}),
    "options, a dtype and a size": of(config={"dtype": torch.float32, "size": torch.Size([2])}),
    "weights only": of(weights_only=True),
    "weights only, options": of(config=dict(OPTIONS), weights_only=True),
    "bf16-mixed": of(precision="bf16-mixed"),
    "bf16-true": of(precision="bf16-true"),
    "64-true": of(precision="64-true"),
    "DDP": of(strategy="ddp"),
    "clipped, accumulated": of(gradient_clip_val=1.0, accumulate_grad_batches=2),
    "SWA": with_callback(
        lambda: callbacks.StochasticWeightAveraging(1e-2, swa_epoch_start=1),
        steps=6,
        weights="state_dict.model",
    ),
    "EMA": ema_of_the_callback,
    "early stopping": with_callback(lambda: callbacks.EarlyStopping("loss")),
    "timer, accumulation": with_callback(
        lambda: callbacks.Timer(datetime.timedelta(hours=1)),
        lambda: callbacks.GradientAccumulationScheduler({0: 1}),
    ),
    "ModelCheckpoint, best": by_model_checkpoint("epoch=*.ckpt"),
    "ModelCheckpoint, last": by_model_checkpoint("last.ckpt", save_last=True, save_top_k=0),
    "ModelCheckpoint, weights": by_model_checkpoint("*.ckpt", save_weights_only=True),
    "ModelCheckpoint, named": by_model_checkpoint("*.ckpt", filename="{step}-{loss:.2f}"),
    "SGD": optimized(lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9)),
    "RMSprop": optimized(torch.optim.RMSprop),
    "OneCycleLR": optimized(scheduled(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=5)),
    "CosineAnnealingLR": optimized(scheduled(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=5)),
    "StepLR": optimized(scheduled(torch.optim.lr_scheduler.StepLR, step_size=1)),
    "Fabric": fabric("32-true", lambda model, optimizer: {"model": model, "optimizer": optimizer, "step": 1}),
    "Fabric, bf16-mixed": fabric("bf16-mixed", lambda model, _: {"model": model}),
    "Fabric, state dict": fabric("32-true", lambda model, _: {"net": model.state_dict(), "best": 0.5}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_is_the_network(name: str, tmp_path: Path) -> None:
    assert difference(WRITERS[name](tmp_path)) < 1e-6
