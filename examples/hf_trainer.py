"""Fine-tune a classifier of texts with the Hugging Face Trainer, under a curriculum.

python examples/hf_trainer.py --output reviews
python examples/hf_trainer.py --output reviews --resume
torchrun --standalone --nproc-per-node 2 examples/hf_trainer.py --batch-size 8

The model is a tiny BERT made from a config and the reviews are made up, so that nothing is
downloaded. With --model a pretrained one from a folder or the hub is trained on them instead.
"""

from __future__ import annotations

import argparse
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import Trainer, TrainingArguments

import gradatim as gr
from gradatim.integrations import CurriculumTrainerMixin

GOOD, BAD = ["lovely", "moving", "funny", "bright"], ["dull", "noisy", "endless", "clumsy"]
FILLING = [
    "the",
    "film",
    "has",
    "a",
    "scene",
    "where",
    "people",
    "talk",
    "about",
    "music",
    "and",
    "their",
    "town",
]


class CurriculumTrainer(CurriculumTrainerMixin, Trainer):
    """The Trainer, with one more argument."""


def reviews(size: int, seed: int) -> datasets.Dataset:
    """Reviews of 2 to 24 words; most of the words that judge agree with the label."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(size):
        label = number % 2
        words = generator.choice(FILLING, generator.integers(1, 21)).tolist()
        words += generator.choice((BAD, GOOD)[label], generator.integers(1, 3)).tolist()
        words += generator.choice((BAD, GOOD)[1 - label], generator.integers(0, 2)).tolist()
        rows.append({"text": " ".join(generator.permutation(words)), "label": label})
    return datasets.Dataset.from_list(rows)


def tiny() -> tuple[Any, Any]:
    """A BERT of two layers and a tokenizer that knows every word of the reviews."""
    words = dict.fromkeys(["[PAD]", "[UNK]", *GOOD, *BAD, *FILLING])
    vocabulary = {word: number for number, word in enumerate(words)}
    splitter = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    splitter.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=splitter, pad_token="[PAD]", unk_token="[UNK]"
    )
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    return transformers.BertForSequenceClassification(config), tokenizer


def methods(name: str) -> list[gr.Method]:
    pace = gr.pacing.Linear(start_fraction=0.4, epochs=2)
    return {
        "uniform": [gr.Uniform()],
        "spl": [gr.SPL(pace=pace)],
        "spdcl": [gr.SPDCL(shares=3)],
        "superloss": [gr.SuperLoss()],
    }[name]


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Curriculum learning in the Trainer.")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--size", type=int, default=512, help="number of reviews to train on")
    parser.add_argument("--batch-size", type=int, default=16, help="of each process")
    parser.add_argument("--accumulate", type=int, default=1, help="batches per optimizer step")
    parser.add_argument("--output", default="reviews", metavar="FOLDER")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--save-steps", type=int, default=50)
    parser.add_argument("--model", help="a pretrained one, by folder or hub name")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument(
        "--curriculum", choices=["uniform", "spl", "spdcl", "superloss"], default="spdcl"
    )
    args = parser.parse_args()

    torch.manual_seed(0)
    if args.model:
        tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(args.model)
    else:
        model, tokenizer = tiny()

    def encoded(texts: datasets.Dataset) -> datasets.Dataset:
        return texts.map(lambda row: tokenizer(row["text"], truncation=True))

    trainer = CurriculumTrainer(
        model,
        TrainingArguments(
            args.output,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            gradient_accumulation_steps=args.accumulate,
            learning_rate=2e-5 if args.model else 2e-3,
            save_steps=args.save_steps,
            eval_strategy="epoch",
            logging_strategy="epoch",
            report_to=[],
            use_cpu=args.cpu,
            dataloader_pin_memory=torch.cuda.is_available() and not args.cpu,
        ),
        train_dataset=encoded(reviews(args.size, seed=0)),
        eval_dataset=encoded(reviews(256, seed=1)),
        processing_class=tokenizer,
        compute_metrics=accuracy,
        curriculum=gr.Curriculum(*methods(args.curriculum), seed=0),
    )
    trainer.train(resume_from_checkpoint=args.resume)
    if trainer.is_world_process_zero():
        for entry in trainer.state.log_history:
            if "eval_accuracy" in entry:
                print(f"epoch {entry['epoch']:.0f}: {entry['eval_accuracy']:.1%} right")


if __name__ == "__main__":
    main()
    if torch.distributed.is_initialized():  # after main, so that nothing uses the group any longer
        torch.distributed.destroy_process_group()
