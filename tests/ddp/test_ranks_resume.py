"""Checkpoints within an epoch under several processes, resumed with as many or another number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

import gradatim as gr
from ddp.toy import (
    BY_RANK,
    METHODS,
    Toy,
    Trace,
    assert_equal_one,
    differences,
    flat,
    restore,
    train,
    train_all,
)
from gradatim.checkpoint import _restore_local

EVERY_STEP = range(1000)
GLOBAL = 8  # samples per batch over all ranks

RUNS: dict[str, dict[str, Any]] = {
    "logged": {"name": "Everything"},
    "applied": {"name": "Everything", "log_limit_bytes": 1},
    "applied at times": {"name": "Visits", "size": 35, "log_limit_bytes": 150},
    "pipeline": {"name": "pipeline"},
    "weighted mean": {"name": "WeightedMean quiet"},
    "by rank": {"name": "ImportanceSampling loss"},
    "histories": {"name": "SelectiveBackprop"},
    "more steps": {"name": "Visits", "size": 16, "steps_per_epoch": 5, "log_limit_bytes": 100},
}

# Where each rank chooses from its own candidates, another number of them chooses otherwise.
SAME_CHOICE = [case for case, run in RUNS.items() if run["name"] not in BY_RANK]


def saved(run: dict[str, Any], world: int) -> dict[str, Any]:
    return {"epochs": 2, **run, "batch_size": GLOBAL // world, "save_at": EVERY_STEP}


def resumed(run: dict[str, Any], world: int, state: bytes) -> dict[str, Any]:
    return {"epochs": 2, **run, "batch_size": GLOBAL // world, "state": state}


def by_rank(traces: list[list[Trace]], number: int) -> list[Trace]:
    return [each[number] for each in traces]


@pytest.fixture(scope="module")
def of_one() -> dict[str, Trace]:
    """Each run in one process, uninterrupted."""
    return {case: train(**saved(run, 1)) for case, run in RUNS.items()}


@pytest.fixture(scope="module")
def of_two(_ranks: Any) -> dict[str, list[Trace]]:
    """Each run on two ranks, uninterrupted."""
    ranks = _ranks.run(train_all, 2, [saved(run, 2) for run in RUNS.values()])
    return {case: by_rank(ranks, number) for number, case in enumerate(RUNS)}


def test_two_processes_resume_to_the_bit_from_every_step(run_ranks: Any, of_two: Any) -> None:
    runs, expected = [], []
    for case, both in of_two.items():
        for step in both[0].saved:
            # Any rank may save; the others load the same file.
            runs.append(resumed(RUNS[case], 2, both[step % 2].saved[step]))
            expected.append((case, both, step))
    assert len(runs) > 50
    rest = run_ranks(train_all, 2, runs)
    for number, (case, both, step) in enumerate(expected):
        for trace, found in zip(both, by_rank(rest, number), strict=True):
            assert found.codes == trace.codes[step:], f"{case} after step {step}"
            assert differences(found.weights, trace.weights[step:]) == []
            assert differences(found.final, trace.final) == [], f"{case} after step {step}"
            assert differences(found.scores, trace.scores) == []


def test_collecting_changes_nothing_and_gives_every_rank_the_same(
    run_ranks: Any, of_two: Any
) -> None:
    plain = [{**saved(run, 2), "save_at": ()} for run in RUNS.values()]
    ranks = run_ranks(train_all, 2, plain)
    for number, both in enumerate(of_two.values()):
        for trace, other in zip(both, by_rank(ranks, number), strict=True):
            assert trace.codes == other.codes
            assert differences(trace.final, other.final) == []
        for step in both[0].saved:
            states = [restore(trace.saved[step])["curriculum"] for trace in both]
            assert differences(states[0]["unmerged"], states[1]["unmerged"]) == []


@pytest.mark.parametrize(
    ("before", "after", "cases"),
    [
        (2, 1, SAME_CHOICE),
        (1, 2, SAME_CHOICE),
        (2, 4, ["applied", "more steps"]),
    ],
)
def test_another_number_of_processes_goes_on(
    run_ranks: Any, of_one: Any, of_two: Any, before: int, after: int, cases: list[str]
) -> None:
    """The order, tables and parameters are those of one process that was never interrupted."""
    runs, expected = [], []
    for case in cases:
        ranks = [of_one[case]] if before == 1 else of_two[case]
        steps = list(ranks[0].saved)
        for step in (steps[1], steps[-3], steps[-2]):
            runs.append(resumed(RUNS[case], after, ranks[-1].saved[step]))
            expected.append((case, step))
    rest = run_ranks(train_all, after, runs)
    for number, (case, step) in enumerate(expected):
        try:
            assert_equal_one(by_rank(rest, number), of_one[case], after=step)
        except AssertionError as error:
            raise AssertionError(f"{case} after step {step}: {error}") from error


def test_a_changed_run_can_be_changed_back(run_ranks: Any, of_one: Any, of_two: Any) -> None:
    """2 -> 1 -> 2 within one epoch, with tables that were written and logged on the way."""
    run = RUNS["more steps"]
    state = of_two["more steps"][1].saved[6]
    [[alone]] = run_ranks(train_all, 1, [{**resumed(run, 1, state), "save_at": (8,), "stop": 8}])
    rest = run_ranks(train_all, 2, [resumed(run, 2, alone.saved[8])])
    assert_equal_one(by_rank(rest, 0), of_one["more steps"], after=8)


def test_another_batch_and_number_take_exactly_what_was_left(run_ranks: Any) -> None:
    run = {"name": "Visits", "size": 37, "epochs": 1}
    whole = run_ranks(train_all, 2, [saved(run, 2)])
    steps = (1, 2, 4)
    runs = [{**run, "batch_size": 3, "state": whole[0][0].saved[step]} for step in steps]
    for world in (1, 2, 4):
        rest = run_ranks(train_all, world, runs)
        for number, step in enumerate(steps):
            gone = [row for trace in by_rank(whole, 0) for row in flat(trace.real()[:step])]
            taken = [row for trace in by_rank(rest, number) for row in flat(trace.real())]
            assert sorted(gone + taken) == list(range(37))
            for trace in by_rank(rest, number):
                assert trace.scores["Visits.visits"].tolist() == [1] * 37
                left = -(-(37 - 8 * step) // world)
                assert trace.lengths == [step + -(-left // 3)] * len(trace.lengths)


# ---------------------------------------------------------------------------- what is refused


def _attempt(curriculum: gr.Curriculum) -> str:
    try:
        curriculum.state_dict()
    except RuntimeError as error:
        return str(error)
    return "saved"


def save_in_all_ways(rank: int, world: int, other: bytes) -> dict[str, str]:
    curriculum = gr.Curriculum(*METHODS["Everything"](35), seed=0)
    loader = curriculum.loader(Toy(35), 4)
    found = {"before": _attempt(curriculum)}
    for x, y in loader:
        curriculum(x[:, 0] ** 2, logits=x[:, :3], targets=y)
        if curriculum.step == 1:
            found["within"] = _attempt(curriculum)
            curriculum.collect()
            found["collected"] = _attempt(curriculum)
        elif curriculum.step == 2:
            found["a step later"] = _attempt(curriculum)
            curriculum.collect()
            curriculum.load_state_dict(restore(other)["curriculum"])
            found["another state of that step"] = _attempt(curriculum)
            break
    while curriculum.epoch < 1:
        for x, y in loader:
            curriculum(x[:, 0] ** 2, logits=x[:, :3], targets=y)
    found["between epochs"] = _attempt(curriculum)
    return found


def test_saving_within_an_epoch_needs_collect_on_every_rank(run_ranks: Any, of_two: Any) -> None:
    for found in run_ranks(save_in_all_ways, 2, of_two["logged"][0].saved[2]):
        refused = {case for case, answer in found.items() if "must follow collect()" in answer}
        assert refused == {"within", "a step later", "another state of that step"}
        assert all(found[case] == "saved" for case in found.keys() - refused)


def resume_before_the_group(rank: int, world: int, store: str, state: bytes) -> tuple[str, Any]:
    dist.destroy_process_group()
    curriculum = gr.Curriculum(*METHODS["Visits"](35), seed=0)
    loader = curriculum.loader(Toy(35), 4)
    loaded = restore(state)["curriculum"]
    curriculum.load_state_dict(loaded)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    try:
        iter(loader)
        message = ""
    except RuntimeError as error:
        message = str(error)
    curriculum.load_state_dict(loaded)
    while curriculum.epoch < 3:
        for x, y in loader:
            curriculum(x[:, 0] ** 2, logits=x[:, :3], targets=y)
    return message, curriculum.scores()["Visits.visits"]


def test_a_checkpoint_loaded_before_the_group_is_refused(
    run_ranks: Any, of_two: Any, tmp_path: Any
) -> None:
    store = (tmp_path / "store").as_uri()
    state = of_two["applied at times"][0].saved[2]
    for message, visits in run_ranks(resume_before_the_group, 2, store, state):
        assert "Was a checkpoint loaded before the process group was started?" in message
        assert visits.tolist() == [3] * 35, "loading it again afterwards works"


def test_tables_restored_elsewhere_keep_the_later_row() -> None:
    """Rank 1 saw sample 2 at step 5, rank 0 at step 3; one process must go on with step 5's."""
    table = gr.Table("loss").allocate(4)
    local = {
        "index": torch.tensor([1, 2]),
        "rows": torch.tensor([[0.1, 0.3], [0.0, 0.5]]),
        "steps": torch.tensor([[4, 3], [-1, 5]]),
    }
    _restore_local(table, local, rank=0, same_world=False)
    assert table.values.tolist() == pytest.approx([0.0, 0.1, 0.5, 0.0])
