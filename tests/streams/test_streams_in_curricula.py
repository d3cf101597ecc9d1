"""Streams as the data set of a curriculum: what works by batch, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import gradatim as gr
from gradatim import distributed
from gradatim.mixing import interleave
from gradatim.streams import DifficultyGate, SortBuffer
from gradatim.streams.drawn import Drawn
from streams.toy_streams import Plain, Stateful, numbers


def samples(size: int = 40) -> list[tuple[torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(size, 4, generator=generator)
    return [(row, int(row[0] > 0)) for row in features]


def norm(sample: tuple[torch.Tensor, int]) -> float:
    return float(sample[0].norm())


def weights_after(loader: Any, losses_to_loss: Callable[..., torch.Tensor], epochs: int) -> Any:
    torch.manual_seed(1)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(epochs):
        for x, y in loader:
            losses = F.cross_entropy(model(x), y, reduction="none")
            loss = losses_to_loss(losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.weight.detach().clone()


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        (gr.Focal(gamma=2.0), lambda losses: gr.weighting.focal(losses, 2.0)),
        (
            gr.SuperLoss(tau=0.7, lam=1.0),
            lambda losses: gr.weighting.super_loss(losses, tau=0.7, lam=1.0),
        ),
    ],
)
def test_weighted_batches_of_a_stream_train_as_the_functions_say(method: Any, weights: Any) -> None:
    """One pass of 40 samples in 5 batches of 8, in the order of the stream."""
    curriculum = gr.Curriculum(method, seed=0)
    loader = curriculum.loader(Plain(samples()), batch_size=8, steps_per_epoch=5)
    ours = weights_after(loader, curriculum, epochs=1)

    def by_hand(losses: torch.Tensor) -> torch.Tensor:
        return (weights(losses) * losses).mean()

    theirs = weights_after(DataLoader(Plain(samples()), batch_size=8), by_hand, epochs=1)
    torch.testing.assert_close(ours, theirs)
    assert (curriculum.epoch, curriculum.step) == (1, 5)


SELECTING: list[Callable[[], Any]] = [
    gr.OHEM,
    gr.ImportanceSampling,
    gr.SelectiveBackprop,
]


@pytest.mark.parametrize("make", SELECTING)
def test_selecting_methods_choose_among_the_batches_of_a_stream(make: Callable[[], Any]) -> None:
    model = nn.Linear(4, 2)
    method = make()
    curriculum = gr.Curriculum(method, seed=0).attach(model=model)
    stream = Plain([(row, label) for row, label in samples()])
    for x, y in curriculum.loader(stream, batch_size=8, steps_per_epoch=4):
        with method.scoring_pass():
            logits = model(x)
            losses = F.cross_entropy(logits, y, reduction="none")
        kept = curriculum.select(losses, 3, logits=logits, targets=y)
        logits = model(x[kept])
        curriculum(F.cross_entropy(logits, y[kept], reduction="none"), logits=logits, targets=y)
        assert len(kept) == 3
    assert (curriculum.epoch, curriculum.step) == (1, 4)


def test_methods_of_the_model_work_on_streams() -> None:
    model = nn.Sequential(nn.Linear(1, 3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    curriculum = gr.Curriculum(gr.LeRaC(epochs=2), seed=0).attach(model, optimizer)
    for _ in range(3):
        for x in curriculum.loader(Plain([0.5, 1.0]), 2, steps_per_epoch=3):
            curriculum(model(x.float().unsqueeze(1)).squeeze(1)).backward()
            optimizer.step()
        break
    assert curriculum.step == 3


def drain(curriculum: Any, loader: Any) -> list[list[int]]:
    found = []
    for batch in loader:
        found.append(batch.tolist())
        curriculum(torch.zeros(len(batch)))
    return found


def test_epochs_take_the_next_samples_and_passes_follow_each_other() -> None:
    curriculum = gr.Curriculum()
    stream = Plain([*range(7)])
    loader = curriculum.loader(stream, batch_size=2, steps_per_epoch=3)
    assert len(loader) == 3
    assert drain(curriculum, loader) == [[0, 1], [2, 3], [4, 5]]
    assert drain(curriculum, loader) == [[6, 0], [1, 2], [3, 4]]
    assert loader.dataset is stream


def test_gates_buffers_and_mixtures_feed_a_curriculum() -> None:
    merged = interleave([Plain([*range(6)]), Plain([*range(100, 106)])], [1, 1], max_epochs=None)
    easy = DifficultyGate(merged, lambda n: n % 100, threshold=3)
    curriculum = gr.Curriculum(gr.SuperLoss())
    loader = curriculum.loader(SortBuffer(easy, float, size=4), 4, steps_per_epoch=2)
    assert drain(curriculum, loader) == [[0, 1, 100, 101], [2, 3, 102, 103]]


RESUMED: dict[str, Callable[[], Any]] = {
    "buffer": lambda: SortBuffer(Plain(numbers(17)), float, size=5),
    "stream in an interleave": lambda: interleave([Stateful(numbers(17))], [1], max_epochs=None),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_on_a_stream_resumes_within_an_epoch(name: str) -> None:
    """Eight batches of 3 from passes of 17."""

    def start() -> tuple[Any, Any, Any]:
        stream = RESUMED[name]()
        curriculum = gr.Curriculum(gr.SuperLoss(), seed=3)
        return stream, curriculum, curriculum.loader(stream, batch_size=3, steps_per_epoch=4)

    _, curriculum, loader = start()
    whole = drain(curriculum, loader) + drain(curriculum, loader)
    for cut in range(1, 8):
        stream, curriculum, loader = start()
        found: list[list[int]] = []
        while len(found) < cut:
            for batch in loader:
                found.append(batch.tolist())
                curriculum(torch.zeros(len(batch)))
                if len(found) == cut:
                    break
        states = curriculum.state_dict(), stream.state_dict()
        stream, curriculum, loader = start()
        curriculum.load_state_dict(states[0])
        stream.load_state_dict(states[1])
        while len(found) < 8:
            found += drain(curriculum, loader)
        assert found == whole


def test_workers_share_a_stream() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(Plain([*range(12)]), 2, steps_per_epoch=6, num_workers=2)
    found = drain(curriculum, loader)
    assert sorted(number for batch in found for number in batch) == list(range(12))


def test_ranks_share_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "world_and_rank", lambda rank=rank: (2, rank))
        found += Drawn(Plain([*range(12)]), 6).__getitems__([0] * 6)
    assert sorted(found) == list(range(12))


class Telling(IterableDataset):
    """Says which object the worker's information names."""

    def __iter__(self) -> Any:
        info = get_worker_info()
        while True:
            yield type(info.dataset).__name__ if info else "none"


def test_a_worker_finds_the_users_own_stream() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(Telling(), 2, steps_per_epoch=1, num_workers=1, collate_fn=list)
    (batch,) = list(loader)
    assert batch == ["Telling", "Telling"]


REFUSED: dict[str, Callable[[], Any]] = {
    "Predefined": lambda: gr.Predefined([1.0, 2.0, 3.0, 4.0]),
    "PacedRandom": gr.PacedRandom,
    "SPL": gr.SPL,
    "MCL": lambda: gr.MCL(features=torch.eye(4)),
    "DIHCL": gr.DIHCL,
    "InfoBatch": lambda: gr.InfoBatch(planned_epochs=4),
    "LossProportional": gr.LossProportional,
    "RHOLoss": lambda: gr.RHOLoss([1.0, 2.0, 3.0, 4.0]),
    "DataParameters": gr.DataParameters,
    "Dynamics": gr.Dynamics,
    "SelectiveBackprop": lambda: gr.SelectiveBackprop(stale_epochs=1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_know_samples_are_refused_and_told_what_is_possible(name: str) -> None:
    curriculum = gr.Curriculum(gr.SuperLoss(), REFUSED[name]())
    message = (
        rf"^dataset must have __getitem__ and __len__. Got Plain. Is it a stream\? {name} ranks or "
        r"remembers single samples. Possible on a stream: gradatim.streams.DifficultyGate and "
        r"SortBuffer, mixtures by gradatim.mixing.interleave, and methods that decide within a "
    )
    for steps in (None, 2):
        with pytest.raises(TypeError, match=message):
            curriculum.loader(Plain([1, 2]), batch_size=2, steps_per_epoch=steps)
    assert not curriculum.epochs.bound


def test_parameters_of_classes_need_no_sample_again() -> None:
    curriculum = gr.Curriculum(gr.DataParameters(level="class"))
    assert len(curriculum.loader(Plain(samples()), 4, steps_per_epoch=2)) == 2


def test_what_a_stream_lacks_is_named() -> None:
    curriculum = gr.Curriculum(gr.SuperLoss())
    with pytest.raises(ValueError, match=r"^steps_per_epoch must be given for a stream, which has"):
        curriculum.loader(Plain([1]), 2)
    with pytest.raises(ValueError, match=r"^seed_augmentation must be False for a stream"):
        curriculum.loader(Plain([1]), 2, steps_per_epoch=2, seed_augmentation=True)
    with pytest.raises(TypeError, match=r"^dataset must have __getitem__ and __len__. Got list_it"):
        curriculum.loader(iter([1]), 2, steps_per_epoch=2)
    with pytest.raises(TypeError, match=r"^dataset must have __getitem__ and __len__. Got DataLo"):
        curriculum.loader(DataLoader([1, 2]), 2, steps_per_epoch=2)
    with pytest.raises(ValueError, match=r"^stream must be non-empty"):
        list(curriculum.loader(Plain([]), 2, steps_per_epoch=2))


def test_a_stream_that_runs_out_for_good_is_refused_when_it_does() -> None:
    curriculum = gr.Curriculum()
    once = interleave([Plain([1, 2, 3])], [1])
    loader = curriculum.loader(once, 2, steps_per_epoch=2)
    with pytest.raises(ValueError, match=r"^stream must be one that goes on. Got an empty pass"):
        drain(curriculum, loader)


def losses_of(rank: int, world: int, batch_size: int) -> list[tuple[list[int], float]]:
    """Focal loss of a fixed model on a gated stream, batch by batch; which samples, which loss."""
    gate = DifficultyGate(Plain(numbers(60)), float, pace=gr.pacing.Constant(fraction=1))
    curriculum = gr.Curriculum(gr.Focal(gamma=2.0), seed=0)
    found = []
    for x in curriculum.loader(gate, batch_size=batch_size, steps_per_epoch=5):
        loss = curriculum((x % 7).double())
        found.append((x.tolist(), float(loss)))
    return found


def test_ranks_train_on_the_samples_of_one_process_and_average_to_its_loss(run_ranks: Any) -> None:
    whole = losses_of(0, 1, 8)
    first, second = run_ranks(losses_of, 2, 4)
    for (samples, loss), (one, left), (two, right) in zip(whole, first, second, strict=True):
        assert sorted(samples) == sorted([*one, *two])
        assert (left + right) / 2 == pytest.approx(loss, rel=1e-12)


def gated_steps(rank: int, world: int) -> int:
    """Rank 1 lets fewer samples pass, as even positions hold the easy ones."""
    values = [position % 2 * 10 + position % 3 for position in range(60)]
    gate = DifficultyGate(Plain(values), float, threshold=lambda n: 10)
    curriculum = gr.Curriculum(gr.SuperLoss())
    return len(drain(curriculum, curriculum.loader(gate, batch_size=4, steps_per_epoch=8)))


def test_ranks_take_equal_numbers_of_batches_through_unequal_gates(run_ranks: Any) -> None:
    assert run_ranks(gated_steps, 2) == [8, 8]
