"""Cross-validation: every sample is predicted once, by a model that has not seen it."""

import csv
import json
import tomllib
from argparse import ArgumentParser

import numpy as np
import pytest

from gradatim.compare import cells as cells_module
from gradatim.compare import command, runner
from gradatim.compare.cells import run_cell, task_of
from gradatim.compare.command import compare, rehearse
from gradatim.compare.data import Source, Stress, folds_of, load, make_task, parts_of
from gradatim.compare.defaults import resolve
from gradatim.compare.folds import fold_count, mean_curve, pooled
from gradatim.compare.options import add_compare_options, plan_of
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.plan_file import as_toml, from_table
from gradatim.compare.results import summarise
from gradatim.compare.runner import finished_cells, open_folder, run_cells, tuned_rates

SIZE = 60


def images(path, *, fold=None, seed=0, **more):
    """Sixty images of three classes; the first pixel of an image is its number."""
    rng = np.random.default_rng(seed)
    y = np.arange(SIZE) % 3
    x = rng.integers(0, 40, (SIZE, 6, 6)).astype(np.uint8) + 60 * y[:, None, None].astype(np.uint8)
    x[:, 0, 0] = np.arange(SIZE)
    arrays = {"x": x, "y": y, **({} if fold is None else {"fold": np.asarray(fold)}), **more}
    np.savez(path, **arrays)
    load.cache_clear()
    return str(path)


OFFICIAL = np.arange(SIZE) // 3 % 5 * 10 + 7  # 7, 17, ..., 47: whole triples, one of each class


def numbers(samples):
    """Which images these are."""
    return samples.features[:, 0, 0, 0].tolist()


def short(data, **changes):
    wanted = {"curricula": "super_loss", "seeds": 2, "epochs": 1, "evaluations": 2, **changes}
    return resolve(Plan(data, **wanted))[0]


def settled(out, plan):
    found = finished_cells(plan, out)
    for run in found.values():
        for each in (run, *run["folds"]):
            del each["seconds"], each["curve"]["seconds"]
        run |= {name: run[name].tolist() for name in cells_module.ARRAYS}
    return found


# ---------------------------------------------------------------- which sample is in which fold


@pytest.mark.parametrize("count", [2, 3, 10])
def test_drawn_folds_have_the_classes_shares_and_equal_sizes(count):
    loaded = load(Source("digits", folds=count))
    folds = folds_of(loaded)
    sizes = np.bincount(folds, minlength=count + 1)
    assert sizes[0] == 0
    assert np.ptp(sizes[1:]) <= 1
    classes = np.stack([np.bincount(loaded.targets[folds == k]) for k in range(1, count + 1)])
    assert np.ptp(classes, axis=0).max() <= 1


def test_folds_of_a_regression_cover_its_range():
    loaded = load(Source("diabetes", folds=4))
    folds = folds_of(loaded)
    means = [loaded.targets[folds == k].mean() for k in (1, 2, 3, 4)]
    assert np.ptp(means) < 0.15 * loaded.targets.std()
    assert np.bincount(folds).tolist() == [0, 111, 111, 110, 110]


def test_each_fold_tests_once_and_the_others_train_and_validate():
    loaded = load(Source("digits", folds=4))
    folds = folds_of(loaded)
    for fold in (1, 2, 3, 4):
        parts = parts_of(loaded, seed=3, fold=fold)
        assert parts["test"].tolist() == np.flatnonzero(folds == fold).tolist()
        rest = np.concatenate([parts["training"], parts["validation"]])
        assert sorted(rest) == np.flatnonzero(folds != fold).tolist()
        assert len(parts["training"]) == pytest.approx(0.75 * len(rest), abs=1)


def test_the_seed_moves_validation_and_never_the_folds():
    loaded = load(Source("digits", folds=3))
    one, two = (parts_of(loaded, seed=seed, fold=1) for seed in (0, 1))
    assert one["test"].tolist() == two["test"].tolist()
    assert sorted(one["validation"]) != sorted(two["validation"])


def test_official_folds_of_a_file_are_taken_as_they_are(tmp_path):
    loaded = load(Source(images(tmp_path / "a.npz", fold=OFFICIAL), folds="fold"))
    assert folds_of(loaded).tolist() == ((OFFICIAL + 3) // 10).tolist()
    task = make_task(loaded, Stress(), seed=0, fold=3)
    assert numbers(task.test) == np.flatnonzero(OFFICIAL == 27).tolist()
    assert task.facts["folds"] == {"7": 12, "17": 12, "27": 12, "37": 12, "47": 12}
    assert task.facts["drawn_parts"] == ["validation"]


def test_a_column_of_folds_is_neither_input_nor_label(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{k * 7 % 11},{'ab'[k % 2]},{'xyz'[k // 2 % 3]}" for k in range(36)]
    path.write_text("\n".join(["size,kind,part", *rows]))
    loaded = load(Source(str(path), folds="part"))
    assert loaded.label_names == ("a", "b")  # part, the last column, would have been the guess
    assert loaded.facts["guesses"]["features"] == "all 1 columns beside the label"
    task = make_task(loaded, Stress(), seed=0, fold=2)
    assert task.positions["test"].tolist() == [k for k in range(36) if k // 2 % 3 == 1]


def test_a_limit_leaves_every_seed_the_same_samples():
    loaded = load(Source("digits", folds=3, limit=90))
    folds = folds_of(loaded)
    assert np.bincount(folds)[1:].tolist() == [30, 30, 30]
    for seed in (0, 1):
        tested = [parts_of(loaded, seed=seed, fold=k)["test"] for k in (1, 2, 3)]
        assert sorted(np.concatenate(tested)) == np.flatnonzero(folds).tolist()


def test_a_given_validation_part_validates_every_fold(tmp_path):
    y = np.arange(9) % 3
    x = (np.arange(9) + 100).astype(np.uint8)[:, None, None].repeat(6, 1).repeat(6, 2)
    train = np.load(images(tmp_path / "all.npz"))
    arrays = {"x_train": train["x"], "y_train": train["y"], "x_validation": x, "y_validation": y}
    np.savez(tmp_path / "a.npz", **arrays, group=OFFICIAL)
    loaded = load(Source(str(tmp_path / "a.npz"), folds="group"))
    tested = []
    for fold in range(1, 6):
        task = make_task(loaded, Stress(), seed=0, fold=fold)
        assert numbers(task.validation) == list(range(100, 109))
        assert len(task.training) == 48
        tested += numbers(task.test)
    assert sorted(tested) == list(range(60))


# ---------------------------------------------------------------- what a run trains on


@pytest.fixture
def spied(monkeypatch):
    """What each training was given: images trained on, validated on, predicted at the end."""
    seen = []
    train, predict = cells_module.train, cells_module.predict

    def record_train(fabric, model, method, training, validation, *rest, **options):
        seen.append({"training": numbers(training), "validation": numbers(validation)})
        return train(fabric, model, method, training, validation, *rest, **options)

    def record_predict(model, samples, *rest):
        assert "test" not in seen[-1]  # opened once
        seen[-1]["test"] = numbers(samples)
        return predict(model, samples, *rest)

    monkeypatch.setattr(cells_module, "train", record_train)
    monkeypatch.setattr(cells_module, "predict", record_predict)
    return seen


def test_no_sample_of_a_held_out_fold_is_trained_or_validated_on(tmp_path, spied):
    plan = short(images(tmp_path / "a.npz", fold=OFFICIAL), folds="fold", curricula="spl")
    assert list(run_cells(plan, tmp_path / "out", jobs=1)) == [None] * 6
    assert len(spied) == 6 * 5
    groups = {k: OFFICIAL[k] for k in range(SIZE)}
    for place, given in enumerate(spied):
        held_out = 10 * (place % 5) + 7
        used = {groups[k] for k in given["training"] + given["validation"]}
        assert used == {7, 17, 27, 37, 47} - {held_out}
        assert {groups[k] for k in given["test"]} == {held_out}
        assert sorted(k for part in given.values() for k in part) == list(range(SIZE))


def test_all_curricula_of_a_seed_share_folds_and_validation(tmp_path, spied):
    plan = short(images(tmp_path / "a.npz"), folds=2)
    list(run_cells(plan, tmp_path / "out", jobs=1))
    first, second = spied[:6], spied[6:]
    for runs in (first, second):
        assert runs[0] == runs[2] == runs[4]
        assert runs[1] == runs[3] == runs[5]
    assert first[0]["test"] == second[0]["test"]
    assert first[0]["validation"] != second[0]["validation"]


def test_a_budget_counts_per_fold(tmp_path):
    plan = short(images(tmp_path / "a.npz"), folds=3, budget="steps", amount=7.0)
    run = run_cell(plan, Cell("clean", "uniform", 0, fold=2))
    assert (run["fold"], run["steps"]) == (2, 7)
    list(run_cells(plan, tmp_path / "out", jobs=1))
    for done in finished_cells(plan, tmp_path / "out").values():
        assert [each["steps"] for each in done["folds"]] == [7, 7, 7]
        assert done["steps"] == 7
        assert done["samples"]["backward"] == 7 * plan.batch_size


# ---------------------------------------------------------------- what the folds say together


def test_predictions_of_all_folds_cover_each_sample_once_in_the_order_of_the_data(tmp_path):
    plan = short(images(tmp_path / "a.npz", fold=OFFICIAL[::-1]), folds="fold")
    list(run_cells(plan, tmp_path / "out", jobs=1))
    for cell, run in finished_cells(plan, tmp_path / "out").items():
        assert run["test_labels"].tolist() == [k % 3 for k in range(SIZE)]
        told = np.full(SIZE, -1)
        for fold in range(1, 6):
            folder = tmp_path / "out" / cell.folder / f"fold-{fold}"
            with np.load(folder / "predictions.npz") as arrays:
                rows = arrays["test_rows"]
                assert (OFFICIAL[::-1][rows] == 10 * fold - 3).all()
                told[rows] = arrays["test_predictions"]
        assert run["test_predictions"].tolist() == told.tolist()
        right = told == np.arange(SIZE) % 3
        assert run["items"].tolist() == right.astype(float).tolist()
        assert run["scores"]["accuracy"] == pytest.approx(right.mean())
        assert run["by_class"]["2"] == pytest.approx(right[2::3].mean())
        assert run["shared_test"] is True
        assert "test_outputs" not in run


def part(rows, right, **changes):
    """A fold of two classes, all samples of class 1; ``right`` of them are told so."""
    outputs = np.array([[0.0, 1.0 if r else -1.0] for r in right])
    curve = {"steps": [2, 4], "validation_score": [0.25, 0.5]}
    return {
        "setting": "clean", "curriculum": "uniform", "seed": 0, "method": "Uniform()", "sees": [],
        "learning_rate": 0.1, "validation_score": 0.5, "checkpoint_step": 4, "steps": 4,
        "stopped_early": False, "shared_test": True, "corrupted_labels": 0,
        "samples": {"forward": 8, "survey": 0}, "seconds": {"forward": 1.0},
        "epochs": [{"first_step": 0, "samples": 8}], "curve": curve, "scores": {},
        "test_rows": np.array(rows), "test_outputs": outputs,
        "test_labels": np.ones(len(rows), np.int64), "test_predictions": outputs.argmax(1),
        "items": np.array(right, np.float32), "training_counts": [3, 4], **changes,
    }  # fmt: skip


def test_the_score_is_that_of_all_predictions_and_no_mean_of_scores():
    """Folds of 1 and 4 samples with 1 and 2 right: 3 / 5, where the mean of folds is 3 / 4."""
    plan = Plan("iris", metric="accuracy")
    parts = [part([3], [1], fold=1), part([4, 0, 2, 1], [0, 1, 1, 0], fold=2)]
    run = pooled(plan, parts, kind="classification", names=("a", "b"))
    assert run["scores"]["accuracy"] == pytest.approx(3 / 5)
    assert run["items"].tolist() == [1, 0, 1, 1, 0]
    assert run["test_predictions"].tolist() == [1, 0, 1, 1, 0]
    assert run["by_class"] == {"b": pytest.approx(3 / 5)}
    assert run["validation_score"] == 0.5
    assert [each["fold"] for each in run["folds"]] == [1, 2]
    assert not {"fold", "epochs", "test_rows", "test_outputs", "training_counts"} & set(run)


def test_costs_and_curves_are_means_over_folds():
    longer = {"steps": [2, 6, 8], "validation_score": [0.75, 0.5, 1.0]}
    other = part([1], [1], steps=7, validation_score=1.0, samples={"forward": 9, "survey": 4},
                 seconds={"forward": 2.0}, curve=longer, stopped_early=True)  # fmt: skip
    plan = Plan("iris", metric="accuracy")
    run = pooled(plan, [part([0], [1]), other], kind="classification", names=("a", "b"))
    assert (run["steps"], run["validation_score"]) == (5.5, 0.75)
    assert run["checkpoint_step"] == 4
    assert isinstance(run["checkpoint_step"], int)
    assert run["samples"] == {"forward": 8.5, "survey": 2}
    assert run["seconds"] == {"forward": 1.5}
    assert run["stopped_early"] is True
    # The first fold stays at 4 steps and .5 after its end.
    assert run["curve"] == {"steps": [2, 5, 6], "validation_score": [0.5, 0.5, 0.75]}
    assert mean_curve([longer]) == longer


def test_metrics_that_are_no_mean_are_computed_on_everything_together():
    outputs = [np.array([[1.0], [2.0]]), np.array([[5.0]])]
    targets = [np.array([1.0, 4.0]), np.array([7.0])]
    parts = [
        part(rows, [1] * len(rows), test_outputs=o, test_labels=t, test_predictions=o[:, 0])
        for rows, o, t in zip(([2, 0], [1]), outputs, targets, strict=True)
    ]
    plan = Plan("diabetes", curricula="super_loss", metric="rmse")
    run = pooled(plan, parts, kind="regression", names=("y",))
    assert run["scores"]["rmse"] == pytest.approx(np.sqrt((0 + 4 + 4) / 3))
    assert run["scores"]["mae"] == pytest.approx(4 / 3)
    assert run["test_labels"].tolist() == [4, 7, 1]
    assert run["items"] is None


def test_pairs_and_mcnemar_count_samples_of_all_folds_by_hand():
    """Plain training is right on samples 0, 1; spl on 1, 2, 3: McNemar sees 2 against 1."""
    plan = Plan("iris", curricula="spl", seeds=2, metric="accuracy", margin=0.01)
    right = {"uniform": [1, 1, 0, 0, 0], "paced_random": [1, 1, 0, 0, 0], "spl": [0, 1, 1, 1, 0]}
    cells = {}
    for cell in plan.cells():
        given = list(right[cell.curriculum])
        given[4] = cell.seed
        if cell.curriculum == "spl" and cell.seed == 1:
            given[4] = 0
        parts = [part([0, 3], [given[0], given[3]]), part([4, 1, 2], [given[k] for k in (4, 1, 2)])]
        cells[cell] = pooled(plan, parts, kind="classification", names=("a", "b"))
    rows = {row.curriculum: row for row in summarise(plan, cells)["clean"]}
    assert rows["uniform"].scores == pytest.approx([2 / 5, 3 / 5])
    assert rows["spl"].scores == pytest.approx([3 / 5, 3 / 5])
    found = rows["spl"].mcnemar
    assert [(found[seed].only_a, found[seed].only_b) for seed in (0, 1)] == [(2, 1), (2, 2)]
    # Gains .2 and 0: mean .1, and an interval over seeds and the same five samples.
    assert rows["spl"].comparison.t_test.difference == pytest.approx(0.1)
    assert rows["spl"].comparison.item_interval is not None


# ---------------------------------------------------------------- resuming and failing


def test_a_run_killed_in_a_fold_goes_on_with_that_fold(tmp_path, monkeypatch):
    plan = short(images(tmp_path / "a.npz"), folds=3)
    ran = []

    def counted(plan, cell, **options):
        if len(ran) == 4:
            raise KeyboardInterrupt
        ran.append(cell)
        return run_cell(plan, cell, **options)

    out = tmp_path / "out"
    open_folder(plan, out)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_cell", counted)
        with pytest.raises(KeyboardInterrupt):
            list(run_cells(plan, out, jobs=1))
        assert list(finished_cells(plan, out)) == plan.cells()[:1]
        kept = {path: path.read_bytes() for path in out.rglob("fold-*/*")}
        assert len(kept) == 4 * 2
        before, ran[:] = list(ran), []
        patch.setattr(runner, "run_cell", lambda p, c, **o: ran.append(c) or run_cell(p, c, **o))
        open_folder(plan, out)
        assert list(run_cells(plan, out, jobs=1)) == [None] * 5
    every = [Cell(c.setting, c.curriculum, c.seed, fold=k) for c in plan.cells() for k in (1, 2, 3)]
    assert before + ran == every
    assert all(path.read_bytes() == content for path, content in kept.items())
    list(run_cells(plan, tmp_path / "undisturbed", jobs=1))
    assert settled(out, plan) == settled(tmp_path / "undisturbed", plan)


def test_a_failure_names_the_fold(tmp_path, monkeypatch):
    plan = short(images(tmp_path / "a.npz"), folds=2)

    def broken(plan, cell, **options):
        if cell.fold == 2 and cell.seed == 1:
            raise ValueError("losses must be finite.")
        return run_cell(plan, cell, **options)

    monkeypatch.setattr(runner, "run_cell", broken)
    ends = [end for end in run_cells(plan, tmp_path / "out", jobs=1) if end]
    assert str(ends[0]) == "uniform, clean, seed 1, fold 2: ValueError: losses must be finite."
    assert len(ends) == 3
    assert {cell.seed for cell in finished_cells(plan, tmp_path / "out")} == {0}


# ---------------------------------------------------------------- tuning


def test_tuning_takes_the_mean_of_the_folds_validation_and_opens_no_test_part(
    tmp_path, monkeypatch
):
    plan = short(images(tmp_path / "a.npz"), folds=2, tune=2)
    scores = {(0, 1): 0.9, (0, 2): 0.1, (1, 1): 0.4, (1, 2): 0.8}  # means .5 and .6

    def fake(plan, cell, *, learning_rate, **options):
        result = part([0], [1])
        for name in ("scores", "test_rows", "test_outputs", "test_labels", "items"):
            del result[name]
        del result["test_predictions"]
        score = scores[cell.trial, cell.fold]
        return {**result, "learning_rate": learning_rate, "validation_score": score}

    monkeypatch.setattr(runner, "run_cell", fake)
    assert list(run_cells(plan, tmp_path / "out", jobs=1, trials=True)) == [None] * 6
    assert set(tuned_rates(plan, tmp_path / "out").values()) == {plan.trial_rate(1)}
    monkeypatch.undo()
    monkeypatch.setattr(cells_module, "predict", pytest.fail)
    trial = run_cell(plan, Cell("clean", "uniform", 0, trial=0, fold=1), learning_rate=0.1)
    assert "test_outputs" not in trial


def test_a_trial_that_diverges_in_one_fold_has_diverged():
    failed = {"learning_rate": 9.0, "validation_score": None, "reason": "infinite losses"}
    run = pooled(Plan(), [part([0], [1]), failed], kind="classification", names=("a", "b"))
    assert run == failed


def test_all_folds_of_a_run_share_one_rate(tmp_path, monkeypatch):
    """The second trial scores best, but a fold was trained at the first trial's rate before."""
    plan = short(images(tmp_path / "a.npz"), folds=2, tune=2)
    for trial in plan.trials():
        result = {"learning_rate": plan.trial_rate(trial.trial), "validation_score": trial.trial}
        runner._keep(result, tmp_path / trial.folder)
    assert tuned_rates(plan, tmp_path)["clean", "uniform"] == plan.trial_rate(1)
    first = plan.trial_rate(0)
    runner._keep({"learning_rate": first}, tmp_path / plan.cells()[0].folder / "fold-1")
    rates = tuned_rates(plan, tmp_path)
    assert rates["clean", "uniform"] == first
    assert rates["clean", "super_loss"] == plan.trial_rate(1)


# ---------------------------------------------------------------- the whole command


def test_a_comparison_with_folds_from_data_to_report(tmp_path, capsys):
    data = images(tmp_path / "a.npz", fold=OFFICIAL)
    plan = Plan(data, folds="fold", curricula="spl", seeds=2, epochs=2, evaluations=2)
    assert rehearse(plan, jobs=1) > 0
    assert "on each fold of 'fold'" in capsys.readouterr().out
    out = tmp_path / "out"
    assert compare(plan, out, jobs=1) == []
    shown = " ".join(capsys.readouterr().out.split())
    assert "each fold predicted once per run. Samples per fold:" in shown
    content = json.loads((out / "results.json").read_text())
    assert content["task"]["clean"]["folds"] == dict.fromkeys(["7", "17", "27", "37", "47"], 12)
    assert content["plan"]["folds"] == "fold"
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert all(float(row["epochs"]) >= 2 for row in rows)
    row = content["statistics"]["clean"]["accuracy"]["spl"]
    assert row["comparison"]["item_interval"] is not None
    assert "fold" in (out / "report.html").read_text()
    assert (out / "subset_sizes.png").exists()
    with pytest.raises(ValueError, match="folds = fold, not None"):
        open_folder(resolve(plan.with_values(folds=None))[0], out)


def test_the_plan_for_all_folds_is_made_for_the_smallest_training_part(tmp_path):
    fold = np.r_[np.zeros(36, int), np.ones(12, int), np.full(12, 2)]
    plan = Plan(images(tmp_path / "a.npz", fold=fold), folds="fold", seeds=2, curricula="spl")
    _, facts = resolve(plan)
    assert facts["clean"]["sizes"] == {"training": 18, "validation": 6, "test": 36}
    assert facts["clean"]["fold"] == 1
    with pytest.raises(ValueError, match="batch_size must be at most 9"):
        resolve(plan.with_values(batch_size=10))


def test_the_estimate_counts_all_folds(tmp_path, monkeypatch):
    seconds = {"data": 0.0, "forward": 0.0, "backward": 0.0, "evaluation": 1.0}
    seen = []
    monkeypatch.setattr(command, "run_cell", lambda plan, cell: seen.append(cell) or
                        {"seconds": seconds})  # fmt: skip
    whole = Plan(images(tmp_path / "a.npz"), seeds=2, curricula="spl", evaluations=3)
    assert rehearse(whole, jobs=1) == pytest.approx(6 * 2, rel=0.01)
    assert rehearse(whole.with_values(folds=4), jobs=1) == pytest.approx(6 * 2 * 4, rel=0.01)
    assert [cell.fold for cell in seen] == [None, None, 1, 1]


@pytest.mark.parametrize(("text", "folds"), [("5", 5), ("fold", "fold")])
def test_folds_are_given_by_option_or_file(tmp_path, text, folds):
    parser = ArgumentParser()
    add_compare_options(parser)
    plan = plan_of(parser.parse_args(["a.csv", "--folds", text]))
    assert plan.folds == folds
    path = tmp_path / "plan.toml"
    path.write_text(as_toml(plan))
    assert tomllib.loads(path.read_text())["folds"] == folds
    assert plan_of(parser.parse_args([str(path)])) == plan
    assert "folds" not in as_toml(from_table({"data": "iris"}))


def test_other_folds_are_other_data(tmp_path):
    found = [
        short(images(tmp_path / "a.npz", fold=fold), folds="fold").fingerprint
        for fold in (OFFICIAL, OFFICIAL, np.roll(OFFICIAL, 3))
    ]
    assert found[0] == found[1] != found[2]


def test_each_fold_has_a_log_of_its_own(tmp_path):
    plan = short(images(tmp_path / "a.npz"), folds=2)
    list(run_cells(plan, tmp_path / "out", jobs=1, loggers=["csv"]))
    logs = (tmp_path / "out" / "logs" / "csv" / "clean" / "uniform").iterdir()
    names = [f"seed-{seed}-fold-{fold}" for seed in (0, 1) for fold in (1, 2)]
    assert sorted(path.name for path in logs) == names


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 1}, "folds must be a whole number, at least 2. Got 1"),
        ({"folds": 0}, "folds must be"),
        ({"folds": True}, "folds must be a number of folds or the name of a column. Got True"),
        ({"folds": 2.0}, "folds must be a number of folds or the name of a column. Got 2.0"),
        ({"folds": ""}, "folds must be non-empty"),
        ({"folds": 3, "test": "b.csv"}, "folds must be left out where test is given. Got 3. Each"),
        ({"folds": "y", "label": "y"}, "folds must be no input or label column. Got 'y'"),
        ({"folds": "a", "features": ("a", "b")}, "folds must be no input or label column"),
    ],
)
def test_impossible_folds_are_refused_at_once(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Plan("a.csv", **change)


@pytest.mark.parametrize(
    ("data", "folds", "message"),
    [
        ("wine", 49, "folds must be at most 48, the samples of 'class_2'. Got 49"),
        ("diabetes", 443, "folds must be at most 442, the number of samples. Got 443"),
        ("iris", "target", "folds must be no label column. Got 'target'"),
        ("wine", "hues", "folds must be a column of the data.* Did you mean 'hue'"),
    ],
)
def test_folds_that_do_not_fit_the_data_are_refused(data, folds, message):
    with pytest.raises(ValueError, match=message):
        resolve(Plan(data, folds=folds, seeds=2, curricula="super_loss"))


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (np.ones(SIZE), "two or more values that several samples share. Got 1 in column 'fold'"),
        (np.arange(SIZE), "two or more values that several samples share. Got 60 in column"),
        (np.arange(SIZE - 1), r"folds must be an array of shape \(60,\), one fold per sample"),
        (np.arange(SIZE) % 3, "such that every class is in two or more. Got one alone for '0'"),
        (np.where(np.arange(SIZE) == 4, np.nan, OFFICIAL), "none in row 4"),
        (None, "folds must be an array of the file: 'x', 'y'. Got 'fold'"),
    ],
)
def test_columns_that_are_no_folds_are_refused(tmp_path, fold, message):
    data = images(tmp_path / "a.npz", fold=fold)
    with pytest.raises(ValueError, match=message):
        short(data, folds="fold")


def test_folds_and_a_test_part_of_the_data_exclude_each_other(tmp_path):
    y = np.arange(12) % 3
    x = np.zeros((12, 6, 6), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match="folds must be left out for data with a test part of th"):
        load(Source(str(tmp_path / "a.npz"), folds=2))


def test_a_limit_that_leaves_one_fold_is_refused(tmp_path):
    drawn = folds_of(load(Source(images(tmp_path / "a.npz"), folds=2, limit=10)))
    fold = np.zeros(SIZE, int)
    fold[np.flatnonzero(drawn == 0)[:6]] = 1
    wanted = Source(images(tmp_path / "a.npz", fold=fold), folds="fold", limit=10)
    with pytest.raises(ValueError, match=r"folds must be at least two .* Is limit too low"):
        folds_of(load(wanted))


@pytest.mark.parametrize(("folds", "fold"), [(3, None), (3, 0), (3, 4), (None, 1)])
def test_a_fold_that_is_not_there_is_refused(folds, fold):
    with pytest.raises(ValueError, match="fold must be"):
        make_task(load(Source("iris", folds=folds)), Stress(), seed=0, fold=fold)


def test_a_run_without_folds_is_what_it_was(tmp_path):
    plan = short("iris")
    assert fold_count(plan) is None
    run = run_cell(plan, Cell("clean", "uniform", 0))
    assert not {"fold", "folds", "test_rows", "test_outputs", "training_counts"} & set(run)
    facts = task_of(plan, Cell("clean", "uniform", 0)).facts
    assert facts["drawn_parts"] == ["validation", "test"]
    assert not {"fold", "folds"} & set(facts)
