import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from gradatim.compare.curricula import teacher_scores
from gradatim.compare.data import (
    Samples,
    Source,
    Stress,
    digits,
    flip_labels,
    flip_pairs,
    load,
    long_tail,
    make_task,
    stratified_split,
    swap_labels,
)
from gradatim.compare.data.splits import apportion, cut, strata
from gradatim.compare.models import perceptron


def saved(tmp_path, lines, name="a.csv", **parameters):
    (tmp_path / name).write_text(lines)
    return load(Source(str(tmp_path / name), **parameters))


def numbered(tmp_path, labels, **parts):
    """Images that hold their row's number, so that each sample can be found again."""

    def images(count, start=0):
        rows = np.arange(start, start + count)
        return np.stack([rows % 256, rows // 256], axis=1).astype(np.uint8)[:, None]

    named = {"x_train": images(len(labels)), "y_train": labels}
    for place, (part, values) in enumerate(parts.items(), start=1):
        named |= {f"x_{part}": images(len(values), 10_000 * place), f"y_{part}": values}
    np.savez(tmp_path / "a.npz", **named)
    load.cache_clear()
    return load(Source(str(tmp_path / "a.npz")))


def rows(samples):
    pixels = samples.features.long().flatten(1)
    return (pixels[:, 0] + 256 * pixels[:, 1]).numpy()


def identities(samples):
    """Rows of pixels, which are all different in this data set."""
    return {row.numpy().tobytes() for row in samples.features}


@pytest.mark.parametrize("seed", [0, 3])
def test_parts_are_disjoint_and_cover_the_data(seed):
    labels = np.asarray(load_digits().target)
    parts = stratified_split(labels, seed=seed)
    joined = np.concatenate(list(parts.values()))
    assert sorted(joined) == list(range(len(labels)))
    assert [len(part) for part in parts.values()] == [1078, 359, 360]


def test_parts_have_the_classes_shares():
    labels = np.asarray(load_digits().target)
    shares = np.bincount(labels) / len(labels)
    for part in stratified_split(labels, seed=1).values():
        counts = np.bincount(labels[part], minlength=10)
        assert np.abs(counts - shares * len(part)).max() < 2


def test_digits_are_split_as_scikit_learn_splits_them():
    pixels, labels = load_digits(return_X_y=True)
    x, rest, y, y_rest = train_test_split(
        pixels, labels, train_size=0.6, stratify=labels, random_state=7
    )
    _, test, _, y_test = train_test_split(
        rest, y_rest, train_size=0.5, stratify=y_rest, random_state=7
    )
    task = digits("clean", seed=7)
    np.testing.assert_array_equal(task.training.features, (x / 16).astype(np.float32))
    np.testing.assert_array_equal(task.training.labels, y)
    np.testing.assert_array_equal(task.test.features, (test / 16).astype(np.float32))
    np.testing.assert_array_equal(task.test.labels, y_test)
    assert (task.classes, task.flipped is task.corrupted) == (10, True)


def test_the_split_belongs_to_the_seed():
    first, again, other = (digits("clean", seed=seed) for seed in (0, 0, 1))
    for name in ("training", "validation", "test"):
        part = getattr(first, name).features
        assert torch.equal(part, getattr(again, name).features)
        assert not torch.equal(part, getattr(other, name).features)
    assert identities(first.training) != identities(other.training)
    assert identities(first.test) != identities(other.test)


def test_noise_touches_training_labels_only():
    clean, noisy = digits("clean", seed=4), digits("noisy", seed=4)
    for name in ("validation", "test"):
        before, after = getattr(clean, name), getattr(noisy, name)
        assert torch.equal(before.features, after.features)
        assert torch.equal(before.labels, after.labels)
    assert torch.equal(clean.training.features, noisy.training.features)
    wrong = clean.training.labels != noisy.training.labels
    assert torch.equal(wrong, noisy.flipped)
    assert int(wrong.sum()) == round(0.3 * 1078)
    assert not clean.flipped.any()
    assert not identities(noisy.training) & identities(noisy.test)


@given(st.integers(2, 12), st.floats(0, 0.99), st.integers(0, 2**31), st.integers(0, 60))
@settings(deadline=None, max_examples=80)
def test_flips_are_exactly_as_many_and_always_to_another_class(classes, fraction, seed, size):
    labels = torch.arange(size) % classes
    before = labels.clone()
    noisy, flipped = flip_labels(labels, fraction=fraction, classes=classes, seed=seed)
    assert torch.equal(labels, before)
    assert int(flipped.sum()) == int((noisy != labels).sum()) == round(fraction * size)
    assert torch.equal(noisy[~flipped], labels[~flipped])
    assert set(noisy.tolist()) <= set(range(classes))


def test_flips_reach_every_other_class_alike():
    """9,000 flips of class 3 fall on nine classes, 1,000 each.

    Standard deviation 29.8 each; 5 of them fail with 5e-6 for nine counts.
    """
    labels = torch.full((10_000,), 3)
    noisy, _ = flip_labels(labels, fraction=0.9, classes=10, seed=0)
    counts = torch.bincount(noisy, minlength=10)
    assert int(counts[3]) == 1000
    others = torch.cat([counts[:3], counts[4:]])
    assert int((others - 1000).abs().max()) < 5 * 29.8


def test_flips_depend_on_the_seed_alone():
    labels = torch.arange(100) % 10
    random_state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (
        flip_labels(labels, fraction=0.3, classes=10, seed=seed)[0] for seed in (5, 5, 6)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert (np.random.get_state()[1] == random_state).all()  # noqa: NPY002


def test_fetching_several_samples_equals_fetching_each():
    samples = Samples(
        torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    )
    for (x, y), (x2, y2) in zip(
        samples.__getitems__([4, 0, 4]), [samples[4], samples[0], samples[4]], strict=True
    ):
        assert torch.equal(x, x2)
        assert y == y2


def test_the_teacher_finds_flipped_labels_without_being_told():
    """On the digits its score separates flipped from clean labels almost perfectly."""
    task = digits("noisy", seed=0)
    scores = teacher_scores(task.training, seed=0)
    wrong, right = scores[task.flipped], scores[~task.flipped]
    auroc = (wrong[:, None] > right[None]).float().mean()
    assert auroc > 0.97


def test_the_teacher_sees_what_a_user_sees():
    # Scores follow the labels given: a sample called otherwise becomes hard.
    task = digits("clean", seed=0)
    labels = task.training.labels.clone()
    labels[7] = (labels[7] + 1) % 10
    before = teacher_scores(task.training, seed=0)
    after = teacher_scores(Samples(task.training.features, labels), seed=0)
    assert before[7] < 0.5 < after[7]
    assert not torch.equal(before, teacher_scores(task.training, seed=1))


def test_initial_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    one, again, other = (perceptron(64, 10, seed=seed) for seed in (2, 2, 3))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(one.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert [tuple(p.shape) for p in one.parameters()] == [(128, 64), (128,), (10, 128), (10,)]
    for layer, inputs in ((one[0], 64), (one[2], 128)):
        for parameter in layer.parameters():
            assert parameter.abs().max() <= inputs**-0.5
            assert parameter.abs().max() > 0.5 * inputs**-0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: digits("noise", seed=0), "setting must be one of 'clean', 'noisy'.*Did you mean"),
        (
            lambda: flip_labels(torch.zeros(2).long(), fraction=1, classes=3, seed=0),
            "fraction must",
        ),
        (lambda: flip_labels(torch.zeros(2).long(), fraction=0, classes=1, seed=0), "classes must"),
        (lambda: Samples(torch.zeros(2, 3), torch.zeros(3)), "labels must be one per sample: 2"),
        (lambda: perceptron(0, 10, seed=0), "features must"),
        (lambda: stratified_split(np.zeros(10), seed=-1), "seed must"),
        (lambda: stratified_split(np.zeros(1), seed=0), "the data must be enough for every part"),
        (lambda: flip_pairs(torch.zeros(2).long(), fraction=2, classes=3, seed=0), "fraction must"),
        (lambda: Stress(label_noise=1), "label_noise must"),
        (lambda: Stress(noise="pairs"), "noise must be one of.*Did you mean 'pair'"),
        (lambda: Stress(imbalance=0.5), "imbalance must"),
        (lambda: Stress(train_fraction=0), "train_fraction must"),
        (lambda: make_task(load(Source("iris")), Stress(), seed=-1), "seed must"),
        (
            lambda: make_task(load(Source("diabetes")), Stress(label_noise=0.1), seed=0),
            "label_noise must be 0 for regression",
        ),
        (lambda: apportion(np.array([5, 5]), 1), "limit must be at least 2"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_features_are_fitted_on_the_training_part_alone(tmp_path):
    """By hand: training rows 1, 3 and a gap give median 2, mean 2, spread sqrt(2/3)."""
    (tmp_path / "test.csv").write_text("x,c,y\n100,green,0\n,red,1\n")
    (tmp_path / "val.csv").write_text("x,c,y\n2,,0\n2,blue,1\n")
    parts = {part: str(tmp_path / f"{part[:3]}.csv") for part in ("validation",)}
    training = "x,c,y\n1,red,0\n3,blue,1\n,red,0\n2,blue,1\n"
    loaded = saved(tmp_path, training, test=str(tmp_path / "test.csv"), **parts)
    task = make_task(loaded, Stress(), seed=0)
    assert [len(part) for part in (task.training, task.validation, task.test)] == [4, 2, 2]
    assert task.facts["drawn_parts"] == []
    spread = 0.5**0.5  # of 1, 3, 2, 2
    expected = {  # number, was it missing, blue, red
        "training": [[-1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]],
        "validation": [[0, 0, 0, 0], [0, 0, 1, 0]],
        "test": [[98, 0, 0, 0], [0, 1, 0, 1]],
    }
    for part, numbers in expected.items():
        wanted = torch.tensor(numbers, dtype=torch.float32)
        wanted[:, 0] /= spread
        torch.testing.assert_close(getattr(task, part).features, wanted)


def test_the_fit_follows_the_seed_and_the_fraction(tmp_path):
    text = "x,y\n" + "".join(f"{i * i},{i % 2}\n" for i in range(60))
    loaded = saved(tmp_path, text)
    for stress in (Stress(), Stress(train_fraction=0.5)):
        for seed in (0, 1):
            task = make_task(loaded, stress, seed=seed)
            values = task.training.features.double()
            assert abs(float(values.mean())) < 1e-6
            assert abs(float(values.std(correction=0)) - 1) < 1e-6
            assert abs(float(task.test.features.mean())) > 1e-3


def test_a_constant_column_stays_zero(tmp_path):
    text = "x,c,y\n" + "".join(f"{i},0.1,{i % 2}\n" for i in range(30))
    task = make_task(saved(tmp_path, text), Stress(), seed=0)
    for part in (task.training, task.test):
        assert part.features[:, 1].abs().max() < 1e-12


def test_words_get_ids_by_frequency_in_the_training_part(tmp_path):
    (tmp_path / "other.csv").write_text("t,y\nnew bad bad,0\n!!!,1\n")
    other = str(tmp_path / "other.csv")
    training = "t,y\nBad good good,0\nfine good,1\nbad,0\nugly fine words here,1\n"
    given = {"text": "t", "validation": other, "test": other, "max_tokens": 3}
    task = make_task(saved(tmp_path, training, **given), Stress(), seed=0)
    # good 3 times; bad and fine twice, in alphabetical order; ugly, words once; "here" is cut off.
    assert task.training.features.tolist() == [[3, 2, 2], [4, 2, 0], [3, 0, 0], [5, 4, 6]]
    assert task.test.features.tolist() == [[1, 3, 3], [1, 0, 0]]
    assert task.tokens == 7
    assert task.texts == ("Bad good good", "fine good", "bad", "ugly fine words here")
    assert task.facts["texts_cut"] == 1
    small = make_task(saved(tmp_path, training, "b.csv", vocabulary=4, **given), Stress(), seed=0)
    assert small.tokens == 4
    assert small.training.features.tolist() == [[3, 2, 2], [1, 2, 0], [3, 0, 0], [1, 1, 1]]


def test_pairs_share_the_room_and_are_kept_apart(tmp_path):
    text = "a,b,y\n" + "one two three four,five,0\none,five six seven eight,1\n" * 5
    given = {"text": "a", "text_pair": "b", "label": "y", "max_tokens": 5}
    task = make_task(saved(tmp_path, text, **given), Stress(), seed=0)
    assert task.training.features.shape == (6, 5)
    where = (task.training.features == 2).nonzero()[:, 1]
    assert set(where.tolist()) == {3, 1}  # one two three | five; one | five six seven
    assert set(task.texts) == {"one two three four five", "one five six seven eight"}
    assert task.tokens == 3 + 6


def test_a_tokenizer_may_take_the_place_of_our_words(tmp_path):
    text = "t,y\n" + "".join(f"text {i},{i % 2}\n" for i in range(20))
    loaded = saved(tmp_path, text, text="t")
    asked = []

    def encode(first, second):
        asked.append(second)
        return torch.tensor([[int(one.split()[1]), 7] for one in first])

    task = make_task(loaded, Stress(), seed=0, encode_texts=encode)
    for part in (task.training, task.validation, task.test):
        assert torch.equal(part.features[:, 0] % 2, part.labels)
    assert asked == [None]
    assert task.tokens is None
    for wrong, error in ((torch.zeros(3, 2), ValueError), ([[1, 2]], TypeError)):
        with pytest.raises(error, match="encode_texts must be a function that returns an int64"):
            make_task(loaded, Stress(), seed=0, encode_texts=lambda a, b, wrong=wrong: wrong)


def test_given_parts_are_kept_and_the_others_drawn_from_training(tmp_path):
    labels = np.arange(400) % 4
    loaded = numbered(tmp_path, labels, test=labels[:40])
    task, other = (make_task(loaded, Stress(), seed=seed) for seed in (0, 1))
    assert rows(task.test).tolist() == rows(other.test).tolist() == list(range(10_000, 10_040))
    assert (len(task.training), len(task.validation)) == (300, 100)  # 0.6 : 0.2
    together = np.concatenate([rows(task.training), rows(task.validation)])
    assert sorted(together) == list(range(400))
    assert set(rows(task.validation)) != set(rows(other.validation))
    assert torch.bincount(task.validation.labels).tolist() == [25] * 4
    assert task.facts["drawn_parts"] == ["validation"]
    only = make_task(numbered(tmp_path, labels, val=labels[:40]), Stress(), seed=0)
    assert (len(only.validation), len(only.test)) == (40, 100)
    assert rows(only.validation).min() == 10_000


def test_stress_leaves_validation_and_test_as_they_are(tmp_path):
    loaded = numbered(tmp_path, np.arange(600) % 3)
    clean = make_task(loaded, Stress(), seed=3)
    stress = Stress(label_noise=0.2, noise="pair", imbalance=4, train_fraction=0.5)
    task = make_task(loaded, stress, seed=3)
    for part in ("validation", "test"):
        assert rows(getattr(task, part)).tolist() == rows(getattr(clean, part)).tolist()
        assert torch.equal(getattr(task, part).labels, getattr(clean, part).labels)
    assert set(rows(task.training)) < set(rows(clean.training))
    # 360 in training, half of them: 60 a class; n_c = 60, 30, 15.
    right = torch.from_numpy(rows(task.training) % 3)
    assert torch.bincount(right).tolist() == [60, 30, 15]
    wrong = task.training.labels != right
    assert torch.equal(wrong, task.corrupted)
    assert int(wrong.sum()) == 21 == task.facts["stress"]["corrupted"]
    assert torch.equal(task.training.labels[wrong], (right[wrong] + 1) % 3)
    assert sum(task.facts["training_counts"].values()) == 105
    assert json.loads(json.dumps(task.facts)) == task.facts


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 99), st.data())
@settings(deadline=None, max_examples=80)
def test_shares_sum_up_and_stay_within_the_sizes(sizes, least, data):
    sizes = np.array(sizes)
    total = data.draw(st.integers(int(np.minimum(sizes, least).sum()), int(sizes.sum())))
    counts = apportion(sizes, total, at_least=least)
    assert counts.sum() == total
    assert (counts <= sizes).all()
    assert (counts >= np.minimum(sizes, least)).all()


def test_a_smaller_fraction_is_a_subset_with_the_classes_shares():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    kept = {
        fraction: Stress(train_fraction=fraction).keep("classification", labels, seed=2)
        for fraction in (0.1, 0.5, 1.0)
    }
    assert [np.bincount(labels[at]).tolist() for at in kept.values()] == [
        [6, 3, 1],
        [30, 15, 5],
        [60, 30, 10],
    ]
    assert set(kept[0.1]) < set(kept[0.5]) < set(kept[1.0])
    other = Stress(train_fraction=0.5).keep("classification", labels, seed=3)
    assert set(other) != set(kept[0.5])


def test_a_long_tail_has_the_ratio_asked_for_whatever_the_sizes():
    """Sizes 50, 400, 100 under ratio 25: n_0 = 50 allows 50, 10, 2."""
    labels = np.repeat([0, 1, 2], [50, 400, 100])
    kept = long_tail(labels, imbalance=25, seed=0)
    assert np.bincount(labels[kept]).tolist() == [50, 10, 2]
    labels = np.repeat([0, 1, 2], [500, 400, 3])  # here the last class sets the scale
    kept = long_tail(labels, imbalance=100, seed=0)
    assert np.bincount(labels[kept]).tolist() == [300, 30, 3]
    with pytest.raises(ValueError, match="imbalance must be at most 50 for classes"):
        long_tail(np.repeat([0, 1], [50, 400]), imbalance=300, seed=0)


def test_swapped_labels_keep_their_number():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(200, 5, generator=generator) < 0.4).float()
    labels[0], labels[1] = 0, 1
    noisy, wrong = swap_labels(labels, fraction=0.99, seed=0)
    assert int(wrong.sum()) == 198
    some = wrong & (labels.sum(1) > 0) & (labels.sum(1) < 5)
    assert torch.equal(noisy[some].sum(1), labels[some].sum(1))
    assert ((noisy[some] != labels[some]).sum(1) == 2).all()
    assert set(noisy.unique().tolist()) == {0, 1}
    one_each = torch.eye(4).repeat(25, 1)
    noisy, wrong = swap_labels(one_each, fraction=0.5, seed=0)
    assert (noisy.sum(1) == 1).all()
    assert int(wrong.sum()) == 50


def test_multilabel_and_regression_tasks_have_the_shapes_they_promise(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 3))
    np.savez(tmp_path / "m.npz", x=x, y=(generator.random((200, 4)) < 0.3).astype(int))
    task = make_task(load(Source(str(tmp_path / "m.npz"))), Stress(label_noise=0.25), seed=0)
    assert (task.kind, task.outputs, task.training.labels.dtype) == ("multilabel", 4, torch.float32)
    assert task.training.labels.shape == (120, 4)
    assert int(task.corrupted.sum()) == 30
    np.savez(tmp_path / "r.npz", x=x, y=1000 * x[:, 0])
    task = make_task(load(Source(str(tmp_path / "r.npz"))), Stress(), seed=0)
    assert (task.kind, task.outputs, task.training.labels.dtype) == ("regression", 1, torch.float32)
    assert float(task.training.labels.abs().max()) > 1000  # in its own units
    # Drawn from ten equally full bins: each part has a tenth of its samples in each.
    edges = np.quantile(1000 * x[:, 0], np.linspace(0, 1, 11))[1:-1]
    for part in (task.training, task.validation, task.test):
        counts = np.bincount(np.searchsorted(edges, part.labels.numpy()), minlength=10)
        assert np.abs(counts - len(part) / 10).max() <= 1
    assert not task.corrupted.any()


def test_a_limit_keeps_the_shares_of_parts_and_classes(tmp_path):
    loaded = numbered(tmp_path, np.repeat([0, 1], [300, 100]), test=np.repeat([0, 1], 50))
    limited = dataclasses.replace(loaded, source=dataclasses.replace(loaded.source, limit=100))
    task, other = (make_task(limited, Stress(), seed=seed) for seed in (0, 1))
    assert [len(part) for part in (task.training, task.validation, task.test)] == [60, 20, 20]
    assert torch.bincount(task.training.labels).tolist() == [45, 15]
    assert torch.bincount(task.test.labels).tolist() == [10, 10]
    assert set(rows(task.training)) != set(rows(other.training))
    # A given test part is one and the same for all seeds, cut as it may be.
    assert set(rows(task.test)) == set(rows(other.test))


def test_rare_classes_are_split_as_far_as_they_go(tmp_path):
    labels = np.repeat([0, 1, 2], [40, 3, 2])
    task = make_task(numbered(tmp_path, labels), Stress(), seed=0)
    found = [rows(part) for part in (task.training, task.validation, task.test)]
    assert sorted(np.concatenate(found)) == list(range(45))
    assert set(task.training.labels.tolist()) == {0, 1, 2}
    first, second = cut(np.arange(45), labels, 0.6, seed=0)
    assert set(labels[first]) == set(labels[second]) == {0, 1, 2}


def test_four_samples_are_enough_for_three_parts_and_two_are_not(tmp_path):
    task = make_task(numbered(tmp_path, np.array([0, 1, 0, 1])), Stress(), seed=0)
    assert [len(part) for part in (task.training, task.validation, task.test)] == [2, 1, 1]
    assert set(task.training.labels.tolist()) == {0, 1}
    np.savez(tmp_path / "b.npz", x=np.eye(2), y=np.array([0.5, 1.5]))
    few = load(Source(str(tmp_path / "b.npz"), task="regression"))
    with pytest.raises(ValueError, match=r"the data must be enough for every part\. Got 1 samples"):
        make_task(few, Stress(), seed=0)


def test_strata_are_for_a_single_target_of_many_samples():
    assert strata(np.arange(99.0)) is None
    assert strata(np.zeros((200, 2))) is None
    bins = strata(np.random.default_rng(0).normal(size=1000))
    assert np.bincount(bins).tolist() == [100] * 10


def test_tasks_of_one_seed_are_equal_and_leave_the_global_state_alone(tmp_path):
    text = "t,y\n" + "".join(f"text {i} {i % 3},{i % 2}\n" for i in range(40))
    loaded = saved(tmp_path, text, text="t")
    states = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    stress = Stress(label_noise=0.2, train_fraction=0.9)
    one, again = (make_task(loaded, stress, seed=4) for _ in range(2))
    assert torch.equal(one.training.features, again.training.features)
    assert torch.equal(one.training.labels, again.training.labels)
    assert one.facts == again.facts
    assert (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])


def test_titles_say_what_was_done():
    assert Stress(label_noise=0.3).title == "30 % of the training labels flipped"
    assert Stress(label_noise=0.3, noise="pair").title.endswith("flipped to the next class")
    assert Stress(imbalance=20).title == "training classes up to 20 : 1"
    assert Stress(train_fraction=0.25).title == "25 % of the training data"
    assert "," in Stress(train_fraction=0.25, label_noise=0.1).title


@pytest.mark.parametrize(
    ("kind", "stress", "message"),
    [
        ("regression", {"label_noise": 0.1}, "label_noise must be 0 for regression"),
        ("regression", {"imbalance": 2}, "imbalance must be 1 for regression"),
        ("multilabel", {"imbalance": 2}, "imbalance must be 1 for multilabel"),
        ("multilabel", {"label_noise": 0.1, "noise": "pair"}, "noise must be 'symmetric'"),
    ],
)
def test_stress_without_a_meaning_is_refused(kind, stress, message):
    with pytest.raises(ValueError, match=message):
        Stress(**stress).check(kind)
