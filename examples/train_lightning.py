"""Train a MultiresNet with Lightning; its checkpoints export as they are.

    python examples/train_lightning.py DATA --output out/lightning --epochs 5

DATA is as for examples/train_ecg.py, which also trains for the bedside: this is the short way.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import lightning
import torch
import torch.nn.functional as F
from ecg_data import load_records
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from multires_edge.export import export_bundle
from multires_edge.format.config import depth_for_length
from multires_edge.models import ModelConfig, MultiresNet


class Classifier(lightning.LightningModule):
    """A network with loss and optimizer. Checkpoints have ``config``, which tells the export everything."""

    def __init__(self, config: dict[str, object], learning_rate: float = 4.5e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.net = MultiresNet.from_config(config, dropout=0.2)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        loss = F.binary_cross_entropy_with_logits(self.net(x), y)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=0.06)


def main() -> None:
    """Parse, train, export the last checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("out/lightning"))
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    records = load_records(arguments.data)
    x = torch.from_numpy(records.x_uv.astype("float32"))
    x = (x - x.mean(-1, keepdim=True)) / x.std()
    batches = DataLoader(TensorDataset(x, torch.from_numpy(records.labels).float()), 32, shuffle=True)
    config = ModelConfig(
        task="classification",
        encoder="linear",
        d_input=x.shape[1],
        n_tokens=None,
        d_output=len(records.classes),
        d_model=64,
        n_layers=4,
        kernel_size=2,
        depth=depth_for_length(x.shape[-1], 2),
    )
    trainer = lightning.Trainer(
        max_epochs=arguments.epochs, accelerator="cpu", logger=False, default_root_dir=arguments.output
    )
    trainer.fit(Classifier(asdict(config)), batches)
    trainer.save_checkpoint(arguments.output / "last.ckpt")
    result = export_bundle(arguments.output / "last.ckpt", arguments.output / "ecg.bundle", force=True)
    print(f"proven: {result.path}")


if __name__ == "__main__":
    main()
