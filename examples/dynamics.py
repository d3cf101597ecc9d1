"""Watch how each sample is learnt: digits with wrong labels, under a curriculum of what stays hard.

python examples/dynamics.py --epochs 60 --out run.npz

A fifth of the training labels are replaced by wrong ones. `gr.DIHCL` trains on what stays hard to
learn, `gr.Dynamics` remembers every sample's loss, correctness and hardness, and a recording keeps
their tables of every epoch in one file, from which `gradatim figure` draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import gradatim as gr
from gradatim.analysis import Recording, separation

WRONG = 0.2
FIGURES = {
    "noise": "loss and flips of wrong and right labels, and how well hardness tells them apart",
    "forgetting": "how often samples were forgotten",
    "dihcl-1": "hardness beside the loss, of 50 samples",
    "dihcl-2": "flips and losses of the hardest, the easiest and the other samples",
    "dihcl-3": "whether the samples that are hard early are hard late",
    "dihcl-4": "three kinds of hardness, of some hard and some easy samples",
}


def digits() -> tuple[TensorDataset, TensorDataset, torch.Tensor]:
    """1,437 images to train on, 360 to test on, and which of the training labels are wrong."""
    data = load_digits()
    images = torch.tensor(data.data / 16, dtype=torch.float32)
    labels = torch.tensor(data.target)
    test_set = TensorDataset(images[:360], labels[:360])
    images, labels = images[360:], labels[360:]
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(labels), generator=generator) < WRONG
    moved = (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10
    return TensorDataset(images, torch.where(wrong, moved, labels)), test_set, wrong


def episodes(epochs: int) -> list[int]:
    """Ends of up to four cycles, later ones longer, the last at ``epochs``."""
    return sorted({max(1, epochs * part // 12) for part in (1, 3, 7, 12)})


def accuracy(model: nn.Module, dataset: TensorDataset) -> float:
    model.eval()
    images, labels = dataset.tensors
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="How digits with wrong labels are learnt.")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("run.npz"), metavar="PATH")
    args = parser.parse_args()
    if args.epochs < 6:
        parser.error("--epochs must be at least 6: the first 5 are on all samples.")

    train_set, test_set, wrong = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

    # Changes of the loss, not the loss: what is hard by its loss is mostly what is labelled wrong.
    method = gr.DIHCL("loss_change", "exp", warmup_epochs=5)
    # The rate changes four hundredfold in a cycle: losses divided by it would show little else.
    watch = gr.Dynamics(normalize=False)
    curriculum = gr.Curriculum(method, watch, seed=0)
    loader = curriculum.loader(train_set, batch_size=64)
    curriculum.attach(model=model, optimizer=optimizer)
    scheduler = gr.CyclicCosine(optimizer, curriculum, episodes=episodes(args.epochs))
    average = gr.ema_model(model)
    recording = Recording(labels=train_set.tensors[1], corrupted=wrong)

    while curriculum.epoch < args.epochs:
        for images, labels in loader:
            logits = model(images)
            losses = F.cross_entropy(logits, labels, reduction="none")
            loss = curriculum(losses, logits=logits, targets=labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            average.update_parameters(model)
        recording.take(curriculum)
        if curriculum.epoch % 10 == 0:
            chosen = torch.from_numpy(recording.members[-1])
            share = float(wrong[chosen].float().mean())
            print(f"epoch {curriculum.epoch:3}: {int(chosen.sum()):4} samples", end=", ")
            print(f"{share:.0%} of them with wrong labels", flush=True)
    recording.save(args.out)

    print(f"right on test data: model {accuracy(model, test_set):.1%}", end=", ")
    print(f"average of its weights {accuracy(average, test_set):.1%}")
    print("how well a table finds the wrong labels (AUROC, 0.5 is chance):")
    for key in ("DIHCL.dih", "Dynamics.dih_loss", "Dynamics.dih_change", "Dynamics.dih_flip"):
        print(f"  {key:19} {separation(recording[key][-1], wrong):.3f}")
    print("draw with")
    for name, shows in FIGURES.items():
        print(f"  gradatim figure {name:10} {args.out}  # {shows}")


if __name__ == "__main__":
    main()
