"""Train a MultiresNet on 12-lead ECG for the bedside, export it, and measure it.

    python examples/train_ecg.py DATA --output out/trained

DATA is the folder of PTB-XL from PhysioNet, or an .npz of records (examples/ecg_data.py). The network learns
behind the high-pass filter of a card, on records with what electrodes and amplifiers do to them
(examples/ecg_conditions.py). The weights of the best epoch on the validation fold are kept; the test data are
looked at once, at the end. Writes ckpt.pth, card.json, curve.png and ecg.bundle to the output folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ecg_conditions import Conditions
from ecg_data import RATE, Records, load_records
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from multires_edge.base.errors import MultiresError
from multires_edge.base.palette import LIGHT
from multires_edge.export import export_bundle
from multires_edge.export.options import Int8Options
from multires_edge.format.card import Preprocessing, read_card
from multires_edge.format.config import depth_for_length
from multires_edge.format.high_pass import HighPass
from multires_edge.models import ModelConfig, MultiresNet
from multires_edge.models.causal_filter import causal_filter
from multires_edge.models.saving import save_checkpoint
from multires_edge.runtime import open_bundle
from multires_edge.runtime.evaluation.evaluate import compare
from multires_edge.runtime.evaluation.recordings import load_data
from multires_edge.runtime.evaluation.scoring import MacroAuroc

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    epochs: int = 44
    batch: int = 32
    learning_rate: float = 4.5e-3  # the highest of one cycle
    weight_decay: float = 0.06  # not of filters, norms and biases
    dropout: float = 0.2
    averaging: float = 0.99  # the weights that count are a running mean over the steps
    mixup: float = 0.3  # the parameter of the beta distribution; 0 mixes nothing
    seed: int = 0
    conditions: Conditions = field(default_factory=Conditions)


class Filter:
    """A card's high-pass filter on whole records, by the Fourier transform: its output without a delay."""

    def __init__(self, high_pass: HighPass | None, rate: float, time: int) -> None:
        self._delay, self._response = 0, None
        if high_pass is not None:
            running = high_pass.filter(rate, 1)
            self._delay = running.delay
            impulse = np.zeros((time + self._delay + 1, 1))
            impulse[1 + self._delay] = 1
            response = running.process(impulse)[-time:, 0]
            self._response = torch.from_numpy(response.astype(np.float32))

    def __call__(self, x: Tensor) -> Tensor:
        """Filter x (batch, leads, time), settled before the first sample."""
        if self._response is None:
            return x
        x = F.pad(x - x[..., :1], (0, self._delay), mode="replicate")
        response = F.pad(self._response, (0, self._delay))
        return causal_filter(x, response)[..., self._delay :]


class Inputs:
    """How records become inputs: filtered, then divided by the deviation of all training records."""

    def __init__(self, card: Preprocessing, records: Records) -> None:
        if card.sampling_rate != RATE or card.unit != "mV" or set(card.channels) - set(records.leads):
            raise SystemExit(f"error: the card is not for {', '.join(records.leads)} in mV at {RATE} Hz")
        self._filter = Filter(card.high_pass, RATE, records.x_uv.shape[-1])
        self._order = [records.leads.index(name) for name in card.channels]
        self.std = 1.0
        parts = (self(self.millivolt(records, rows)) for rows in batches(records, 256))
        self.std = float(np.sqrt(np.mean([float(part.square().mean()) for part in parts])))

    def millivolt(self, records: Records, rows: NDArray[Any]) -> NDArray[np.float32]:
        millivolt: NDArray[np.float32] = records.x_uv[rows][:, self._order].astype(np.float32) / 1000
        return millivolt

    def __call__(self, millivolt: NDArray[Any]) -> Tensor:
        filtered: Tensor = self._filter(torch.from_numpy(millivolt.astype(np.float32)))
        return filtered / self.std


def batches(records: Records, size: int) -> Iterator[NDArray[Any]]:
    """The numbers of all records in order, ``size`` at a time."""
    rows = np.arange(len(records.labels))
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


@torch.no_grad()
def logits(net: nn.Module, records: Records, inputs: Inputs) -> NDArray[np.float32]:
    """The outputs (records, classes) of a network on clean records."""
    net.eval()
    parts = [net(inputs(inputs.millivolt(records, rows))) for rows in batches(records, 64)]
    return torch.cat(parts).numpy()


@dataclass
class History:
    """Loss of the training and macro AUROC of the validation, by epoch."""

    loss: list[float] = field(default_factory=list)
    auroc: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        return int(np.argmax(self.auroc))


def train(net: MultiresNet, records: Records, validation: Records, inputs: Inputs, recipe: Recipe) -> History:
    """Train a network; it ends with the averaged weights of the best epoch on the validation records."""
    random = np.random.default_rng(recipe.seed)
    batch = min(recipe.batch, len(records.labels))
    steps = len(records.labels) // batch
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(parameter_groups(net, recipe.weight_decay), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.1
    )
    metric = MacroAuroc(validation.labels, validation.classes)
    metric.check_defined()
    history, best = History(), net.state_dict()
    started = time.monotonic()
    for epoch in range(recipe.epochs):
        net.train()
        order, losses = random.permutation(len(records.labels)), []
        for rows in order[: steps * batch].reshape(steps, batch):
            x, y = draw(records, rows, inputs, recipe, random)
            loss = F.binary_cross_entropy_with_logits(net(x), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            losses.append(loss.item())
        history.loss.append(float(np.mean(losses)))
        history.auroc.append(metric.value(logits(average.module, validation, inputs)))
        if history.best == epoch:
            best = {name: tensor.clone() for name, tensor in average.module.state_dict().items()}
        print(
            f"epoch {epoch + 1} of {recipe.epochs}: loss {history.loss[-1]:.4f}, validation "
            f"{history.auroc[-1]:.4f}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
    net.load_state_dict(best)
    net.eval()
    return history


def draw(
    records: Records, rows: NDArray[Any], inputs: Inputs, recipe: Recipe, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A batch: records under the conditions, and their labels; each mixed with another one of the batch."""
    conditions = recipe.conditions
    disturbed = conditions.disturb(inputs.millivolt(records, rows), RATE, random)
    x = conditions.lose(inputs(disturbed), random)
    y = torch.from_numpy(records.labels[rows].astype(np.float32))
    if recipe.mixup:
        part = float(random.beta(recipe.mixup, recipe.mixup))
        x, y = (part * each + (1 - part) * each.flip(0) for each in (x, y))
    return x, y


def parameter_groups(net: MultiresNet, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of 1x1 convolutions and memory weights decay; filters, norms and biases do not."""
    decays: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        kept = name.endswith((".h0", ".h1", ".bias")) or name.startswith("norms.")
        (free if kept else decays).append(parameter)
    return [{"params": decays, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def draw_curve(path: Path, history: History) -> None:
    """Loss and validation by epoch, with a mark at the epoch that is kept."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    loss, auroc = figure.subplots(2, 1, sharex=True)
    epochs = np.arange(1, len(history.loss) + 1)
    loss.plot(epochs, history.loss, color=LIGHT.text)
    loss.set_ylabel("training loss")
    auroc.plot(epochs, history.auroc, color=LIGHT.series[0])
    auroc.plot(history.best + 1, history.auroc[history.best], "o", color=LIGHT.series[0])
    auroc.annotate(
        f"{history.auroc[history.best]:.4f}",
        (history.best + 1, history.auroc[history.best]),
        textcoords="offset points",
        xytext=(0, -14),
        ha="center",
    )
    auroc.set_ylabel("validation, macro AUROC")
    auroc.set_xlabel("epoch")
    for axes in (loss, auroc):
        axes.grid(alpha=0.3)
        axes.spines[["right", "top"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse, train, save, export, calibrate, measure."""
    recipe = Recipe()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("out/trained"))
    parser.add_argument("--card", type=Path, default=ROOT / "models/demo/card.json")
    parser.add_argument("--validation-fold", type=int, help="default: 9 of PTB-XL, else the last in DATA")
    parser.add_argument("--test", type=Path, help="another .npz; default: fold 10 of PTB-XL")
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--depth", type=int, help="default: the depth that reaches over a whole record")
    parser.add_argument("--epochs", type=int, default=recipe.epochs)
    parser.add_argument("--seed", type=int, default=recipe.seed)
    arguments = parser.parse_args()
    recipe = replace(recipe, epochs=arguments.epochs, seed=arguments.seed)
    records = load_records(arguments.data)
    test = load_records(arguments.test) if arguments.test else None
    folds = sorted(set(records.fold.tolist()))
    if test is None and 10 in folds:
        test = records.of(records.fold == 10)
        folds.remove(10)
    held_out = arguments.validation_fold or folds[-1]
    validation = records.of(records.fold == held_out)
    training = records.of(np.isin(records.fold, [fold for fold in folds if fold != held_out]))
    counts = len(training.labels), len(validation.labels)
    print(f"{counts[0]} records for training, {counts[1]} for validation (fold {held_out})")

    card = read_card(arguments.card)
    if card.preprocessing is None or not len(training.labels) or not len(validation.labels):
        raise SystemExit("error: expected a card with preprocessing, and records of two folds or more")
    inputs = Inputs(card.preprocessing, training)
    torch.manual_seed(recipe.seed)
    config = ModelConfig(
        task="classification",
        encoder="linear",
        d_input=len(card.preprocessing.channels),
        n_tokens=None,
        d_output=len(records.classes),
        d_model=arguments.d_model,
        n_layers=arguments.layers,
        kernel_size=2,
        depth=arguments.depth or depth_for_length(records.x_uv.shape[-1], 2),
    )
    net = MultiresNet(config, recipe.dropout)
    history = train(net, training, validation, inputs, recipe)

    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(net, folder / "ckpt.pth", force=True)
    draw_curve(folder / "curve.png", history)
    write_card(folder / "card.json", arguments.card, training, inputs, recipe, history)
    export(folder, validation if test is None else test, training)


def write_card(
    path: Path, like: Path, training: Records, inputs: Inputs, recipe: Recipe, history: History
) -> None:
    """The card that was given, with the labels, the deviation, and how the network was trained."""
    card = json.loads(like.read_text(encoding="utf-8"))
    card["preprocessing"] |= {"mean": 0.0, "std": inputs.std}
    card["labels"] = list(training.classes)
    for name in ("intended_use", "limits"):  # of the other network
        card.pop(name, None)
    known = card.get("label_descriptions", {})
    card["label_descriptions"] = {label: known[label] for label in training.classes if label in known}
    card["description"] = (
        f"Probabilities of {', '.join(training.classes)}; macro AUROC {history.auroc[history.best]:.4f} on "
        "validation records. Not a medical device."
    )
    folds = ", ".join(map(str, sorted(set(training.fold.tolist()))))
    card["source"] = (
        f"Trained by examples/train_ecg.py on {len(training.labels)} records of the folds {folds}: seed "
        f"{recipe.seed}, epoch {history.best + 1} of {recipe.epochs}, behind the card's filter, with "
        "offsets, wander, noise, gain errors and lost leads"
    )
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def export(folder: Path, test: Records, training: Records) -> None:
    """Export in three precisions, with ranges of 256 training records, and measure each on the test data."""
    some = training.of(np.arange(min(256, len(training.labels))))
    for name, part in (("calibration", some), ("test", test)):
        np.savez(folder / f"{name}.npz", x_uv=part.x_uv, labels=part.labels, classes=part.classes)
    result = export_bundle(
        folder / "ckpt.pth",
        folder / "ecg.bundle",
        card=folder / "card.json",
        precisions=("fp32", "fp16", "int8"),
        int8=Int8Options(data=folder / "calibration.npz"),
        force=True,
    )
    bundle = open_bundle(result.path)
    data = load_data(folder / "test.npz", bundle.manifest.model, bundle.manifest.card)
    for each in compare(bundle, data, ["fp32", "fp16", "int8"]):
        print(f"{each.precision}: macro AUROC {each.value:.4f} on {len(test.labels)} records")


if __name__ == "__main__":
    try:
        main()
    except MultiresError as error:
        raise SystemExit(f"error: {error}") from None
