import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from gradatim.compare.curricula import teacher_scores
from gradatim.compare.data import Samples, digits, flip_labels, stratified_split
from gradatim.compare.models import perceptron


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
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
