"""Train on scikit-learn's digits, alone or on several processes, and go on after being killed.

python examples/train.py --checkpoint digits.pt
torchrun --standalone --nproc-per-node 2 examples/train.py --checkpoint digits.pt

Interrupt either, add --resume, and it goes on where its last checkpoint was taken, with as many
processes or another number: the batches stay the same, and so does the result.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

import gradatim as gr

SAVE_EVERY_STEPS = 5


def digits() -> tuple[TensorDataset, TensorDataset]:
    """1,437 images to train on and 360 to test on."""
    data = load_digits()
    images = torch.tensor(data.data / 16, dtype=torch.float32)
    labels = torch.tensor(data.target)
    return TensorDataset(images[360:], labels[360:]), TensorDataset(images[:360], labels[:360])


def methods(name: str, train_set: TensorDataset) -> list[gr.Method]:
    images, labels = train_set.tensors
    pace = gr.pacing.Linear(start_fraction=0.4, epochs=3)
    if name == "predefined":
        means = torch.stack([images[labels == label].mean(0) for label in range(10)])
        return [gr.Predefined((images - means[labels]).norm(dim=1), pace=pace)]
    if name == "spl":
        return [gr.SPL("linear", pace=pace), gr.SuperLoss()]
    return [gr.Uniform()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Curriculum learning on digits.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--checkpoint", default="digits.pt", metavar="PATH")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--curriculum", choices=["uniform", "predefined", "spl"], default="spl")
    args = parser.parse_args()

    world = int(os.environ.get("WORLD_SIZE", "1"))  # torchrun sets it
    if world > 1:
        dist.init_process_group("gloo")
    first = world == 1 or dist.get_rank() == 0

    train_set, test_set = digits()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model = DistributedDataParallel(net) if world > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    curriculum = gr.Curriculum(*methods(args.curriculum, train_set), seed=0)
    loader = curriculum.loader(
        train_set,
        batch_size=args.batch_size // world,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    curriculum.attach(model=model, optimizer=optimizer)

    if args.resume:
        state = torch.load(args.checkpoint, weights_only=True)
        net.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        curriculum.load_state_dict(state["curriculum"])

    def save() -> None:
        curriculum.collect()  # on every rank
        if not first:
            return
        state = {
            "model": net.state_dict(),
            "optimizer": optimizer.state_dict(),
            "curriculum": curriculum.state_dict(),
        }
        torch.save(state, f"{args.checkpoint}.part")
        os.replace(f"{args.checkpoint}.part", args.checkpoint)  # the old one or the new one

    while curriculum.epoch < args.epochs:
        for images, labels in loader:  # after a resume: the rest of the epoch
            losses = F.cross_entropy(model(images), labels, reduction="none")
            loss = curriculum(losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if curriculum.step % SAVE_EVERY_STEPS == 0:
                save()
        if first:
            with torch.no_grad():
                images, labels = test_set.tensors
                accuracy = (net(images).argmax(1) == labels).float().mean()
            print(f"epoch {curriculum.epoch:2}: {accuracy:.1%} right", flush=True)
    save()


if __name__ == "__main__":
    main()
    if dist.is_initialized():  # after main, so that nothing uses the group any longer
        dist.destroy_process_group()
