"""What a plan leaves open, chosen by the data: model family, metric, optimizer, batch size."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradatim.compare.calls import CurriculumSpec
from gradatim.compare.contexts import START_FRACTION
from gradatim.compare.curricula import check_all, check_attach, reads_hidden, touches_model
from gradatim.compare.data import Loaded, Task, folds_of, load, make_task
from gradatim.compare.metrics import METRICS, PRIMARY, has
from gradatim.compare.models import build_model, tokenizer_for
from gradatim.compare.plan import Plan
from gradatim.compare.reading import cropped, shows_hidden
from gradatim.validation import refusal

__all__ = ["RECIPES", "Recipe", "resolve"]

SMALLEST_BATCH = 8
# What transformers reads from a folder: configuration, vocabulary, weights.
WEIGHTS = (".json", ".txt", ".model", ".safetensors", ".bin")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters that train the default model of a modality well on its own.

    Attributes:
        optimizer, learning_rate, weight_decay, batch_size: see `Training`.
        epochs: of plain training.

    Example:
        >>> RECIPES["table"].batch_size
        64
    """

    optimizer: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int


RECIPES = {
    "table": Recipe("sgd", 0.15, 0.0, 64, 20),
    # Squared errors have no bound: large steps on a rare target would never come back.
    "table, regression": Recipe("adamw", 5e-3, 1e-2, 64, 40),
    "image": Recipe("sgd", 0.05, 5e-4, 128, 10),
    "spectrogram": Recipe("adamw", 2e-3, 1e-2, 32, 30),
    "text": Recipe("adamw", 2e-3, 1e-2, 64, 8),
    "transformer": Recipe("adamw", 5e-5, 1e-2, 32, 3),
}


def resolve(plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """Look at the data once, and fill in what the plan leaves open.

    Args:
        plan: as it was asked for.

    Returns:
        A plan without gaps, and facts about the task for the report, one entry per setting.

    Raises:
        ValueError: data that cannot be used, or choices that do not fit them.

    Example:
        >>> plan, facts = resolve(Plan())
        >>> plan.metric, plan.batch_size, plan.epochs, sorted(facts)
        ('accuracy', 64, 20, ['clean', 'noise-0.3'])
    """
    check_all(plan.specs)  # a misspelt name should not wait for the data
    loaded = load(plan.source)
    first = plan.seed_list[0]
    folds = folds_of(loaded)
    # What fits the smallest training part fits all: the one that lacks the largest fold.
    fold = None if folds is None else int(np.bincount(folds)[1:].argmax()) + 1
    encode = tokenizer_for(plan.model, plan.max_tokens) if loaded.modality == "text" else None
    tasks = {
        slug: make_task(loaded, stress, seed=first, fold=fold, encode_texts=encode)
        for slug, stress in plan.settings.items()
    }
    task = next(iter(tasks.values()))
    family = task.modality
    if encode is not None:
        family = "transformer"
    recipe = RECIPES.get(f"{family}, {task.kind}", RECIPES[family])
    smallest = min(len(each.training) for each in tasks.values())
    metric = plan.metric or PRIMARY[task.kind]
    if not has(metric, task.kind, task.outputs):
        known = ", ".join(name for name in METRICS if has(name, task.kind, task.outputs))
        raise refusal("metric", f"one for {task.kind}: {known}", repr(metric))
    chosen = {
        "metric": metric,
        "batch_size": _batch_size(recipe.batch_size, smallest, plan.devices),
        "epochs": recipe.epochs,
        "optimizer": recipe.optimizer,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "margin": _margin(metric, task.training.labels),
        "device": _device() if plan.device == "auto" else plan.device,
        "fingerprint": _fingerprint(loaded, plan),
    }
    if plan.fingerprint not in (None, chosen["fingerprint"]):
        rule = f"what the plan was made for, with the fingerprint {plan.fingerprint}"
        raise refusal("data", rule, chosen["fingerprint"], "Did files or your code change?")
    open_entries = {
        name: value for name, value in chosen.items() if getattr(plan, name) in (None, "auto")
    }
    # In the spelling of `gradatim methods`, so that the same plan is the same plan.
    specs = check_all(plan.specs, kind=task.kind, modality=task.modality)
    resolved = plan.with_values(curricula=tuple(map(str, specs)), **open_entries)
    assert resolved.batch_size is not None
    most = max(1, int(START_FRACTION * smallest))
    if resolved.batch_size > most:
        cause = "A paced curriculum starts with that many samples; a smaller batch would do."
        rule = f"at most {most}, half of the training part"
        raise refusal("batch_size", rule, resolved.batch_size, cause)
    if encode is not None:
        known = {name: metadata.version(name) for name in ("tokenizers", "transformers")}
        resolved = resolved.with_values(
            versions=dict(sorted({**resolved.versions, **known}.items()))
        )
    _check_device(resolved)
    _check_model(resolved, task)
    return resolved, {slug: each.facts for slug, each in tasks.items()}


def _fingerprint(loaded: Loaded, plan: Plan) -> str:
    """Name the content of the data, and of your own code and weights that make models or curricula.

    A file that changes between two runs of a command must not go unnoticed.
    """
    digest = hashlib.blake2b(digest_size=6)
    _feed(digest, (loaded.inputs, loaded.targets, loaded.label_names, loaded.parts))
    if loaded.folds is not None:
        _feed(digest, (loaded.folds, loaded.fold_names))
    names = (part.name for spec in plan.specs for part in spec.parts)
    for name in (plan.model, *names):
        if ":" in name:
            source = _source_of(name.partition(":")[0])
            if source is not None:
                digest.update(source.read_bytes())
    if loaded.modality == "text":
        encode = tokenizer_for(plan.model, plan.max_tokens)
        if encode is not None:
            _feed_folder(digest, Path(encode.name))
    return digest.hexdigest()


def _feed_folder(digest: Any, folder: Path) -> None:
    """Hash what a transformer is loaded from, where that is a folder."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.suffix in WEIGHTS:
                digest.update(path.name.encode())
                with path.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "blake2b").digest())


def _source_of(module: str) -> Path | None:
    """Where a module's code lies; None where it has no file, as one typed in a notebook."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    path = None if found is None or found.origin is None else Path(found.origin)
    return path if path is not None and path.is_file() else None


def _feed(digest: Any, value: Any) -> None:
    """Hash arrays, strings and numbers in dataclasses, tuples and dicts of any depth."""
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data if value.size else b"")
    elif is_dataclass(value) and not isinstance(value, type):
        _feed(digest, tuple(getattr(value, entry.name) for entry in fields(value)))
    elif isinstance(value, dict):
        _feed(digest, tuple(item for pair in value.items() for item in pair))
    elif isinstance(value, tuple | list):
        digest.update(f"({len(value)}".encode())
        for entry in value:
            _feed(digest, entry)
    else:
        digest.update(repr(value).encode())


def _batch_size(usual: int, training: int, devices: int) -> int:
    """Halve the usual size until an epoch has a dozen steps; a curriculum may start with half."""
    size = usual
    while size > SMALLEST_BATCH and 12 * size > training:
        size //= 2
    return max(size // devices, 1) * devices


def _margin(metric: str, targets: torch.Tensor) -> float:
    """One point; for errors in the user's units, a fiftieth of the targets' deviation."""
    if metric in ("rmse", "mae"):
        return float(f"{0.02 * float(targets.double().std()):.2g}")
    return 0.01


def _check_device(plan: Plan) -> None:
    """Refuse what no run could use, before each of them says so."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _device() == "mps"}
    if not there[plan.device]:
        raise refusal("device", "one that this machine has", repr(plan.device))
    if plan.device == "cuda" and plan.devices > torch.cuda.device_count():
        raise refusal("devices", f"at most {torch.cuda.device_count()} here", plan.devices)
    if plan.device == "cpu" and plan.precision == "16":
        raise refusal("precision", "32 or bf16 on the CPU", repr(plan.precision))


def _check_model(plan: Plan, task: Task) -> None:
    """Refuse a model that cannot be made, or that a curriculum of layers cannot work on."""
    curricula = [spec for spec in plan.specs if touches_model(spec, kind=task.kind)]
    readers = [spec for spec in plan.specs if reads_hidden(spec, kind=task.kind)]
    if plan.model == "default" and not curricula and not readers:
        return  # ours can be made
    shape = tuple(task.training.features.shape[1:])
    model = build_model(
        plan.model,
        modality=task.modality,
        shape=shape,
        outputs=task.outputs,
        tokens=task.tokens,
        seed=0,
    )
    for spec in readers:
        _check_hidden(spec, plan, task, model)
    optimizer = plan.training(len(task.training)).make_optimizer(model)
    for spec in curricula:
        check_attach(spec, model, optimizer, kind=task.kind)


def _check_hidden(spec: CurriculumSpec, plan: Plan, task: Task, model: torch.nn.Module) -> None:
    """Refuse a curriculum that reads hidden states, for a model that does not show them."""
    if not shows_hidden(model):
        rule = "able to work on the model"
        got = f"{spec.label}, which reads hidden states, and model {plan.model!r} shows none"
        cause = "Transformers do, and the default model of texts."
        if ":" in plan.model:
            cause = "Let its forward take hidden=True, and return outputs, hidden states and mask."
        elif task.modality != "text":
            cause = f"The data are of kind {task.modality!r}. {cause}"
        raise refusal("curricula", rule, got, cause)
    mode = model.training
    rule = "(outputs, hidden states (B, L, h), mask (B, L)) of a model called with hidden=True"
    with torch.no_grad():
        answer = model.eval()(cropped(model, task.training.features[:2]), hidden=True)
    model.train(mode)
    if not isinstance(answer, tuple) or len(answer) != 3:
        got = type(answer).__name__
        got = f"tuple of {len(answer)}" if isinstance(answer, tuple) else got
        raise refusal("model", f"one that returns {rule}", got)
    hidden, mask = answer[1:]
    if hidden.ndim != 3 or mask.shape != hidden.shape[:2] or len(mask) != len(answer[0]):
        shapes = ", ".join(str(tuple(part.shape)) for part in answer)
        raise refusal("model", f"one that returns {rule}", shapes)


def _device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    mps = getattr(torch.backends, "mps", None)
    return "mps" if mps is not None and mps.is_available() else "cpu"
