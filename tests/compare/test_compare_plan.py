import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradatim.compare.budget import BUDGETS, Budget, Spent, cosine
from gradatim.compare.data import Source, load
from gradatim.compare.defaults import resolve
from gradatim.compare.objectives import Objective
from gradatim.compare.plan import Cell, Plan, slug_of
from gradatim.compare.plan_file import as_table, as_toml, differences, from_table

SAVED = sorted(Path(__file__).parents[2].glob("experiments/results/*/plan.toml"))

# ---------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("kind", "progress"),
    [("steps", 0.3), ("samples", 0.5), ("epochs", 0.25), ("seconds", 0.75)],
)
def test_progress_counts_what_the_budget_is_made_of(kind, progress):
    spent = Spent(steps=3, forward=4, survey=1, epochs=2.5, seconds=7.5)
    assert Budget(kind, 10).progress(spent) == pytest.approx(progress)


@given(st.sampled_from(BUDGETS), st.floats(0.5, 1e6), st.integers(0, 10**7))
def test_progress_stays_in_its_range(kind, amount, used):
    spent = Spent(used, used, used, float(used), float(used))
    assert 0 <= Budget(kind, amount).progress(spent) <= 1


def test_the_cosine_by_hand():
    assert cosine(0) == 1
    assert cosine(1 / 3) == pytest.approx(0.75)  # cos 60 degrees is one half
    assert cosine(1) == pytest.approx(0)


@pytest.mark.parametrize("bad", [("hours", 1), ("steps", 0), ("steps", math.nan), ("seconds", -1)])
def test_impossible_budgets_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        Budget(*bad)


# ---------------------------------------------------------------- objectives


def test_losses_by_hand():
    half = math.log(2)
    logits, zeros = torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64)
    assert Objective("classification").losses(logits, zeros).tolist() == pytest.approx([half] * 2)
    several = Objective("multilabel").losses(logits, torch.tensor([[1.0, 0], [1, 1]]))
    assert several.tolist() == pytest.approx([half] * 2)
    # Targets 1, 3 have mean 2 and deviation sqrt 2; 3 stands at 1 / sqrt 2.
    objective = Objective.of("regression", torch.tensor([1.0, 3.0]))
    one = objective.losses(torch.tensor([[0.0], [0.0]]), torch.tensor([3.0, 2.0]))
    assert one.tolist() == pytest.approx([0.5, 0.0])
    assert objective.in_units(torch.tensor([[1.0]])).item() == pytest.approx(2 + math.sqrt(2))


def test_several_targets_are_standardised_one_by_one():
    targets = torch.tensor([[1.0, 100.0], [3.0, 300.0], [5.0, 500.0]])
    objective = Objective.of("regression", targets)
    assert objective.losses(torch.zeros(3, 2), targets).tolist() == pytest.approx([1, 0, 1])
    assert objective.in_units(torch.zeros(1, 2)).tolist() == [[3.0, 300.0]]


def test_a_constant_target_divides_by_nothing():
    objective = Objective.of("regression", torch.tensor([4.0, 4.0]))
    assert objective.losses(torch.zeros(1, 1), torch.tensor([4.0])).tolist() == [0.0]


# ---------------------------------------------------------------- plans


def test_controls_always_run_and_cells_come_seed_by_seed():
    plan = Plan(curricula=["spl", "Uniform"], seeds=3)
    assert [spec.label for spec in plan.specs] == ["uniform", "paced_random", "spl"]
    cells = plan.cells()
    assert len(set(cells)) == len(cells) == 2 * 3 * 3
    assert [cell.seed for cell in cells] == [0] * 6 + [1] * 6 + [2] * 6
    assert len({cell.folder for cell in cells}) == len(cells)


def test_settings_are_every_combination():
    plan = Plan("iris", label_noise=(0, 0.2), imbalance=(1, 5), train_fraction=0.5)
    assert list(plan.settings) == [
        "fraction-0.5",
        "noise-0.2,fraction-0.5",
        "imbalance-5,fraction-0.5",
        "noise-0.2,imbalance-5,fraction-0.5",
    ]
    assert plan.settings["noise-0.2,fraction-0.5"].label_noise == 0.2


def test_only_the_demonstration_adds_noise_by_itself():
    assert list(Plan().settings) == ["clean", "noise-0.3"]
    assert list(Plan("iris").settings) == ["clean"]
    assert slug_of(Plan("iris", label_noise=0.1, noise="pair").settings["pair-noise-0.1"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curricula": []}, "curricula must be one or more different names. Got none"),
        ({"curricula": "spl,spl"}, "curricula must be one or more different names"),
        ({"curricula": "spl(label=uniform)"}, "label must be another than uniform"),
        ({"curricula": "spl(label=paced_random)"}, "label must be another than paced_random"),
        ({"label_noise": (0.1, 0.10000001)}, "settings must be different in their first six"),
        ({"amount": 0.5}, "amount must be a whole number"),
        ({"curricula": "uniform(x=1)"}, "curricula must be free of parameters for uniform"),
        ({"label_noise": 1.0}, "label_noise must be"),
        ({"label_noise": (0.1, 0.1)}, "label_noise must be one or more different numbers"),
        ({"label_noise": ()}, "label_noise must be one or more different numbers"),
        ({"imbalance": 0.5}, "imbalance must be"),
        ({"train_fraction": 0}, "train_fraction must be"),
        ({"noise": "paired"}, "noise must be one of .* Did you mean 'pair'"),
        ({"seeds": 1}, "seeds must be a whole number, at least 2. Got 1"),
        ({"seeds": (3,)}, "seeds must be at least 2. Got 1"),
        ({"seeds": (3, 4, 3)}, "seeds must be different. Got 3 twice. The same run is no evid"),
        ({"seeds": (-1, 2)}, "seeds must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"batch_size": 3, "devices": 2}, "batch_size must be a multiple of devices=2. Got 3"),
        ({"evaluations": 0}, "evaluations must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"weight_decay": -1}, "weight_decay must be"),
        ({"alpha": 0.5}, "alpha must be"),
        ({"margin": 0}, "margin must be"),
        ({"tune": -1}, "tune must be"),
        ({"budget": "second"}, "budget must be one of .* Did you mean 'seconds'"),
        ({"budget": "seconds"}, "amount must be given with --budget seconds"),
        ({"amount": 0}, "amount must be"),
        ({"regime": "plato"}, "regime must be one of .*"),
        ({"optimizer": "adam"}, "optimizer must be one of .* Did you mean 'adamw'"),
        ({"metric": "acuracy"}, "metric must be one of .* Did you mean 'accuracy'"),
        ({"precision": "8"}, "precision must be one of"),
        ({"device": "gpu"}, "device must be one of"),
        ({"split": (0.5, 0.5, 0.5)}, "split must be"),
    ],
)
def test_impossible_plans_are_refused(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Plan(**change)


def test_entries_of_a_file_are_known_by_name():
    with pytest.raises(
        ValueError, match=r"entry must be one of .* Got 'seed'. Did you mean 'seeds'"
    ):
        from_table({"seed": 8})
    plan = from_table(
        {"data": "iris", "curricula": ["spl", {"name": "super_loss", "lam": 0.5, "label": "soft"}]}
    )
    assert [spec.label for spec in plan.specs][2:] == ["spl", "soft"]
    assert plan.specs[3].parameters == (("lam", 0.5),)


def test_a_plan_written_and_read_is_the_same_plan():
    plan, _ = resolve(Plan("wine", curricula=["spl(form=linear)"], seeds=(1, 5), amount=12.0))
    stored = tomllib.loads(as_toml(plan))
    assert from_table(stored) == plan
    assert differences(plan, stored) == []
    assert differences(plan, {**stored, "margin": 0.02}) == ["margin = 0.02, not 0.01"]
    assert differences(plan, {**stored, "wish": 1}) == ["wish = 1, not None"]
    older = {**stored, "versions": {**plan.versions, "torch": "1.0"}}
    assert "torch 1.0" in differences(plan, older)[0]
    assert json.dumps(as_table(plan))


def test_odd_names_survive_the_file():
    plan = Plan('a "b" \\ ä\n.csv', text="te\txt", label="lä")
    assert from_table(tomllib.loads(as_toml(plan))) == plan


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.parent.name)
def test_plans_of_finished_comparisons_are_read_to_the_entry(path):
    """Only the versions may be newer."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    again = as_table(from_table(table))
    assert {**again, "versions": 0} == {**table, "versions": 0}
    assert list(again) == list(table)


def test_a_plan_is_a_source_with_more():
    plan = Plan("a.csv", label="y", split=(0.5, 0.25, 0.25), seeds=2)
    assert plan.source == Source("a.csv", label="y", split=(0.5, 0.25, 0.25))
    assert type(plan.source) is Source
    assert plan.with_values(limit=50).source.limit == 50


# ---------------------------------------------------------------- amounts

RESOLVED = Plan(metric="accuracy", epochs=20, batch_size=64, optimizer="sgd", weight_decay=0.0,
                learning_rate=0.1)  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "amount"), [("steps", 20 * 15), ("samples", 20 * 15 * 64), ("epochs", 20)]
)
def test_the_usual_amount_is_what_plain_training_takes(budget, amount):
    plan = RESOLVED.with_values(budget=budget)
    assert plan.allowance(1000) == Budget(budget, amount)  # 1000 // 64 = 15 steps
    assert plan.plain_epochs(1000) == 20


@pytest.mark.parametrize(
    ("budget", "epochs"), [("steps", 6.4), ("samples", 0.1), ("epochs", 100), ("seconds", 20)]
)
def test_paces_know_how_many_plain_epochs_an_amount_is(budget, epochs):
    plan = RESOLVED.with_values(budget=budget, amount=100.0)
    assert plan.allowance(1000) == Budget(budget, 100)
    assert plan.plain_epochs(1000) == pytest.approx(epochs)


def test_tuning_tries_the_plans_own_rate_and_then_the_same_ones_for_everybody():
    plan = RESOLVED.with_values(tune=3, curricula="spl", label_noise=0, seeds=2)
    trials = plan.trials()
    assert [str(cell) for cell in trials[:3]] == [
        "uniform, clean, trial 0",
        "paced_random, clean, trial 0",
        "spl, clean, trial 0",
    ]
    assert len(trials) == 9
    assert trials[0].folder.as_posix() == "cells/clean/uniform/trial-0"
    rates = [plan.trial_rate(trial) for trial in range(50)]
    assert rates[0] == 0.1
    assert all(0.01 <= rate <= 1 for rate in rates)
    assert len(set(rates)) > 40
    assert sum(rate < 0.1 for rate in rates) > 10


def test_cells_have_folders_of_their_own():
    assert Cell("noise-0.3", "spl", 3).folder.as_posix() == "cells/noise-0.3/spl/seed-3"


# ---------------------------------------------------------------- what data decide


def test_gaps_are_filled_by_the_data():
    plan, facts = resolve(Plan("iris"))
    assert (plan.metric, plan.optimizer, plan.margin, plan.device) == (
        "accuracy",
        "sgd",
        0.01,
        "cuda" if torch.cuda.is_available() else "cpu",
    )
    assert plan.batch_size == 8  # 90 samples: a dozen steps of the usual 64 they cannot fill
    assert facts["clean"]["sizes"]["training"] == 90
    diabetes, _ = resolve(Plan("diabetes", curricula="super_loss"))
    assert diabetes.metric == "r2"
    errors, _ = resolve(Plan("diabetes", curricula="super_loss", metric="rmse"))
    assert 1 < errors.margin < 2  # a fiftieth of a deviation of about 77


def test_data_that_changed_are_noticed(tmp_path):
    def write(shift):
        rows = [f"{k % 7},{k % 3 + shift * (k == 5)},{k % 2}" for k in range(60)]
        (tmp_path / "a.csv").write_text("\n".join(["x,y,label", *rows]))
        load.cache_clear()
        return resolve(Plan(str(tmp_path / "a.csv"), seeds=2))[0]

    first, again, other = write(0), write(0), write(1)
    assert first == again
    [difference] = differences(first, as_table(other))
    assert difference.startswith("fingerprint = ")
    with pytest.raises(ValueError, match=r"data must be what the plan was made for.*Did files or"):
        resolve(first)


@pytest.mark.parametrize("change", [{"limit": 60}, {"train_fraction": 0.3}, {"imbalance": 4}])
def test_rows_that_the_first_seed_leaves_out_are_data_too(tmp_path, change):
    """Every row counts: another seed will train on it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 3)).astype(np.float32), np.arange(90) % 3
    found = set()
    for row in (None, 0, 20, 40, 60, 80):
        other = x.copy()
        if row is not None:
            other[row] += 1
        np.savez(tmp_path / "a.npz", x=other, y=y)
        load.cache_clear()
        found.add(resolve(Plan(str(tmp_path / "a.npz"), seeds=2, **change))[0].fingerprint)
    assert len(found) == 6


def test_ones_own_code_is_part_of_the_plan(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = set()
    for width in (1, 2):
        (tmp_path / "own_model.py").write_text(
            "from torch import nn\n\n\ndef make(shape, outputs):\n"
            f"    return nn.Sequential(nn.Linear(shape[0], {width}), nn.Linear({width}, outputs))\n"
        )
        found.add(resolve(Plan("iris", seeds=2, model="own_model:make"))[0].fingerprint)
    assert len(found) == 2


def test_what_was_given_stays():
    plan, _ = resolve(Plan("iris", epochs=3, batch_size=16, margin=0.5, learning_rate=2.0))
    assert (plan.epochs, plan.batch_size, plan.margin, plan.learning_rate) == (3, 16, 0.5, 2.0)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"data": "iris", "metric": "r2"}, "metric must be one for classification: accuracy"),
        (
            {"data": "iris", "batch_size": 91},
            "batch_size must be at most 45, half of the",
        ),
        ({"data": "iris", "curricula": "spll"}, "curricula must be .* Did you mean 'spl'"),
        ({"data": "iris", "curricula": "spl(frm=hard)"}, "Did you mean 'form'"),
        ({"data": "iris", "device": "mps"}, "device must be one that this machine has"),
        ({"data": "iris", "precision": "16"}, "precision must be 32 or bf16 on the CPU"),
        ({"data": "iris", "model": "os:getcwd"}, "model"),
        ({"data": "diabetes", "label_noise": 0.1}, "label_noise must be 0 for regression"),
    ],
)
def test_plans_that_do_not_fit_the_data_are_refused(plan, message):
    with pytest.raises(ValueError, match=message):
        resolve(Plan(**plan))
