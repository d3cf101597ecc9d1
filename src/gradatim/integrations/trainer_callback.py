"""The Trainer's callback: what a curriculum needs at the ends of training, epochs and steps."""

from __future__ import annotations

import math
import os
from typing import Any

import torch

from gradatim import distributed
from gradatim.curriculum import Curriculum
from gradatim.validation import refusal

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        "gradatim.integrations.CurriculumTrainerMixin needs transformers and accelerate: "
        'python -m pip install "gradatim[transformers]".'
    ) from error

__all__ = ["STATE_FILE", "CurriculumTrainerCallback"]

STATE_FILE = "gradatim.pt"
"""Name of the curriculum's state in a checkpoint's folder."""


class CurriculumTrainerCallback(TrainerCallback):
    """Attaches a curriculum for the time of training, keeps its epochs and its checkpoints.

    `gradatim.integrations.CurriculumTrainerMixin` adds it by itself. Hand it over in
    ``callbacks=[CurriculumTrainerCallback(curriculum)]`` where a script passes no other arguments;
    the trainer's class needs the mixin all the same.

    Args:
        curriculum: a `gradatim.Curriculum` without a loader of its own.

    Raises:
        TypeError: it is something else.
        RuntimeError: as training begins, in a trainer without the mixin.

    Example:
        >>> import gradatim as gr
        >>> from gradatim.integrations import CurriculumTrainerCallback
        >>> CurriculumTrainerCallback(gr.Curriculum(gr.Uniform(), seed=0)).curriculum
        Curriculum(Uniform(), seed=0)
    """

    def __init__(self, curriculum: Curriculum) -> None:
        if not isinstance(curriculum, Curriculum):
            cause = "Write gr.Curriculum(gr.SPL(), seed=0)."
            raise TypeError(
                str(refusal("curriculum", "a gradatim.Curriculum", repr(curriculum), cause))
            )
        self.curriculum = curriculum
        self.first_epoch = 0  # of the curriculum, where this training run began
        self.updates: list[int] = []  # optimizer steps of each epoch begun since
        self.done = 0  # optimizer steps made in the epoch at hand
        self._attached = False
        self._number = 0  # of the Trainer's epoch ...
        self._before = 0  # ... its batches that a resumed run found done ...
        self._rest = 0  # ... and those to come
        self._step = -1  # the curriculum's, at that time

    # ------------------------------------------------------------------ the Trainer's events

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach the model and the optimizer, unless the script has done so.

        Raises:
            RuntimeError: nothing would ask the curriculum for batches.
        """
        if self.curriculum.epochs.loader is None:
            raise RuntimeError(
                "curriculum must have a loader, and this trainer has asked for none: the callback "
                "alone trains without a curriculum. Use the mixin: class CurriculumTrainer("
                "CurriculumTrainerMixin, Trainer)."
            )
        self._step = self.curriculum.step
        if not self.curriculum._attached:
            self.curriculum.attach(model=kwargs.get("model"), optimizer=kwargs.get("optimizer"))
            self._attached = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let a resumed epoch count from where it was left, as the uninterrupted one would."""
        self.done += 1
        if self._before:
            done = round((state.epoch - self._number) * self._rest)
            state.epoch = self._number + (self._before + done) / (self._before + self._rest)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuse an epoch that bypassed the curriculum; close one that a callback stopped."""
        if self.curriculum.step == self._step:
            self.release()
            raise RuntimeError(
                "the curriculum was not called in this epoch. Does a compute_loss of your own "
                'replace the mixin\'s? Take index = inputs.pop("_gradatim_index") there and '
                "return self.curriculum(losses, index=index)."
            )
        if control.should_epoch_stop and not control.should_training_stop:
            self.close_epoch()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the model and the optimizer as they were."""
        self.release()

    # ------------------------------------------------------------------ called by the mixin

    def release(self) -> None:
        """Detach what this attached; also after a training that failed."""
        if self._attached:
            self._attached = False
            self.curriculum.detach()

    def close_epoch(self) -> None:
        """End an epoch that was broken out of."""
        epochs = self.curriculum.epochs
        if epochs.running and epochs.batch_in_epoch > epochs.resumed_at:
            epochs.end()

    def begin_epoch(self, number: int, accumulate: int) -> int:
        """The Trainer's epoch of this number begins: how many batches of it are to come."""
        self.close_epoch()
        epochs = self.curriculum.epochs
        plan = epochs.plan()
        if not epochs.begun:
            self.done = 0
        self._number, self._rest = number, epochs.steps() - epochs.batch_in_epoch
        # In batches of today's size, which may differ from that before the resume.
        whole = epochs.layout.steps(plan.index.numel(), epochs.run.world, plan.batch_scale)
        self._before = whole - self._rest
        self._step = self.curriculum.step
        past = self.curriculum.epoch - self.first_epoch
        self.updates[past:] = [self.done + -(-self._rest // accumulate)]
        return self._rest

    def updates_before(self) -> int:
        """Optimizer steps planned for the epochs that are over."""
        return sum(self.updates[: self.curriculum.epoch - self.first_epoch])

    def updates_of(self, lengths: list[int], accumulate: int, share: float = 1.0) -> list[int]:
        """Optimizer steps of the epoch at hand, those made included, and of the next ones.

        Args:
            lengths: batches of each of these epochs, from their beginnings.
            accumulate: batches per optimizer step from now on.
            share: how much of the last epoch is trained, in (0, 1].
        """
        updates = [-(-length // accumulate) for length in lengths]
        epochs = self.curriculum.epochs
        if updates and epochs.begun:
            left = -(-(epochs.steps() - epochs.batch_in_epoch) // accumulate)
            past = self.curriculum.epoch - self.first_epoch
            if share < 1 and len(updates) == 1 and past < len(self.updates):
                # The rest may go at another pace than what was made of it.
                planned = self.updates[past]
                rest = max(0.0, share * planned - self.done)
                return [self.done + math.ceil(rest * (left / max(1, planned - self.done)))]
            updates[0] = self.done + left
        if share < 1 and updates:
            updates[-1] = math.ceil(share * updates[-1])
        return updates

    def begin_training(self) -> None:
        """A run begins that continues no checkpoint."""
        self.close_epoch()
        self.first_epoch, self.updates, self.done = self.curriculum.epoch, [], 0

    def save(self, folder: str, *, writes: bool) -> None:
        """Write the curriculum's state into a checkpoint's folder, whole or not at all.

        Every process calls this; those that ``writes`` write.
        """
        if distributed.world_and_rank()[0] > 1:
            self.curriculum.collect()
        if not writes:
            return
        os.makedirs(folder, exist_ok=True)
        state = {
            "curriculum": self.curriculum.state_dict(),
            "first_epoch": self.first_epoch,
            "updates": self.updates,
            "done": self.done if self.curriculum.epochs.begun else 0,
        }
        path = os.path.join(folder, STATE_FILE)
        torch.save(state, f"{path}.part")
        os.replace(f"{path}.part", path)

    def load(self, folder: str) -> None:
        """Continue from a checkpoint's folder.

        Raises:
            ValueError: there is no state in it, or one that does not fit.
        """
        path = os.path.join(folder, STATE_FILE)
        if not os.path.isfile(path):
            cause = "Was it saved without a curriculum, or interrupted while it was saved?"
            raise refusal("resume_from_checkpoint", f"a folder with {STATE_FILE}", folder, cause)
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.curriculum.load_state_dict(state["curriculum"])
        self.first_epoch, self.updates = state["first_epoch"], list(state["updates"])
        self.done = state["done"]
