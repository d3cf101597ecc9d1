"""MCL over clusters (4.2): hardness of a cluster, how many are chosen, found once and kept."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

import gradatim as gr
from gradatim.methods.clusters import cluster_ids, described
from gradatim.methods.mcl import MCL

GROUPS = torch.tensor([0, 0, 0, 1, 1, 2])
POINTS = torch.tensor([[1.0, 0.0], [2.0, 0.0], [2.5, 0.0], [0.0, 5.0], [0.0, 6.0], [9.0, 9.0]])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ready(method: gr.Method, losses: torch.Tensor, epoch: int = 1, **run: Any) -> gr.Run:
    """Where training stands once ``losses`` were seen in the epoch before."""
    state = gr.Run(**{"size": losses.numel(), "seed": 0, "epoch": epoch - 1, **run})
    method.setup(state)
    for table in method.tables().values():
        table.allocate(state.size)
    method.observe(gr.Batch(torch.arange(state.size), losses, epoch=state.epoch), state)
    state.epoch = epoch
    return state


def chosen(method: gr.Method, run: gr.Run) -> list[int]:
    return method.plan(gr.Pool(torch.arange(run.size)), run).index.tolist()


def test_clusters_are_counted_averaged_and_represented_by_hand() -> None:
    # The mean of 1, 2, 2.5 is 1.8333: nearest is 2. 5 and 6 are equally near: the first.
    found = described(POINTS, GROUPS)
    assert found.counts.tolist() == [3, 2, 1]
    assert found.representatives.tolist() == [1, 3, 5]
    assert found.centroids.flatten().tolist() == pytest.approx([5.5 / 3, 0, 0, 5.5, 9, 9])
    part = described(POINTS[[5, 1, 0]], GROUPS[[5, 1, 0]])  # of a pool: cluster 1 is not in it
    assert part.counts.tolist() == [2, 1]
    assert part.representatives.tolist() == [1, 0]
    assert part.members.tolist() == [1, 0, 0]


def clustered(hardness: Any, losses: torch.Tensor, **settings: Any) -> list[int]:
    method = MCL(clusters=3, cluster_hardness=hardness, features=POINTS, gamma=0.0, **settings)
    run = ready(method, losses)
    method._cluster_ids = GROUPS
    return chosen(method, run)


def test_a_cluster_is_as_hard_as_its_representative_times_its_size() -> None:
    """|C| l of samples 1, 3, 5: 3 * .1, 2 * .4, 1 * .7; sums over clusters: 1.3, .5, .7."""
    losses = torch.tensor([0.6, 0.1, 0.6, 0.4, 0.1, 0.7])
    few = {"start_fraction": 0.1, "diversity": 1e-9}
    assert clustered("representative", losses, **few) == [3, 4]
    assert clustered("mean", losses, **few) == [0, 1, 2]


@pytest.mark.parametrize(
    ("fraction", "kept"),
    [(2 / 6, [3, 4]), (3 / 6, [3, 4, 5]), (4 / 6, [0, 1, 2, 3, 4, 5]), (0.99, list(range(6)))],
)
def test_clusters_are_chosen_until_they_hold_k_samples(fraction: float, kept: list[int]) -> None:
    losses = torch.tensor([0.6, 0.1, 0.6, 0.4, 0.1, 0.7])  # in order: .8, .7, .3
    found = clustered("representative", losses, start_fraction=fraction, diversity=1e-9)
    assert found == kept


def test_diversity_counts_between_centroids() -> None:
    # Far more than losses: sqrt(9) + sqrt(9) of cluster 2 beats sqrt(5.5) and sqrt(1.83).
    losses = torch.tensor([0.9, 0.9, 0.9, 0.4, 0.4, 0.1])
    assert clustered("mean", losses, start_fraction=0.1, diversity=100.0) == [5]


def test_clusters_are_found_once_and_kept() -> None:
    centers = 50 * torch.eye(4).repeat_interleave(25, 0)
    z = centers + torch.rand(100, 4, generator=draws(5))
    method = MCL(start_fraction=0.2, clusters=4, features=z)
    run = ready(method, torch.rand(100, generator=draws(6)))
    before = chosen(method, run)  # before they are kept: the same ones
    assert method.state_dict()["clusters"] is None
    run.epoch = 0
    method.end_epoch(run)
    kept = method.state_dict()["clusters"]
    assert [len(set(part.tolist())) for part in kept.split(25)] == [1] * 4
    assert len(set(kept.tolist())) == 4
    run.epoch = 1
    method.start_epoch(run)
    assert torch.equal(method.state_dict()["clusters"], kept)
    assert chosen(method, run) == before
    assert method.planned_size(100, 1) is None
    other = MCL(start_fraction=0.2, clusters=4, features=torch.rand(100, 4, generator=draws(7)))
    ready(other, torch.rand(100))
    other.load_state_dict(method.state_dict())
    other.start_epoch(run)
    assert torch.equal(other.state_dict()["clusters"], kept)


def test_clusters_follow_the_generator_and_may_be_more_than_samples() -> None:
    z = torch.rand(60, 3, generator=draws(8))
    first, again, other = (cluster_ids(z, 7, generator=draws(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert cluster_ids(z[:3], 9, generator=draws()).unique().numel() == 3
    assert cluster_ids(torch.ones(5, 2), 3, generator=draws()).unique().numel() == 1


def test_clusters_without_scikit_learn_are_refused_by_name(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match="clusters need scikit-learn"):
        cluster_ids(POINTS, 2, generator=draws())
