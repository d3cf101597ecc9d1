"""How first and last layers change under LeRaC: Tables 6, 7 and 8 and Figure 3 of its paper.

python experiments/layers.py        # about four minutes; needs experiments/data (prepare.py)

Trains the small ResNet-18 on 3,000 images of CIFAR-10, plainly and with LeRaC, from the same seeds,
and looks at the first and the last convolution on 500 test images: before training, after k epochs
and at the end. Writes experiments/results/layers/: layers.json and figures of the first seed.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lerac_networks
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.analysis import Recording, activation_entropy, activations, feature_distance
from gradatim.analysis import update_sizes as moved
from gradatim.compare.models.build import seeded
from gradatim.figures import activation_maps, draw, save

HERE = Path(__file__).parent
OUT = HERE / "results" / "layers"
BATCH, RATE = 64, 0.1
PLACES = ("first", "last")


def load() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images and labels, and the test images that are looked at."""
    data = np.load(HERE / "data" / "cifar10_3k.npz")
    x, x_test = (torch.from_numpy(data[name]).permute(0, 3, 1, 2) for name in ("x_train", "x_test"))
    return x.contiguous(), torch.from_numpy(data["y_train"]).long(), x_test[:500].contiguous()


def settled(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """A copy whose norms know the statistics of the data under the weights of this moment.

    Running statistics lag behind the weights, and before training they know nothing: what would be
    measured is the norms' ignorance, not the weights.
    """
    model = copy.deepcopy(model).train()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None  # the plain mean over batches
    with torch.no_grad():
        for images in x.split(500):
            model(images)
    return model.eval()


def train(
    method: gr.Method | None, seed: int, epochs: int, look: Callable[[int, nn.Module], None]
) -> None:
    """Train once; a tenth of the rate for the last third, about where a plateau would decay it."""
    x, y, _ = load()
    with seeded(seed):
        model = lerac_networks.small_resnet18((3, 32, 32), 10)
    optimizer = torch.optim.SGD(
        model.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs - epochs // 3])
    curriculum = gr.Curriculum(*([] if method is None else [method]), seed=seed)
    data = torch.utils.data.TensorDataset(torch.arange(len(y)))
    loader = curriculum.loader(data, BATCH, drop_last=True)
    curriculum.attach(model=model, optimizer=optimizer)
    look(0, settled(model, x))
    for epoch in range(epochs):
        for (index,) in loader:
            losses = F.cross_entropy(model(x[index]), y[index], reduction="none")
            curriculum(losses).backward()
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()
        look(epoch + 1, settled(model, x))
    curriculum.detach()


def observe(method: gr.Method | None, seed: int, epochs: int, k: int) -> dict[str, Any]:
    """Train once, and measure the first and last convolution at 0, k and the end."""
    _, _, seen = load()
    recording, kept, weights = Recording(), {}, {}

    def look(epoch: int, model: nn.Module) -> None:
        found = activations(model, seen)
        entropies = {f"entropy.{place}": activation_entropy(found[place]) for place in PLACES}
        if epoch:
            recording.append(entropies, epoch=epoch)
        if epoch in (0, k, epochs):
            kept[epoch] = found
            weights[epoch] = {
                name: value.detach().clone() for name, value in model.named_parameters()
            }

    train(method, seed, epochs, look)
    spans = {"0_to_end": (0, epochs), "k_to_end": (k, epochs)}
    return {
        "recording": recording,
        "maps": kept[k],
        "numbers": {
            **{
                f"distance_{name}_{kind}_{place}": feature_distance(
                    kept[begin][place], kept[end][place], relative=kind == "relative"
                )
                for name, (begin, end) in spans.items()
                for kind in ("plain", "relative")
                for place in PLACES
            },
            **{
                f"entropy_at_{word}_{place}": float(activation_entropy(kept[at][place]).mean())
                for word, at in (("0", 0), ("k", k), ("end", epochs))
                for place in PLACES
            },
        },
        "updates": {
            name: {
                layer: round(size.relative, 5)
                for layer, size in moved(weights[begin], weights[end], by="layer").items()
                if np.isfinite(size.relative)  # biases start at 0
            }
            for name, (begin, end) in {"0_to_k": (0, k), "k_to_end": (k, epochs)}.items()
        },
    }


def main() -> None:
    """Train both regimes from every seed, write the numbers and draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums keep their order, and two runs can share a machine
    regimes: dict[str, Callable[[], gr.Method | None]] = {
        "conventional": lambda: None,
        "LeRaC": lambda: gr.LeRaC(options.k, last=1e-7),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in regimes}
    for seed in range(options.seeds):
        for name, make in regimes.items():
            runs[name].append(observe(make(), seed, options.epochs, options.k))
            print(f"seed {seed}, {name}", flush=True)
    found: dict[str, Any] = {
        "epochs": options.epochs,
        "k": options.k,
        "seeds": options.seeds,
        "updates_of_the_first_seed": {name: each[0]["updates"] for name, each in runs.items()},
    }
    for name, each in runs.items():
        found[name] = {
            key: {
                "mean": round(float(np.mean([run["numbers"][key] for run in each])), 5),
                "deviation": round(float(np.std([run["numbers"][key] for run in each])), 5),
            }
            for key in each[0]["numbers"]
        }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "layers.json").write_text(json.dumps(found, indent=1) + "\n")
    table(found)
    recordings = {name: each[0]["recording"] for name, each in runs.items()}
    paths = []
    for name, recording in recordings.items():
        paths.append(options.out / f"{name}.npz")
        recording.save(paths[-1])
    save(draw("lerac-entropy", *paths), options.out / "entropy.png")
    for path in paths:
        path.unlink()  # it served the names in the legend
    _, _, seen = load()
    maps = {
        f"{place} conv, {name}": each[0]["maps"][place][:4]
        for place in PLACES
        for name, each in runs.items()
    }
    save(activation_maps(seen[:4], maps), options.out / "maps.png")


def table(found: dict[str, Any]) -> None:
    """Print what the paper's tables show."""
    rows = (
        ("Table 6: distance from 0 to the end", "distance_0_to_end_plain"),
        ("  relative", "distance_0_to_end_relative"),
        ("Table 7: entropy at k", "entropy_at_k"),
        ("Table 8: distance from k to the end", "distance_k_to_end_plain"),
        ("  relative", "distance_k_to_end_relative"),
    )
    for title, key in rows:
        for regime in ("conventional", "LeRaC"):
            cells = (found[regime][f"{key}_{place}"] for place in PLACES)
            shown = "  ".join(
                f"{place} {cell['mean']:.4f} +- {cell['deviation']:.4f}"
                for place, cell in zip(PLACES, cells, strict=True)
            )
            print(f"{title:36} {regime:13} {shown}")


if __name__ == "__main__":
    main()
