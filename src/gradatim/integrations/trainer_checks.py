"""What the Trainer offers and a curriculum would silently overrule is refused, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradatim.curriculum import Curriculum
from gradatim.loader import INDEX_KEY
from gradatim.method import overrides
from gradatim.validation import refusal

__all__ = ["CheckedCollator", "check_arguments", "check_class", "check_dataset"]

# Parts of transformers.Trainer that the mixin stands in for.
_REPLACED = ("compute_loss", "get_train_dataloader", "_get_train_sampler", "_run_epoch")
_NEEDED = ("_run_epoch", "_init_training_state", "set_initial_training_values")
_ORDER = "The curriculum decides the order; gr.Predefined follows a score of your own."


def check_class(trainer: type, mixin: type) -> None:
    """Refuse a class whose own loss or loader the mixin would hide.

    Raises:
        TypeError: `transformers.Trainer` is not behind the mixin, or changed between them; a
            sampler that nothing would ask for.
    """
    from transformers import Trainer

    order = trainer.__mro__
    if Trainer not in order or order.index(Trainer) < order.index(mixin):
        raise TypeError(
            f"{trainer.__name__} must list the mixin before its trainer: "
            f"class {trainer.__name__}({mixin.__name__}, Trainer)."
        )
    missing = [name for name in _NEEDED if not hasattr(Trainer, name)]
    if missing:
        raise TypeError(
            f"transformers.Trainer must have {missing}. Is this release of transformers older "
            "than 5?"
        )
    for owner in order[: order.index(mixin)]:
        if "_get_train_sampler" in vars(owner):
            raise TypeError(
                f"_get_train_sampler must be left to the curriculum. {owner.__name__} has its "
                f"own, which would not be used. {_ORDER}"
            )
    for owner in order[order.index(mixin) + 1 : order.index(Trainer)]:
        if issubclass(mixin, owner):
            continue  # a part of it
        for name in _REPLACED:
            if name in vars(owner):
                advice = (
                    "Return one loss per sample from compute_loss_func instead."
                    if name == "compute_loss"
                    else _ORDER
                )
                raise TypeError(
                    f"{name} must be left to the curriculum. {owner.__name__} has its own, which "
                    f"would not be used. {advice}"
                )


def check_arguments(args: Any, curriculum: Curriculum) -> None:
    """Refuse training arguments that would have no effect.

    Raises:
        ValueError: one of them is set.
        TypeError: a method selects within batches, which the Trainer has no step for.
    """
    strategy = getattr(args, "train_sampling_strategy", "random")
    strategy = getattr(strategy, "value", strategy)
    if strategy != "random":
        raise refusal("train_sampling_strategy", "'random'", repr(strategy), _ORDER)
    if args.data_seed is not None:
        cause = "The order is drawn from Curriculum(seed=...)."
        raise refusal("data_seed", "None", args.data_seed, cause)
    accelerator = args.accelerator_config
    for name in ("split_batches", "dispatch_batches"):
        if getattr(accelerator, name, None):
            cause = "Each process draws its own part of the curriculum's batches."
            raise refusal(f"accelerator_config.{name}", "off", True, cause)
    if args.use_liger_kernel:
        cause = "Its fused loss is of the whole batch, and the curriculum needs one per sample."
        raise refusal("use_liger_kernel", "False", True, cause)
    for method in curriculum.methods:
        if overrides(method, "select"):
            raise TypeError(
                f"curriculum must not select within batches: {method} does, and the Trainer has "
                "no step for it. Write a training loop of your own around it."
            )


def check_dataset(dataset: Any) -> None:
    """Refuse data that no curriculum can order.

    Raises:
        TypeError: a stream.
        ValueError: empty data, or a column of the reserved name.
    """
    from torch.utils.data import IterableDataset

    indexed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if isinstance(dataset, IterableDataset) or not indexed:
        raise TypeError(
            f"train_dataset must have __getitem__ and __len__. Got {type(dataset).__name__}. "
            "Is it a stream?"
        )
    if len(dataset) == 0:
        raise refusal("train_dataset", "non-empty", "0 samples")
    if INDEX_KEY in (getattr(dataset, "column_names", None) or ()):
        raise refusal("train_dataset", f"free of the reserved column {INDEX_KEY!r}", "one with it")


class CheckedCollator:
    """The Trainer's collator, which must make a dict, of samples without the reserved key."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        """The batch of these samples."""
        if items and isinstance(items[0], dict) and INDEX_KEY in items[0]:
            rule = f"free of the reserved column {INDEX_KEY!r}"
            raise refusal("train_dataset", rule, "a sample with it")
        batch = self.collate(items)
        if not hasattr(batch, "keys"):
            raise TypeError(
                f"data_collator must return a dict. Got {type(batch).__name__}. The batch's index "
                "travels in it."
            )
        return batch
