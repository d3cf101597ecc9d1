"""Lightning: a curriculum in a `Trainer`, by one callback. Needs ``lightning``."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from gradatim.curriculum import Curriculum
from gradatim.loader import CurriculumLoader
from gradatim.method import overrides
from gradatim.undisturbed import undisturbed
from gradatim.validation import check_count, check_flag, refusal

__all__ = ["CurriculumCallback"]


def _callback_class() -> Any:
    """The class that trainers of the imported package expect of a callback.

    The library comes as two packages with a class each, ``lightning.pytorch`` and
    ``pytorch_lightning``; where both are imported the callback is one of both.
    """
    names = ("lightning.pytorch", "pytorch_lightning")
    used = [name for name in names if name in sys.modules]
    for name in names:
        if not used and importlib.util.find_spec(name.partition(".")[0]) is not None:
            used = [name]
    if not used:
        raise ImportError("gradatim.integrations.CurriculumCallback needs lightning: install it.")
    classes = tuple(importlib.import_module(name).Callback for name in used)
    return classes[0] if len(classes) == 1 else type("Callback", classes, {})


Callback: Any = _callback_class()


class CurriculumCallback(Callback):
    """Lets a Lightning `Trainer` train with a curriculum, and keeps it in the checkpoints.

    The loader and the loss are the curriculum's, as in a loop of your own:
    ``trainer.fit(model, curriculum.loader(train_set, 32))``, and ``return curriculum(losses)`` in
    ``training_step``. The callback does the rest. It attaches model and optimizer when training
    starts and detaches them when it ends; ends the curriculum's epochs with the trainer's; has the
    trainer ask anew for the length of each epoch, where it may change; and gives the curriculum's
    state to every checkpoint and takes it back, within an epoch too.

    Args:
        curriculum: the one whose loader the trainer gets.
        model: name of the submodule to attach; None is the whole LightningModule.
        optimizer: which of the module's optimizers to attach, if it has several.
        survey: ``survey(batch) -> {"losses": (B,), **signals}``, for methods that look at all
            samples between epochs; a method of the module. It gets batches on the device, under
            the trainer's precision; the module is in eval mode and builds no graph.
        log: log `Curriculum.metrics` once per epoch, under ``"curriculum/..."``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: when fitting starts: the trainer's loader is not the curriculum's; it overfits
            batches; a survey is needed and missing; the checkpoint holds no curriculum.

    Example:
        >>> import lightning.pytorch as pl, torch, gradatim as gr
        >>> from gradatim.integrations import CurriculumCallback
        >>> curriculum = gr.Curriculum(gr.SuperLoss(), seed=0)
        >>> class Module(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = torch.nn.Linear(3, 1)
        ...     def training_step(self, batch, batch_idx):
        ...         losses = self.net(batch[0]).square().squeeze(1)
        ...         return curriculum(losses)
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> callback = CurriculumCallback(curriculum, log=True)
        >>> callback.curriculum is curriculum
        True

    Caveats:
        Where epochs grow or shrink, the trainer reloads its loaders in every epoch
        (``reload_dataloaders_every_n_epochs=1``): ``train_dataloader`` must return the same loader
        each time, and ``Trainer.estimated_stepping_batches`` knows only the first epoch's length.
        ``steps_per_epoch=`` of the loader keeps epochs equally long.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        *,
        model: str | None = None,
        optimizer: int = 0,
        survey: Callable[[Any], dict[str, torch.Tensor]] | None = None,
        log: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(curriculum, Curriculum):
            raise TypeError(str(refusal("curriculum", "a gradatim.Curriculum", curriculum)))
        if model is not None and not isinstance(model, str):
            cause = "Lightning hands over the module itself."
            raise TypeError(str(refusal("model", "the name of a submodule or None", model, cause)))
        if survey is not None and not callable(survey):
            raise TypeError(str(refusal("survey", "callable or None", survey)))
        self.curriculum = curriculum
        self.model = model
        self.optimizer = check_count("optimizer", optimizer)
        self.survey = survey
        self.logs = check_flag("log", log)
        self._fitting = False
        self._attached = False
        self._reload: int | None = None  # what the trainer's user had set

    # ------------------------------------------------------------------ begin and end

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what would take another order."""
        self._fitting = stage == "fit"
        if not self._fitting:
            return
        if trainer.overfit_batches:
            cause = "It takes the first samples in order. Train on Subset(train_set, range(n))."
            raise refusal("overfit_batches", "0 with a curriculum", trainer.overfit_batches, cause)
        if any(type(callback).__name__ == "BatchSizeFinder" for callback in trainer.callbacks):
            cause = "It would try the size of curriculum.loader(...) again and again."
            raise refusal("callbacks", "free of it with a curriculum", "BatchSizeFinder", cause)
        self.curriculum.epochs.begins_late = True

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach, and survey for the first epoch: the trainer asks for its length next."""
        curriculum = self.curriculum
        if self.optimizer >= len(trainer.optimizers):
            rule = f"below the number of optimizers, {len(trainer.optimizers)}"
            raise refusal("optimizer", rule, self.optimizer)
        model = pl_module if self.model is None else pl_module.get_submodule(self.model)
        curriculum.attach(model=model, optimizer=trainer.optimizers[self.optimizer])
        self._attached = True
        if curriculum.survey_due and not curriculum.epochs.begun:
            if self.survey is None:
                raise ValueError(
                    f"survey must be given: {curriculum} looks at all samples before this epoch. "
                    'Pass CurriculumCallback(curriculum, survey=...), which returns {"losses": '
                    "..., ...} of a batch."
                )
            self._look_at_all(trainer, pl_module)
            # A length that was asked for before was that of another plan.
            trainer.fit_loop._combined_loader = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """A checkpoint is restored by now, and no batch is drawn yet."""
        loader = self._loader(trainer)
        if trainer.num_training_batches == math.inf:
            cause = "Beside a loader without one the trainer reads ahead. Give that one a __len__."
            raise refusal("train_dataloaders", "of a known length", "an infinite one", cause)
        if _varies(self.curriculum):
            self._reload = trainer.reload_dataloaders_every_n_epochs
            trainer.reload_dataloaders_every_n_epochs = 1
        _go_on(trainer, loader)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The trainer is done with the loader."""
        _let_go(trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Detach."""
        self._end(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Detach, without a word of a model that is not done."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._end(trainer)

    def _end(self, trainer: Any) -> None:
        if not self._fitting:
            return
        _let_go(trainer)
        self._fitting = False
        self.curriculum.epochs.begins_late = False
        if self._reload is not None:
            trainer.reload_dataloaders_every_n_epochs, self._reload = self._reload, None
        if self._attached:
            self._attached = False
            self.curriculum.detach()

    # ------------------------------------------------------------------ epochs

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Log the numbers of this epoch."""
        if self.logs:
            numbers = self.curriculum.metrics().items()
            known = {f"curriculum/{name}": x for name, x in numbers if not math.isnan(x)}
            self.log_dict(known, rank_zero_only=True)

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        """Take back what only the begin of an epoch needs."""
        _look_stateful(self._loader(trainer), False)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        """End the curriculum's epoch with the trainer's, which may be shorter."""
        if trainer.is_last_batch and self.curriculum.epochs.begun:
            self.curriculum.epochs.end()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """End an epoch that the module left; survey for the next one."""
        curriculum = self.curriculum
        if trainer.is_last_batch and curriculum.epochs.begun:
            curriculum.epochs.end()
        due = self.survey is not None and curriculum.survey_due and not curriculum.epochs.begun
        if due and not _done(trainer):
            self._look_at_all(trainer, pl_module)

    def _look_at_all(self, trainer: Any, pl_module: Any) -> None:
        survey, loader = self.survey, self.curriculum.epochs.loader
        assert survey is not None
        if loader is None:
            cause = "Is it made in train_dataloader()? Make it in __init__ or setup()."
            raise refusal("curriculum.loader(...)", "called before a survey", "none", cause)

        def forward(batch: Any) -> dict[str, torch.Tensor]:
            batch = trainer.precision_plugin.convert_input(batch)
            batch = trainer.strategy.batch_to_device(batch)
            with trainer.precision_plugin.forward_context():
                return survey(batch)

        with undisturbed(pl_module):
            self.curriculum.survey(
                loader.dataset,
                forward,
                batch_size=self.curriculum.epochs.layout.batch_size,
                num_workers=loader.num_workers,
                collate_fn=loader.collate_fn,
            )

    def _loader(self, trainer: Any) -> CurriculumLoader:
        """The curriculum's loader, which must be the trainer's."""
        loaders = tree_leaves(trainer.train_dataloader)
        for loader in loaders:
            if isinstance(loader, CurriculumLoader) and loader.curriculum is self.curriculum:
                return loader
        others = any(isinstance(loader, CurriculumLoader) for loader in loaders)
        cause = "Is it another curriculum's?" if others else "Does a strategy or plugin wrap it?"
        kinds = ", ".join(type(loader).__name__ for loader in loaders)
        raise refusal("train_dataloaders", "curriculum.loader(...)", kinds, cause)

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The curriculum's state; every rank is asked for it."""
        return self.curriculum.collect().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; one that is only tested leaves the curriculum alone."""
        if self._fitting:
            self.curriculum.load_state_dict(state_dict)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on without the curriculum's state."""
        if self._fitting and self.state_key not in checkpoint.get("callbacks", {}):
            raise refusal(
                "ckpt_path",
                "a checkpoint of a training with CurriculumCallback",
                f"one with {sorted(checkpoint.get('callbacks', {}))}",
                "Take the weights alone from it: Module.load_from_checkpoint(path).",
            )


def _go_on(trainer: Any, loader: CurriculumLoader) -> None:
    """Lightning's own account of a resume, where it does not know of the curriculum's."""
    loop = trainer.fit_loop.epoch_loop
    progress = loop.batch_progress
    if progress.is_last_batch and not loader.curriculum.epochs.begun:
        # Saved after an epoch's last batch. Whether that epoch is over Lightning sees by the length
        # of the coming one, and whether it is validated by when that one will be.
        if loop.restarted_on_train_batch_end:
            progress.current.completed = trainer.num_training_batches
        elif loop.restarted_on_last:
            trainer.fit_loop._data_fetcher.done = True
    # It warns of loaders that have no state of their own to go on within an epoch. If the loader
    # had one, checkpoints would hold it beside the callback's.
    _look_stateful(loader, True)


def _let_go(trainer: Any) -> None:
    """Take the loader from a trainer that would ask for the length of an epoch that never comes."""
    fetcher = trainer.fit_loop._data_fetcher
    if fetcher is not None and fetcher._combined_loader is not None:
        fetcher._combined_loader.reset()
        fetcher._combined_loader = None


def _look_stateful(loader: CurriculumLoader, stateful: bool) -> None:
    for name in ("state_dict", "load_state_dict"):
        if stateful:
            vars(loader)[name] = dict
        else:
            vars(loader).pop(name, None)


def _varies(curriculum: Curriculum) -> bool:
    """Whether epochs may be of different lengths."""
    fixed = curriculum.epochs.layout.steps_per_epoch is not None
    return not fixed and any(overrides(method, "plan") for method in curriculum.methods)


def _done(trainer: Any) -> bool:
    """Whether the trainer stops after the epoch that ends."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return bool(
        trainer.should_stop
        or (epochs not in (None, -1) and trainer.current_epoch + 1 >= epochs)
        or (steps != -1 and trainer.global_step >= steps)
    )
