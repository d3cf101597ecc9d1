"""Plain Accelerate: a curriculum's loader that an `Accelerator` knows of, and leaves as it is.

`accelerator.prepare` would build another DataLoader around ours: it reads one batch ahead, shards
what is a rank's share already, and loses the index of each sample. So the loader is not prepared
but accompanied: its batches go to the accelerator's device, its end is told to accelerate's
`GradientState`, and the curriculum is saved and loaded with the accelerator's state.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gradatim import distributed, reports
from gradatim.curriculum import Curriculum
from gradatim.loader import INDEX_KEY, CurriculumLoader
from gradatim.validation import refusal

if TYPE_CHECKING:
    from accelerate import Accelerator

    from gradatim.epochs import Epochs

__all__ = ["AcceleratedLoader", "accelerated"]

# Which curricula are saved with which accelerator: each once, however many loaders are made.
_registered: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Curriculum]] = (
    weakref.WeakKeyDictionary()
)


def accelerated(loader: CurriculumLoader, accelerator: Accelerator) -> AcceleratedLoader:
    """Stands where ``accelerator.prepare(loader)`` stood, for a curriculum's loader.

    ``accelerator.save_state`` and ``load_state`` include the curriculum from then on, also within
    an epoch; so every process calls them, as accelerate asks.

    Args:
        loader: what ``curriculum.loader(...)`` gives; its batch size is per process.
        accelerator: with batches neither split nor dispatched, and all processes data parallel.

    Returns:
        The same batches on ``accelerator.device``; `Accelerator.prepare` passes it through.

    Raises:
        ImportError: accelerate is not installed.
        TypeError: another kind of loader or accelerator.
        ValueError: the accelerator splits or dispatches batches, or holds models in parts.
        RuntimeError: the accelerator knows of fewer processes than there are.

    Example:
        >>> import gradatim as gr, torch
        >>> from accelerate import Accelerator
        >>> accelerator = Accelerator(cpu=True)
        >>> data = torch.utils.data.TensorDataset(torch.arange(6.0))
        >>> curriculum = gr.Curriculum(gr.Uniform(), seed=0)
        >>> loader = accelerated(curriculum.loader(data, batch_size=4), accelerator)
        >>> [(len(x), accelerator.gradient_state.end_of_dataloader) for (x,) in loader
        ...  if curriculum(torch.ones_like(x)) == 1]
        [(4, False), (2, True)]
    """
    _check(loader, accelerator)
    curriculum = loader.curriculum
    known = _registered.setdefault(accelerator, weakref.WeakSet())
    if curriculum not in known:
        known.add(curriculum)
        accelerator.register_for_checkpointing(curriculum)
        accelerator.register_save_state_pre_hook(_Collect(curriculum))
    return AcceleratedLoader(loader, accelerator)


def _check(loader: Any, accelerator: Any) -> None:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        cause = "Try: pip install 'gradatim[transformers]'"
        raise ImportError(f"accelerated needs accelerate. {cause}") from error
    if not isinstance(accelerator, Accelerator):
        cause = "Did you swap the two?" if isinstance(loader, Accelerator) else ""
        kind = type(accelerator).__name__
        raise TypeError(str(refusal("accelerator", "an accelerate.Accelerator", kind, cause)))
    if not isinstance(loader, CurriculumLoader):
        cause = "An ordinary loader goes to accelerator.prepare."
        if isinstance(loader, AcceleratedLoader):
            cause = "It has been accelerated already."
        elif isinstance(loader, Curriculum):
            cause = "Call curriculum.loader(dataset, batch_size=...) first."
        rule = "what curriculum.loader(...) gives"
        raise TypeError(str(refusal("loader", rule, type(loader).__name__, cause)))
    if accelerator.dispatch_batches:
        cause = "Every process reads its own share: pass dispatch_batches=False."
        raise refusal("accelerator", "made without dispatch_batches", True, cause)
    if accelerator.split_batches:
        cause = "The loader's batch_size is per process: divide it by accelerator.num_processes."
        raise refusal("accelerator", "made without split_batches", True, cause)
    parallel = getattr(accelerator, "parallelism_config", None)
    parts = getattr(parallel, "non_data_parallel_size", 1)
    if parts != 1 or str(accelerator.distributed_type).endswith("MEGATRON_LM"):
        got = "Megatron-LM" if parts == 1 else f"{parts} processes that share each batch"
        raise refusal("accelerator", "data parallel only", got)
    _check_processes(accelerator)


def _check_processes(accelerator: Accelerator) -> None:
    world, _ = distributed.world_and_rank()
    if world != accelerator.num_processes:
        raise RuntimeError(
            f"accelerator must know of all {world} processes. Got {accelerator.num_processes}. "
            "Was it made before the process group, or without WORLD_SIZE in the environment?"
        )


class _Collect:
    """Called by `Accelerator.save_state` on every process, before anything is saved."""

    def __init__(self, curriculum: Curriculum) -> None:
        self.curriculum = curriculum

    def __call__(self, models: Any, weights: Any, folder: Any) -> None:
        if distributed.world_and_rank()[0] > 1:
            self.curriculum.collect()


class _Pass:
    """One pass over the loader, as accelerate's `GradientState` asks for it.

    Made when the epoch has been planned and none of its batches been trained on.
    """

    def __init__(self, epochs: Epochs) -> None:
        run = epochs.run
        self.end_of_dataloader = False
        self._batches = epochs.steps() - epochs.batch_in_epoch
        self._size = epochs.batch_size
        samples = epochs.plan().index.numel() - epochs.start
        self._last = samples - (self._batches - 1) * self._size * run.world
        self._padded = -samples % run.world  # rows of the last batch that only pad processes
        pads = run.rank >= run.world - self._padded
        self._last_here = (self._last + self._padded) // run.world - pads

    def advance(self) -> int:
        """The next batch is handed out: how many of its rows count on this process."""
        self._batches -= 1
        self.end_of_dataloader = self._batches == 0
        return self._last_here if self.end_of_dataloader else self._size

    @property
    def remainder(self) -> int:
        """What `Accelerator.gather_for_metrics` keeps of the last batch: that many rows; 0 is all.

        It keeps the first ones. Padding comes last on each of the last processes, so one padded
        row is the very last, and more than one cannot be told apart like this: -1, unknown.
        """
        if self._padded > 1:
            warnings.warn(
                f"gather_for_metrics keeps {self._padded} rows that only pad the last batch: cut "
                "values to the first loader.real rows of each process and gather them as objects.",
                stacklevel=4,
            )
            return -1
        return self._last if self._padded else 0


class AcceleratedLoader:
    """The batches of a curriculum's loader on an accelerator's device; made by `accelerated`.

    It reads nothing ahead, and every attribute that is not its own is the loader's. Each iteration
    is an epoch or, after a checkpoint was loaded, the rest of one: there is nothing to skip.

    Attributes:
        loader: the curriculum's loader.
        accelerator: whose device and gradient state are used.
        real: rows of the latest batch that count on this process; a row behind them only pads
            the last batch to equal length and has weight 0.
    """

    # Also where only the loader is handed over: accelerator.prepare_data_loader.
    _is_accelerate_prepared = True

    def __init__(self, loader: CurriculumLoader, accelerator: Accelerator) -> None:
        self.loader = loader
        self.accelerator = accelerator
        self.real = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name in ("loader", "accelerator"):  # not there yet, as while being unpickled
            raise AttributeError(name)
        return getattr(self.loader, name)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the curriculum owns the epoch."""

    def scheduler_steps(self, epochs: int) -> int | None:
        """How far ``epochs`` epochs take a scheduler that went through `Accelerator.prepare`.

        Such a scheduler is stepped once per process in each optimizer step, and not at all while
        gradients accumulate; with ``step_scheduler_with_optimizer=False`` once per call, which is
        taken to be once per batch.

        Args:
            epochs: to come; the current one counts in full.

        Returns:
            The total for the scheduler; None where the data decide the epochs' lengths.
        """
        lengths = reports.planned_lengths(self.loader.curriculum.epochs, epochs)
        if lengths is None:
            return None
        accelerator = self.accelerator
        if not accelerator.step_scheduler_with_optimizer:
            return sum(lengths)
        group = accelerator.gradient_accumulation_steps
        if accelerator.gradient_state.sync_with_dataloader:
            steps = sum(-(-length // group) for length in lengths)
        else:
            steps = sum(lengths) // group
        return steps * accelerator.num_processes

    def __iter__(self) -> Iterator[Any]:
        _check_processes(self.accelerator)
        state = self.accelerator.gradient_state
        # Not this object: a pass that was broken off may be closed while the next one is running.
        current = None
        try:
            for batch in self.loader:
                if current is None:
                    current = _Pass(self.loader.curriculum.epochs)
                    state._add_dataloader(current)
                self.real = current.advance()
                yield self._placed(batch)
        finally:
            if current is not None:
                state._remove_dataloader(current)

    def _placed(self, batch: Any) -> Any:
        from accelerate.utils import send_to_device

        accelerator = self.accelerator
        if not accelerator.device_placement:
            return batch
        # The index is read on the CPU: fetching it back would wait for the device.
        index = batch.pop(INDEX_KEY) if self.loader.carry == "key" else None
        placed: Any = send_to_device(
            batch, accelerator.device, non_blocking=accelerator.non_blocking
        )
        if index is not None:
            placed[INDEX_KEY] = index
        return placed
