"""Do two runs agree on what is hard? DIHCL Figure 5 on 10,000 images of Fashion-MNIST.

python experiments/agreement.py        # about a minute; needs experiments/data (prepare.py)

Trains the small WideResNet plainly from two seeds, records the dynamics of every sample, and writes
experiments/results/agreement/: agreement.json, and the figures of the two recordings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import networks
import numpy as np
import torch
import torch.nn.functional as F

import gradatim as gr
from gradatim.compare.models.build import seeded
from gradatim.figures import draw

HERE = Path(__file__).parent
OUT = HERE / "results" / "agreement"
FIGURES = {"dihcl-1": 1, "dihcl-2": 1, "dihcl-3": 1, "dihcl-4": 1, "dihcl-5": 2, "forgetting": 1}


def record(seed: int, epochs: int) -> gr.analysis.Recording:
    """Train once, and remember every sample at the end of every epoch."""
    data = np.load(HERE / "data" / "fashion_mnist_10k.npz")
    x = torch.from_numpy(data["x_train"]).reshape(-1, 1, 28, 28)
    y = torch.from_numpy(data["y_train"]).long()
    with seeded(seed):
        model = networks.wide_resnet((1, 28, 28), 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    curriculum = gr.Curriculum(gr.Dynamics(), seed=seed)
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(len(y))), 64)
    curriculum.attach(model=model, optimizer=optimizer)
    recording = gr.analysis.Recording(labels=y)
    for epoch in range(epochs):
        for (index,) in loader:
            logits = model(x[index])
            losses = F.cross_entropy(logits, y[index], reduction="none")
            curriculum(losses, logits=logits, targets=y[index]).backward()
            optimizer.step()
            optimizer.zero_grad()
        recording.take(curriculum)
        right = float(recording["Dynamics.correct"][-1].mean())
        print(f"seed {seed}, epoch {epoch + 1}: right on {right:.3f} of the training", flush=True)
    return recording


def main() -> None:
    """Record two runs, compare them after every epoch, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)  # sums keep their order, and two runs can share a machine
    runs = [record(seed, epochs) for seed in (0, 1)]
    OUT.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in ("dih_loss", "dih_change", "dih_flip"):
        pairs = zip(*(run[f"Dynamics.{name}"] for run in runs), strict=True)
        each = [gr.analysis.agreement(*pair) for pair in pairs]
        found[name] = {
            "tau": [round(one.tau, 4) for one in each],
            "p_value": [one.p_value for one in each],
            "hardest_fifth": [round(one.top, 4) for one in each],
            "easiest_fifth": [round(one.bottom, 4) for one in each],
        }
        print(f"{name}: Kendall's tau after {epochs} epochs {found[name]['tau'][-1]}")
    (OUT / "agreement.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, count in FIGURES.items():
        # Flips of samples that never flipped tie by the thousand: Figure 5 is about the loss.
        hardness = "Dynamics.dih_loss" if name == "dihcl-5" else None
        draw(name, *runs[:count], hardness=hardness).savefig(OUT / f"{name}.png", dpi=150)


if __name__ == "__main__":
    main()
