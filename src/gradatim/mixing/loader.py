"""Batches from several data sets, and one stream from several streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch.utils.data import IterableDataset, default_collate

from gradatim import distributed
from gradatim.keyed import keyed_generator
from gradatim.mixing.allocation import RunningAllocation, largest_remainder, multinomial_at
from gradatim.mixing.policy import draw_source, read_weights
from gradatim.mixing.sources import Mapped, Source, open_sources, split_and_take, turns
from gradatim.mixing.staged import StagedMix
from gradatim.validation import check_choice, check_count, check_flag, refusal

__all__ = ["Interleaved", "MixedBatch", "MixtureLoader", "interleave"]

Allocation = Literal["largest_remainder", "multinomial", "one"]
ALLOCATIONS: tuple[Allocation, ...] = ("largest_remainder", "multinomial", "one")


class MixedBatch(NamedTuple):
    """One batch of a mixture.

    Args:
        data: what the collate function made of the samples.
        sources: int64 (B,), the data set each row is from.
    """

    data: Any
    sources: torch.Tensor


class Draws:
    """Which source each of the next samples comes from, by a policy or by fixed weights."""

    def __init__(self, policy: Any, count: int, allocation: Any, seed: int) -> None:
        self.allocation: Allocation = check_choice("allocation", allocation, ALLOCATIONS)
        self.count = count
        self.seed = seed
        self.fixed: torch.Tensor | None = None
        self.policy: Any = policy
        probabilities = getattr(policy, "probabilities", None)
        if not callable(probabilities):
            self.fixed = read_weights("weights", policy, count)
            self.policy = None
        else:
            known = torch.as_tensor(probabilities()).numel()
            if known != count:
                rule = f"a policy of {count} sources, as there are data sets"
                raise refusal("weights", rule, known)
        self.shares = RunningAllocation(count)

    def weights(self) -> torch.Tensor:
        """float64 (K,), as the policy stands; all 0 where it has nothing left."""
        if self.fixed is not None:
            return self.fixed
        weights = torch.as_tensor(self.policy.probabilities())
        if not float(weights.sum()) > 0:
            return torch.zeros(self.count, dtype=torch.float64)
        return read_weights("weights", weights, self.count)

    def split(self, size: int, live: torch.Tensor, step: int) -> torch.Tensor:
        """Counts (K,) of the next ``size`` samples."""
        if isinstance(self.policy, StagedMix):
            return self.policy.allocate(size)
        weights = torch.where(live, self.weights(), 0.0)
        if not float(weights.sum()) > 0:
            return torch.zeros(self.count, dtype=torch.int64)
        if self.allocation == "largest_remainder":
            return self.shares(weights, size)
        if self.allocation == "multinomial":
            return multinomial_at(weights, size, self.seed, "mixture counts", step)
        counts = torch.zeros(self.count, dtype=torch.int64)
        counts[draw_source(weights, self.seed, "mixture source", step)] = size
        return counts

    def refill(self, live: torch.Tensor, missing: int, there: int) -> torch.Tensor | None:
        """Counts (K,) of what dry sources lack, from those that are left."""
        weights = torch.where(live, self.weights(), 0.0)
        if not float(weights.sum()) > 0 or (self.allocation == "one" and there):
            return None
        if self.allocation == "one":
            counts = torch.zeros(self.count, dtype=torch.int64)
            counts[draw_source(weights, self.seed, "mixture again", live.tolist(), missing)] = (
                missing
            )
            return counts
        self.shares.owed = torch.zeros_like(self.shares.owed)
        return largest_remainder(weights, missing)

    def state_dict(self) -> dict[str, Any]:
        save = getattr(self.policy, "state_dict", None)
        policy = save() if callable(save) else None
        return {"shares": self.shares.state_dict(), "policy": policy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load = getattr(self.policy, "load_state_dict", None)
        if callable(load) != (state["policy"] is not None):
            known = "one with a state" if callable(load) else "none with a state"
            raise refusal("state['draws']['policy']", f"of the same policy: {known}", "another")
        if callable(load):
            load(state["policy"])
        self.shares.load_state_dict(state["shares"])


class Sources:
    """What loader and stream share: sources, draws, and their state."""

    def __init__(
        self,
        datasets: Sequence[Any],
        weights: Any,
        *,
        allocation: Any,
        max_epochs: int | None,
        shuffle: bool,
        reread: bool,
        seed: int,
    ) -> None:
        if max_epochs is not None:
            max_epochs = check_count("max_epochs", max_epochs, at_least=1)
        self.seed = check_count("seed", seed)
        shuffle = check_flag("shuffle", shuffle)
        reread = check_flag("reread", reread)
        self.sources = open_sources(
            datasets, max_epochs=max_epochs, seed=seed, shuffle=shuffle, reread=reread
        )
        self.draws = Draws(weights, len(self.sources), allocation, self.seed)
        self.step = 0

    def next(self, size: int) -> list[tuple[int, Any]]:
        """The next samples over all ranks, grouped by source; fewer where sources are dry."""
        policy = self.draws.policy
        if isinstance(policy, StagedMix):
            for source in self.sources:
                members = policy.members(source.number)
                if isinstance(source, Mapped):
                    source.restrict(members)
                elif members is not None:
                    name = f"datasets[{source.number}]"
                    raise refusal(name, "with __getitem__ for a quality threshold", "a stream")
        live = torch.tensor([not source.dry for source in self.sources])
        counts = self.draws.split(size, live, self.step)
        found = split_and_take(self.sources, counts, self.draws.refill)
        self.step += 1
        return found

    def state_dict(self) -> dict[str, Any]:
        sources = [source.state_dict() for source in self.sources]
        return {"step": self.step, "sources": sources, "draws": self.draws.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        keys = {"step", "sources", "draws"}
        if not isinstance(state, dict) or set(state) != keys:
            got = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise refusal("state", f"of the keys {sorted(keys)}", got)
        if len(state["sources"]) != len(self.sources):
            raise refusal("state", f"of {len(self.sources)} sources", len(state["sources"]))
        for source, saved in zip(self.sources, state["sources"], strict=True):
            if set(saved) != set(source.state_dict()):
                rule = "of the same kinds of data sets"
                raise refusal(f"state['sources'][{source.number}]", rule, sorted(saved))
        self.draws.load_state_dict(state["draws"])
        for source, saved in zip(self.sources, state["sources"], strict=True):
            source.load_state_dict(saved)
        self.step = state["step"]


class MixtureLoader:
    """Batches from any list of data sets, by a policy or by fixed weights.

    Each batch is split over all ranks at once, by the same rule on each of them, then shuffled and
    dealt out: given the same updates of the policy, the ranks agree without a word. Orders, splits
    and shuffles depend on (seed, step) alone, so a loader resumes exactly.

    Args:
        datasets: K of them; with ``__getitem__`` and ``__len__``, or to be iterated (streams, each
            anew for every pass).
        batch_size: samples per batch and rank, at least 1.
        weights: (K,), at least 0, not all 0; or a policy of K sources, anything with
            ``probabilities()``. A `StagedMix` splits batches itself; after each batch, advance it
            if it counts tokens.
        allocation: ``"largest_remainder"``: long-run shares are right to one sample per source;
            ``"multinomial"``: each sample is drawn; ``"one"``: all of a batch is from one source,
            for bandits; the last one before it is dry may be short.
        max_epochs: passes over a data set before it is dropped and the others share its weight;
            None repeats it for ever.
        steps: batches of one pass over the loader; None goes on until every source of positive
            weight is dry.
        shuffle: data sets with ``__getitem__``, anew in every pass; streams keep their order.
        reread: on resuming, read every stream again up to where it stood. By default a stream
            with ``state_dict`` and ``load_state_dict`` goes on by these; that of Hugging Face's
            ``shuffle(buffer_size=...)`` loses its buffer.
        collate_fn: as of a DataLoader.
        seed: of orders, draws and shuffles.

    Raises:
        TypeError: what is no data set.
        ValueError: no or empty data sets, weights of another number, an argument out of range.

    Example:
        >>> data = [[0, 1, 2, 3], [10, 11, 12, 13]]
        >>> loader = MixtureLoader(data, 4, weights=[3, 1], steps=2, seed=0)
        >>> for batch in loader:
        ...     print(len(batch.data), batch.sources.bincount().tolist())
        4 [3, 1]
        4 [3, 1]

    Differences from the paper:
        No paper.

    Caveats:
        Samples are fetched in the calling process. Every rank reads the whole of a stream and keeps
        its own rows. A last batch that would leave a rank without rows is dropped.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        batch_size: int,
        *,
        weights: Any,
        allocation: Allocation = "largest_remainder",
        max_epochs: int | None = None,
        steps: int | None = None,
        shuffle: bool = True,
        reread: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.batch_size = check_count("batch_size", batch_size, at_least=1)
        self.steps = None if steps is None else check_count("steps", steps, at_least=1)
        self.collate_fn = default_collate if collate_fn is None else collate_fn
        self.datasets = list(datasets)
        self._sources = Sources(
            self.datasets,
            weights,
            allocation=allocation,
            max_epochs=max_epochs,
            shuffle=shuffle,
            reread=reread,
            seed=seed,
        )
        self.weights = weights

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("a MixtureLoader has a length only if it is given steps=.")
        return self.steps

    def __iter__(self) -> Iterator[MixedBatch]:
        self._check_read_whole()
        done = self._sources.step % self.steps if self.steps else 0
        while self.steps is None or done < self.steps:
            batch = self._next()
            if batch is None:
                return
            yield batch
            done += 1

    def _check_read_whole(self) -> None:
        world, _ = distributed.world_and_rank()
        for number, dataset in enumerate(self.datasets if world > 1 else ()):
            if turns([dataset]).parts < world:
                name, got = f"datasets[{number}]", type(dataset).__name__
                raise refusal(name, "read whole by every rank", f"{got}, which divides itself")

    def _next(self) -> MixedBatch | None:
        step, seed = self._sources.step, self._sources.seed
        world, rank = distributed.world_and_rank()
        found = self._sources.next(self.batch_size * world)
        if len(found) < world:
            return None
        generator = keyed_generator(seed, "mixture batch", step)
        mine = torch.randperm(len(found), generator=generator)[rank::world].tolist()
        rows = [found[place] for place in mine]
        sources: list[Source] = self._sources.sources
        data = self.collate_fn([sources[number].fetch(sample) for number, sample in rows])
        return MixedBatch(data, torch.tensor([number for number, _ in rows]))

    def state_dict(self) -> dict[str, Any]:
        """Where every source stands, with the policy's state: exact between any two batches."""
        return self._sources.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, policy included; with the same batch size and world.

        Raises:
            ValueError: the state of other data sets or another policy.
        """
        self._sources.load_state_dict(state)


class Interleaved(IterableDataset):
    """One stream of samples from several; made by `interleave`."""

    carries_on = True  # it divides itself among workers and ranks, and goes on where it was left

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def __iter__(self) -> Iterator[Any]:
        sources = self._sources.sources
        parts, part, _ = turns([source.dataset for source in sources])
        while found := self._sources.next(1):
            # Each part reads everything and keeps its share, so that all of them agree; streams
            # that divide themselves, as Hugging Face's among workers, are mixed share by share.
            if (self._sources.step - 1) % parts == part:
                number, sample = found[0]
                yield sources[number].fetch(sample)

    def forget_resume(self) -> None:
        """Nothing to forget: what is dry stays dry."""

    def state_dict(self) -> dict[str, Any]:
        """Where every stream stands."""
        return self._sources.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: the state of other streams.
        """
        self._sources.load_state_dict(state)


def interleave(
    streams: Sequence[Any],
    weights: Any,
    *,
    allocation: Literal["largest_remainder", "multinomial"] = "largest_remainder",
    max_epochs: int | None = 1,
    reread: bool = False,
    seed: int = 0,
) -> Interleaved:
    """Merge streams into one, sample by sample, by weights or a policy.

    Args:
        streams: K iterable data sets, or data sets with ``__getitem__``; as of `MixtureLoader`.
        weights: (K,) or a policy, as of `MixtureLoader`.
        allocation: ``"largest_remainder"``: at any time each stream has had its share, to one
            sample; ``"multinomial"``: each sample's stream is drawn.
        max_epochs: passes over a stream before it is dropped and the others share its weight;
            None repeats it for ever.
        reread: as of `MixtureLoader`.
        seed: of draws, and of the order of data sets with ``__getitem__``.

    Returns:
        An `torch.utils.data.IterableDataset` with ``state_dict`` and ``load_state_dict``, for a
        DataLoader; workers and ranks take turns. It goes on where it was left.

    Raises:
        TypeError: what is no stream.
        ValueError: as `MixtureLoader`.

    Example:
        >>> class Letters(torch.utils.data.IterableDataset):
        ...     def __init__(self, letters):
        ...         self.letters = letters
        ...     def __iter__(self):
        ...         return iter(self.letters)
        >>> "".join(interleave([Letters("abcd"), Letters("XY")], [2, 1]))
        'abXcYd'

    Differences from the paper:
        No paper.

    Caveats:
        State belongs to the process that iterates: with workers, save it through a loader that
        asks its workers, as torchdata's StatefulDataLoader.
    """
    check_choice("allocation", allocation, ("largest_remainder", "multinomial"))
    return Interleaved(
        Sources(
            streams,
            weights,
            allocation=allocation,
            max_epochs=max_epochs,
            shuffle=True,
            reread=reread,
            seed=seed,
        )
    )
