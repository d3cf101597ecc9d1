"""Turn the papers' data sets into files that `gradatim compare` reads.

python experiments/prepare.py FOLDER     # FOLDER holds the packed data sets and their unpack.py

Writes experiments/data/, which is not part of the repository. Anybody who has Fashion-MNIST,
CIFAR-10 with the CIFAR-10N labels, and CoLA in another form can write the same files: what each
holds is said beside the function that makes it.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).parent / "data"


def fashion_mnist(source: Path) -> None:
    """All 60,000 training and 10,000 test images, 28 x 28 grey, in the official order."""
    parts = {name: np.load(source / f"fashion_mnist_{name}.npz") for name in ("train", "test")}
    arrays = {
        f"{letter}_{name}": part[letter] for name, part in parts.items() for letter in ("x", "y")
    }
    np.savez_compressed(OUT / "fashion_mnist.npz", **arrays)
    # The first 10,000 training images and all test images, for experiments on little data.
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:10_000], arrays["y_train"][:10_000]
    np.savez_compressed(OUT / "fashion_mnist_10k.npz", **arrays)


def cifar10n(source: Path) -> None:
    """Training images 0 ... 9,999 with CIFAR-10N's worst labels (40 % wrong), or with clean ones.

    The test part is the first 2,000 test images with clean labels.
    """
    specification = importlib.util.spec_from_file_location("unpack", source / "unpack.py")
    unpack = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(unpack)
    labels = np.load(source / "cifar10n_labels.npz")
    x_train = unpack.packed(source / "cifar10_train_1.npz")
    x_test = unpack.packed(source / "cifar10_test.npz")[:2000]
    y_test = np.load(source / "cifar10_test.npz")["y"][:2000]
    at = np.load(source / "cifar10_train_1.npz")["index"]
    for name in ("worse_label", "clean_label"):
        np.savez_compressed(
            OUT / f"cifar10n_{name.removesuffix('_label')}.npz",
            x_train=x_train,
            y_train=labels[name][at],
            x_test=x_test,
            y_test=y_test,
        )


def cola(source: Path) -> None:
    """Sentences and whether they are acceptable: GLUE's training part, and its dev part as test."""
    with gzip.open(source / "cola.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    for part, name in (("train", "cola_train.csv"), ("dev", "cola_dev.csv")):
        with (OUT / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sentence", "acceptable"])
            writer.writerows((row[3], row[1]) for row in rows if row[0] == part)


def main() -> None:
    """Write every file."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    OUT.mkdir(exist_ok=True)
    for prepare in (fashion_mnist, cifar10n, cola):
        print(prepare.__name__, flush=True)
        prepare(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
