"""Train on scikit-learn's digits under Lightning, and go on from the middle of an epoch.

python examples/lightning_module.py --folder runs
python examples/lightning_module.py --folder runs --devices 2

Every few steps a checkpoint goes to the folder. Interrupt either, add --resume runs/step=20.ckpt
(or whichever is there), and it goes on, with as many processes or another number: the batches stay
the same, and so does the result.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradatim as gr
from gradatim.integrations import CurriculumCallback


def digits() -> tuple[TensorDataset, TensorDataset]:
    """1,437 images to train on and 360 to test on."""
    data = load_digits()
    images = torch.tensor(data.data / 16, dtype=torch.float32)
    labels = torch.tensor(data.target)
    return TensorDataset(images[360:], labels[360:]), TensorDataset(images[:360], labels[:360])


def methods(name: str, train_set: TensorDataset) -> list[gr.Method]:
    images, labels = train_set.tensors
    if name == "predefined":  # from 40 % of the images, near the mean of their class, to all
        means = torch.stack([images[labels == label].mean(0) for label in range(10)])
        pace = gr.pacing.Linear(start_fraction=0.4, epochs=3)
        return [gr.Predefined((images - means[labels]).norm(dim=1), pace=pace)]
    if name == "lerac":
        return [gr.LeRaC(epochs=2)]
    return [gr.SuperLoss()]


class Classifier(pl.LightningModule):
    def __init__(self, curriculum: gr.Curriculum) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.curriculum = curriculum

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        losses = F.cross_entropy(self.net(images), labels, reduction="none")
        return self.curriculum(losses)  # instead of losses.mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        right = (self.net(images).argmax(1) == labels).float().mean()
        self.log("right", right, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description="Curriculum learning on digits, in Lightning.")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--devices", type=int, default=1, help="processes, on the CPU")
    parser.add_argument("--accumulate", type=int, default=1, help="batches per optimizer step")
    parser.add_argument("--curriculum", choices=["predefined", "superloss", "lerac"])
    parser.add_argument("--folder", default="runs", help="of the checkpoints")
    parser.add_argument("--save-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--resume", metavar="CHECKPOINT", help="go on from it")
    parser.set_defaults(curriculum="predefined")
    args = parser.parse_args()

    pl.seed_everything(0, verbose=False)
    train_set, test_set = digits()
    curriculum = gr.Curriculum(*methods(args.curriculum, train_set), seed=0)
    loader = curriculum.loader(train_set, batch_size=args.batch_size // args.devices)
    saving = ModelCheckpoint(
        args.folder, "{step}", every_n_train_steps=args.save_every, save_top_k=-1
    )
    trainer = pl.Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        devices=args.devices,
        accumulate_grad_batches=args.accumulate,
        callbacks=[CurriculumCallback(curriculum), saving],
        logger=False,
    )
    trainer.fit(
        Classifier(curriculum), loader, DataLoader(test_set, batch_size=90), ckpt_path=args.resume
    )
    if trainer.is_global_zero:
        print(f"{trainer.callback_metrics['right']:.1%} right after {curriculum.step} batches")


if __name__ == "__main__":
    main()
