"""The Hugging Face Trainer with a curriculum: a mixin in front of the trainer one has.

The Trainer fetches all batches of an optimizer step before it trains on the first, and counts
its steps before it begins. So each batch carries its own index, and the curriculum tells how long
each epoch will be.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
import warnings
from dataclasses import replace
from functools import partial
from typing import Any, cast

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, seed_worker

from gradatim import reports
from gradatim.curriculum import Curriculum
from gradatim.integrations.trainer_callback import CurriculumTrainerCallback
from gradatim.integrations.trainer_checks import (
    CheckedCollator,
    check_arguments,
    check_class,
    check_dataset,
)
from gradatim.integrations.trainer_steps import CurriculumSteps
from gradatim.loader import CurriculumLoader
from gradatim.validation import check_count, refusal

__all__ = ["CurriculumTrainerMixin"]


class CurriculumTrainerMixin(CurriculumSteps):
    """Train with a curriculum in `transformers.Trainer`, or a class made of it.

    Three lines of a script change::

        class CurriculumTrainer(CurriculumTrainerMixin, Trainer):
            pass

        trainer = CurriculumTrainer(..., curriculum=gr.Curriculum(gr.SPL(), seed=0))

    One loss per sample comes from the model's logits and labels, as the model's own loss treats
    them (`gradatim.integrations.trainer_losses.sample_losses`): one label, several labels,
    regression, question answering, or a loss per token. Of a text with a loss per token the
    curriculum sees the mean over its tokens; for training, texts count by their tokens, as ever.
    On the first batch the mean is compared to the model's own loss.

    Args:
        *args: as the Trainer's.
        curriculum: a `gradatim.Curriculum` without a loader; its seed, not ``data_seed``, gives
            the order.
        steps_per_epoch: batches in each epoch, where all shall be equally long; small parts of
            the data repeat, reshuffled. Set by itself, with a warning, where lengths depend on
            the data and ``max_steps`` does not fix the total.
        seed_augmentation: random augmentation in the data set becomes a function of seed, epoch
            and sample.
        **kwargs: as the Trainer's. A ``compute_loss_func`` must return losses (B,), one per
            sample, from ``(outputs, labels, num_items_in_batch)``.

    Raises:
        TypeError: no curriculum, a stream, or a trainer whose own ``compute_loss`` or sampler
            would not be used.
        ValueError: empty data, a column named ``"_gradatim_index"``, or arguments that would
            have no effect (``train_sampling_strategy``, ``data_seed``, ``split_batches``, ...).

    Example:
        >>> import tempfile, gradatim as gr
        >>> from gradatim.integrations import CurriculumTrainerMixin
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from transformers import Trainer, TrainingArguments
        >>> class CurriculumTrainer(CurriculumTrainerMixin, Trainer):
        ...     pass
        >>> texts = [{"input_ids": [1, 2 + n % 2], "labels": n % 2} for n in range(8)]
        >>> size = dict(vocab_size=4, hidden_size=4, num_hidden_layers=1, num_attention_heads=1)
        >>> model = BertForSequenceClassification(BertConfig(**size, intermediate_size=4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = CurriculumTrainer(
        ...         model,
        ...         TrainingArguments(
        ...             folder, num_train_epochs=2, per_device_train_batch_size=4, report_to=[],
        ...             disable_tqdm=True, use_cpu=True, save_strategy="no", logging_strategy="no",
        ...             dataloader_pin_memory=False),
        ...         train_dataset=texts,
        ...         curriculum=gr.Curriculum(gr.SuperLoss(), seed=0),
        ...     )
        ...     steps = trainer.train().global_step
        {...}
        >>> steps, trainer.curriculum.epoch
        (4, 2)

    Differences from the stock Trainer:
        With gradient accumulation the batches of an optimizer step count as one large batch. The
        stock Trainer leaves that to a model that takes ``**kwargs``, by ``num_items_in_batch``;
        one that ignores it (as `BertForSequenceClassification` does) gets gradients as many times
        too large as there are batches in a step. ``ignore_data_skip`` has no effect: a resumed
        run reads nothing that it skips.

    Caveats:
        A loss that a model adds to that of its labels (a router's, say) is refused on the first
        batch. Methods that select within batches need a training loop. Hidden states are asked of
        the model in surveys and where a method wants them in training; SPDCL does with
        ``measure="training"``. Tensor, context and sequence parallelism are refused; FSDP and
        DeepSpeed have not been tried.
    """

    def __init__(
        self,
        *args: Any,
        curriculum: Curriculum | None = None,
        steps_per_epoch: int | None = None,
        seed_augmentation: bool = False,
        **kwargs: Any,
    ) -> None:
        check_class(type(self), CurriculumTrainerMixin)
        lists = (each for each in (*args, kwargs.get("callbacks")) if isinstance(each, list))
        found = (c for each in lists for c in each if isinstance(c, CurriculumTrainerCallback))
        given = next(found, None)
        if given is not None and curriculum not in (None, given.curriculum):
            raise refusal("curriculum", "that of the callback, or left out", curriculum)
        callback = given or CurriculumTrainerCallback(cast("Any", curriculum))
        if steps_per_epoch is not None:
            check_count("steps_per_epoch", steps_per_epoch, at_least=1)
        self.curriculum = callback.curriculum
        self._steps_per_epoch = steps_per_epoch
        self._seed_augmentation = seed_augmentation
        self._curriculum_callback = callback
        self._curriculum_loader: CurriculumLoader | None = None
        self._loader_for: tuple[Any, int] = (None, 0)
        self._starts = False  # whether training is about to begin
        self._resume_from: str | None = None
        self._restarts = False
        self._fresh: dict[str, Any] | None = None
        self._report: dict[str, float] = {}
        super().__init__(*args, **kwargs)
        if given is None:
            self.add_callback(callback)
        check_arguments(self.args, self.curriculum)
        if max(self.get_tp_size(), self.get_cp_size(), self.get_sp_size()) > 1:
            cause = "A curriculum gives each process other samples."
            raise refusal("processes", "data parallel only", "a part of the model in each", cause)
        if self.train_dataset is not None:
            check_dataset(self.train_dataset)

    # ------------------------------------------------------------------ data

    def get_train_dataloader(self) -> Any:
        """The curriculum's loader; the same one until the data or the batch size change."""
        if self.train_dataset is None:
            return super().get_train_dataloader()
        data, size = self._loader_for
        if self._curriculum_loader is None or (
            data is not self.train_dataset or size != self._train_batch_size
        ):
            self._curriculum_loader = self.callback_handler.train_dataloader = None
            self._curriculum_loader = self._new_loader()
            self._loader_for = (self.train_dataset, self._train_batch_size)
        if self._starts:
            self._starts = False
            self._position()
        return self._curriculum_loader

    def _new_loader(self) -> CurriculumLoader:
        check_dataset(self.train_dataset)
        args = self.args
        dataset, collate = self._training_data()
        loader = self.curriculum.loader(
            dataset,
            self._train_batch_size,
            collate_fn=collate,
            carry="key",
            steps_per_epoch=self._steps_per_epoch,
            seed_augmentation=self._seed_augmentation,
            drop_last=args.dataloader_drop_last,
            persistent_workers=args.dataloader_persistent_workers,
            in_order=getattr(args, "dataloader_in_order", True),
            **self._worker_options(),
        )
        epochs = self.curriculum.epochs
        known = reports.planned_lengths(epochs, math.ceil(args.num_train_epochs)) is not None
        if not known and args.max_steps <= 0:
            steps = epochs.layout.steps(epochs.run.size, epochs.run.world)
            epochs.layout = replace(epochs.layout, steps_per_epoch=steps)
            warnings.warn(
                f"the length of epochs depends on the data under {self.curriculum!r}, and the "
                f"Trainer needs the total: each gets {steps} batches, small parts of the data "
                "repeat. Set max_steps for epochs of their own length, or steps_per_epoch.",
                stacklevel=2,
            )
        return loader

    def _training_data(self) -> tuple[Any, CheckedCollator]:
        """The data set and the collator, without columns that the model does not take."""
        dataset, collate = self.train_dataset, self.data_collator
        if hasattr(dataset, "column_names") and hasattr(dataset, "remove_columns"):
            dataset = self._remove_unused_columns(cast("Any", dataset), description="training")
        else:
            collate = self._get_collator_with_removed_columns(collate, description="training")
        return dataset, CheckedCollator(collate)

    def _worker_options(self) -> dict[str, Any]:
        args = self.args
        return {
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "multiprocessing_context": getattr(args, "dataloader_multiprocessing_context", None),
            "worker_init_fn": partial(
                seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index
            ),
        }

    # ------------------------------------------------------------------ the course of training

    def _inner_training_loop(
        self,
        batch_size: int | None = None,
        args: Any = None,
        resume_from_checkpoint: str | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        self._starts = self._unchecked = True
        self._resume_from = resume_from_checkpoint
        self._restarts = trial is not None or self.args.auto_find_batch_size
        try:
            return super()._inner_training_loop(
                batch_size=batch_size,
                args=args,
                resume_from_checkpoint=resume_from_checkpoint,
                trial=trial,
                ignore_keys_for_eval=ignore_keys_for_eval,
            )
        finally:
            self._starts = False
            self._curriculum_callback.release()

    def _position(self) -> None:
        """Put the curriculum where this run begins, before anything asks for lengths."""
        callback = self._curriculum_callback
        if self._resume_from is not None:
            callback.load(self._resume_from)
            return
        if self._restarts:  # trials, and trials of a batch size, begin alike
            if self._fresh is None:
                self._fresh = self.curriculum.state_dict()
            else:
                self.curriculum.load_state_dict(self._fresh)
        callback.begin_training()

    def _updates(self, steps: int) -> int:
        """Optimizer steps that so many batches make."""
        return -(-steps // self.args.gradient_accumulation_steps)

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """Epochs and steps, from the lengths that the curriculum plans."""
        if dataloader is not self._curriculum_loader:
            raise TypeError(
                "get_train_dataloader must be left to the curriculum, or return what "
                f"super().get_train_dataloader() gives. That of {type(self).__name__} returned "
                f"another {type(dataloader).__name__}."
            )
        callback, epochs = self._curriculum_callback, self.curriculum.epochs
        past = self.curriculum.epoch - callback.first_epoch
        before = callback.updates_before()
        if args.max_steps > 0:
            max_steps = args.max_steps
            lengths = self._lengths_for(max_steps - before)
            count = sys.maxsize if lengths is None else past + len(lengths)
        else:
            count = math.ceil(args.num_train_epochs)
            lengths = reports.planned_lengths(epochs, max(0, count - past))
            assert lengths is not None  # the loader saw to it
            share = args.num_train_epochs % 1 or 1.0
            updates = callback.updates_of(lengths, args.gradient_accumulation_steps, share)
            max_steps = before + sum(updates)
        batch = self.get_total_train_batch_size(args)
        first = lengths[0] if lengths else epochs.layout.steps(epochs.run.size, epochs.run.world)
        samples = max_steps * batch
        if lengths is not None and args.max_steps <= 0:
            full = batch // args.gradient_accumulation_steps
            samples = sum(min(epochs.run.size, length * full) for length in lengths)
        return (
            count,
            max(1, self._updates(first)),
            epochs.run.size,
            samples,
            batch,
            first,
            max_steps,
        )

    def _lengths_for(self, updates: int) -> list[int] | None:
        """Lengths of the epochs that so many optimizer steps take; None if they are unknown."""
        count = 1
        while True:
            lengths = reports.planned_lengths(self.curriculum.epochs, count)
            if lengths is None:
                return None
            total = 0
            accumulate = self.args.gradient_accumulation_steps
            for number, each in enumerate(
                self._curriculum_callback.updates_of(lengths, accumulate)
            ):
                if total >= updates:
                    return lengths[:number]
                total += each
            if total >= updates:
                return lengths
            count *= 2

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        super()._init_training_state(*args, **kwargs)
        # The loader itself begins where the checkpoint was taken: there is nothing to skip.
        return self.curriculum.epoch - self._curriculum_callback.first_epoch, 0

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        arguments = inspect.signature(super()._run_epoch).bind(*args, **kwargs).arguments
        self._survey()
        steps = self._curriculum_callback.begin_epoch(
            arguments["epoch"], self.args.gradient_accumulation_steps
        )
        arguments["steps_in_epoch"] = steps
        arguments["num_update_steps_per_epoch"] = self._updates(steps)
        arguments["steps_trained_in_current_epoch"] = 0
        self._report = {
            f"curriculum_{name}": value
            for name, value in self.curriculum.metrics().items()
            if not math.isnan(value)
        }
        super()._run_epoch(**arguments)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log training losses with the curriculum's report on the epoch (as of its beginning)."""
        super().log({**logs, **self._report} if "loss" in logs else logs, *args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        trial = kwargs.get("trial", args[1] if len(args) > 1 else None)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # Before the rest: a folder that looks complete is complete.
        self._curriculum_callback.save(
            os.path.join(self._get_output_dir(trial=trial), name),
            writes=self.args.should_save,
        )
        super()._save_checkpoint(*args, **kwargs)

    def _survey(self) -> None:
        """The passes over all samples that methods want before the coming epoch."""
        curriculum = self.curriculum
        self._curriculum_callback.close_epoch()
        if curriculum.epochs.begun or not curriculum.survey_due:
            return
        dataset, collate = self._training_data()
        curriculum.survey(
            dataset,
            self._surveyed,
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=collate,
            **self._worker_options(),
        )
