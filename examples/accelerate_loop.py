"""Train on scikit-learn's digits under Accelerate, and go on from the middle of an epoch.

python examples/accelerate_loop.py --folder runs
accelerate launch --cpu --num_processes 2 examples/accelerate_loop.py --folder runs

Every few steps the state goes to a folder named by its step. Interrupt either, add
--resume runs/step-20 (or whichever is there), and it goes on, with as many processes or another
number: the batches stay the same, and so does the result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import gradatim as gr
from gradatim.integrations import accelerated


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
    return [gr.SuperLoss() if name == "superloss" else gr.Uniform()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Curriculum learning on digits, accelerated.")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--accumulate", type=int, default=1, help="batches per optimizer step")
    parser.add_argument(
        "--curriculum", choices=["uniform", "predefined", "superloss"], default="predefined"
    )
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    parser.add_argument("--precision", choices=["no", "bf16", "fp16"], default="no")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where checkpoints go; without it, none")
    parser.add_argument("--save-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="such a folder")
    args = parser.parse_args()

    accelerator = Accelerator(
        cpu=args.cpu,
        mixed_precision=args.precision,
        gradient_accumulation_steps=args.accumulate,
    )
    train_set, test_set = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    # With half precision some losses may overflow: such samples sit a step out.
    nonfinite = "skip" if args.precision == "fp16" else "raise"
    curriculum = gr.Curriculum(*methods(args.curriculum, train_set), seed=0, nonfinite=nonfinite)
    loader = accelerated(
        curriculum.loader(
            train_set,
            batch_size=args.batch_size // accelerator.num_processes,
            num_workers=args.workers,
        ),
        accelerator,
    )
    steps = loader.scheduler_steps(args.epochs)
    assert steps is not None, "the lengths of these curricula's epochs are known"
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    curriculum.attach(model=model, optimizer=optimizer)

    if args.resume:
        accelerator.load_state(str(args.resume))

    while curriculum.epoch < args.epochs:
        for images, labels in loader:  # after a resume: the rest of the epoch
            with accelerator.accumulate(model):
                losses = F.cross_entropy(model(images), labels, reduction="none")
                loss = curriculum(losses)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            # Gradients that wait for an optimizer step are not part of the state.
            due = curriculum.step % args.save_every < args.accumulate
            if args.folder and due and accelerator.sync_gradients:
                accelerator.save_state(str(args.folder / f"step-{curriculum.step}"))
        net = accelerator.unwrap_model(model)
        with torch.no_grad():
            images, labels = (each.to(accelerator.device) for each in test_set.tensors)
            accuracy = (net(images).argmax(1) == labels).float().mean()
        accelerator.print(
            f"epoch {curriculum.epoch}: {accuracy:.1%} right, rate {scheduler.get_last_lr()[0]:.4f}"
        )
    if args.folder:
        accelerator.save_state(str(args.folder / f"step-{curriculum.step}"))
    accelerator.end_training()


if __name__ == "__main__":
    main()
