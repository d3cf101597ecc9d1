"""Fine-tune a BERT on texts with a long tail of labels, under SPDCL, in a plain loop.

python examples/text_classification.py --out spdcl.npz
python examples/text_classification.py --curriculum plain --out plain.npz
python examples/text_classification.py --task pair --epochs 4

The model is tiny, made from a config, and the texts are made up, so that nothing is downloaded;
with a tokenizer, `from_pretrained` and data of your own the loop stays as it is. Texts have one
label (``--task single``) or up to three (``multi``); or two texts are of one topic or not
(``pair``). `gr.SPDCL` asks for one pass over all texts before an epoch while it orders them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForSequenceClassification

import gradatim as gr
from gradatim.analysis import Recording, label_f1

PAD, CLS, SEP, FIRST_WORD = 0, 1, 2, 3
COMMON, TOPICS, SIGNS = 60, 8, 4  # words without a topic, topics, words of each topic
Text = dict[str, Any]


def words_about(topics: list[int], generator: torch.Generator) -> list[int]:
    """A text of 4 to 26 words, two or three of which give each topic away."""
    length = int(torch.randint(2, 21, (), generator=generator))
    words = torch.randint(COMMON, (length,), generator=generator).tolist()
    for topic in topics:
        count = int(torch.randint(2, 4, (), generator=generator))
        signs = torch.randint(SIGNS, (count,), generator=generator)
        words += (COMMON + topic * SIGNS + signs).tolist()
    order = torch.randperm(len(words), generator=generator).tolist()
    return [FIRST_WORD + words[place] for place in order]


def make_texts(task: str, size: int, seed: int) -> list[Text]:
    """``size`` texts with labels; topics have a long tail: the k-th is k times rarer than one."""
    generator = torch.Generator().manual_seed(seed)
    often = 1 / torch.arange(1.0, TOPICS + 1)
    texts = []
    for _ in range(size):
        count = int(torch.randint(1, 4, (), generator=generator)) if task == "multi" else 1
        topics = torch.multinomial(often, count, generator=generator).tolist()
        ids = [CLS, *words_about(topics, generator), SEP]
        segments = [0] * len(ids)
        if task == "single":
            label: Any = topics[0]
        elif task == "multi":
            label = [float(topic in topics) for topic in range(TOPICS)]
        else:
            label = int(torch.rand((), generator=generator) < 0.5)
            away = int(torch.randint(1, TOPICS, (), generator=generator))
            other = topics[0] if label else (topics[0] + away) % TOPICS
            second = [*words_about([other], generator), SEP]
            ids, segments = ids + second, segments + [1] * len(second)
        texts.append({"ids": ids, "segments": segments, "label": label})
    return texts


def collate(texts: list[Text]) -> dict[str, torch.Tensor]:
    """Pad a batch to its longest text."""

    def padded(name: str) -> torch.Tensor:
        rows = [torch.tensor(text[name]) for text in texts]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # PAD is 0

    ids = padded("ids")
    return {
        "input_ids": ids,
        "token_type_ids": padded("segments"),
        "attention_mask": (ids != PAD).long(),
        "labels": torch.tensor([text["label"] for text in texts]),
    }


def build(task: str) -> BertForSequenceClassification:
    """A BERT of 2 layers, its weights drawn at random."""
    config = BertConfig(
        vocab_size=FIRST_WORD + COMMON + TOPICS * SIGNS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.1,  # there is no pretraining to grow from 0.02
    )
    config.num_labels = 2 if task == "pair" else TOPICS
    return BertForSequenceClassification(config)


def main() -> None:
    parser = argparse.ArgumentParser(description="A text classifier under SPDCL, in a plain loop.")
    parser.add_argument("--task", choices=("single", "multi", "pair"), default="multi")
    parser.add_argument("--curriculum", choices=("spdcl", "plain"), default="spdcl")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--shares", type=int, default=4)
    parser.add_argument("--texts", type=int, default=600, help="to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="RUN.npz", help="record the run for figures")
    args = parser.parse_args()

    train_set = make_texts(args.task, args.texts, seed=1)
    valid = collate(make_texts(args.task, 300, seed=2))
    torch.manual_seed(args.seed)
    model = build(args.task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    # One share is plain training: the method then measures norms, and orders nothing.
    spdcl = args.curriculum == "spdcl"
    method = gr.SPDCL(args.shares, planned_epochs=args.epochs) if spdcl else gr.SPDCL(1)
    curriculum = gr.Curriculum(method, seed=args.seed)
    loader = curriculum.loader(train_set, batch_size=25, collate_fn=collate)
    curriculum.attach(model=model, optimizer=optimizer)  # surveys switch its dropout off

    def forward(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        inputs = {name: values for name, values in batch.items() if name != "labels"}
        output = model(**inputs, output_hidden_states=True)
        if args.task == "multi":  # a loss per text: the sum over its labels
            losses = F.binary_cross_entropy_with_logits(
                output.logits, batch["labels"], reduction="none"
            ).sum(1)
        else:
            losses = F.cross_entropy(output.logits, batch["labels"], reduction="none")
        return {
            "losses": losses,
            "logits": output.logits,
            "hidden": output.hidden_states[-1],
            "mask": batch["attention_mask"],
        }

    def validate() -> dict[str, Any]:
        model.eval()
        with torch.no_grad():
            logits = forward(valid)["logits"]
        model.train()
        multi = args.task == "multi"
        predictions = (logits > 0).float() if multi else logits.argmax(1)
        f1 = label_f1(valid["labels"], predictions, None if multi else logits.shape[1])
        exact = (predictions == valid["labels"]).reshape(len(predictions), -1).all(1)
        return {"macro-F1": f1.mean(), "accuracy": exact.float().mean(), "label F1": f1}

    recording = Recording(labels=collate(train_set)["labels"])
    model.train()
    while curriculum.epoch < args.epochs:
        # For the figures norms are measured in all epochs; the method asks while it orders.
        if curriculum.survey_due or args.out:
            curriculum.survey(train_set, forward, collate_fn=collate)
        for batch in loader:
            losses = forward(batch)["losses"]
            loss = curriculum(losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = validate()
        recording.take(curriculum, measured=found)
        trained = int(recording.members[-1].sum())
        print(f"epoch {curriculum.epoch:2}: {trained:4} texts", end=", ")
        print(f"macro-F1 {found['macro-F1']:.3f}, accuracy {found['accuracy']:.3f}", flush=True)

    if args.out:
        recording.save(args.out)
        print("draw with")
        for name in ("spdcl-norms", "spdcl-lengths", "spdcl-labels"):
            print(f"  gradatim figure {name} {args.out}")
        print(f"  gradatim figure spdcl-groups {args.out} OTHER.npz")


if __name__ == "__main__":
    main()
