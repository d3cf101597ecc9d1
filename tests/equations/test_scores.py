"""Difficulty scores from outputs, people and models, and the two scales they are put on."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from gradatim import scores
from gradatim.undisturbed import undisturbed

LOGITS = torch.tensor([[2.0, 1.0, 0.0]] * 3, dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2])
OUTPUT_SCORES = {
    "loss": scores.loss,
    "confidence": lambda z, y: scores.confidence(z.softmax(1), y),
    "margin": lambda z, y: scores.margin(z.softmax(1), y),
    "margin_logits": lambda z, y: scores.margin(z, y, logits=True),
    "entropy": lambda z, y: scores.entropy(z.softmax(1)),
}


def close(actual: torch.Tensor, expected: object, tolerance: float = 1e-6) -> bool:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    # Of one shape first, since `allclose` would broadcast. pytest shows what was compared.
    return actual.shape == expected.shape and torch.allclose(
        actual, expected, rtol=0, atol=tolerance
    )


# --- From a model's outputs (section 2.4; logits 2, 1, 0) -------------------------------------


def test_loss_by_hand() -> None:
    assert close(scores.loss(LOGITS, LABELS), [0.407606, 1.407606, 2.407606])


def test_hacohen2019_confidence_by_hand() -> None:
    p = LOGITS.softmax(1)
    assert close(p[0], [0.665241, 0.244728, 0.090031])
    assert close(scores.confidence(p, LABELS), [0.334759, 0.755272, 1 - 0.090031])


def test_margin_by_hand() -> None:
    assert close(scores.margin(LOGITS.softmax(1), LABELS)[:2], [-0.420512, 0.420512], 2e-6)
    assert close(scores.margin(LOGITS, LABELS, logits=True), [-1, 1, 2])


def test_entropy_by_hand() -> None:
    p = torch.tensor([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], dtype=torch.float64)
    assert close(scores.entropy(p), [0, 1, math.log(2) / math.log(3)], 1e-12)


@st.composite
def outputs(draw: st.DrawFn, classes: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    rows = draw(st.integers(1, 6))
    columns = classes or draw(st.integers(2, 5))
    values = st.floats(-30, 30, allow_nan=False, width=32)
    logits = draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
    labels = draw(st.lists(st.integers(0, columns - 1), min_size=rows, max_size=rows))
    return torch.tensor(logits, dtype=torch.float64).reshape(rows, columns), torch.tensor(labels)


@given(outputs())
def test_output_scores_equal_slow_loops(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = data
    z, y = logits.numpy(), labels.numpy()
    p = scipy.special.softmax(z, axis=1)
    rows = range(len(y))

    def rivals(values: np.ndarray, i: int) -> float:
        return max(v for j, v in enumerate(values[i]) if j != y[i])

    expected = {
        "loss": [scipy.special.logsumexp(z[i]) - z[i, y[i]] for i in rows],
        "confidence": [1 - p[i, y[i]] for i in rows],
        "margin": [-(p[i, y[i]] - rivals(p, i)) for i in rows],
        "margin_logits": [-(z[i, y[i]] - rivals(z, i)) for i in rows],
        "entropy": [scipy.stats.entropy(p[i]) / math.log(p.shape[1]) for i in rows],
    }
    for name, function in OUTPUT_SCORES.items():
        assert close(function(logits, labels), expected[name], 1e-9)


@given(outputs(classes=2))
def test_margin_and_confidence_rank_alike_for_two_classes(
    data: tuple[torch.Tensor, torch.Tensor],
) -> None:
    p, labels = data[0].softmax(1), data[1]
    # With two classes the margin is 2 (1 - p_y) - 1: an increasing function of the confidence.
    assert close(scores.margin(p, labels), 2 * scores.confidence(p, labels) - 1, 1e-12)


@given(outputs(), st.randoms(use_true_random=False))
def test_shuffling_the_samples_shuffles_the_scores(
    data: tuple[torch.Tensor, torch.Tensor], shuffler: random.Random
) -> None:
    logits, labels = data
    order = list(range(len(labels)))
    shuffler.shuffle(order)
    for function in OUTPUT_SCORES.values():
        assert close(function(logits[order], labels[order]), function(logits, labels)[order], 1e-12)


@pytest.mark.parametrize("name", OUTPUT_SCORES)
@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_output_scores_keep_dtype_and_raise_half_precision(
    name: str, given_dtype: torch.dtype, expected: torch.dtype
) -> None:
    logits = LOGITS.to(given_dtype).requires_grad_()
    before = logits.detach().clone()
    result = OUTPUT_SCORES[name](logits, LABELS)
    assert result.dtype == expected
    assert result.shape == (3,)
    assert not result.requires_grad
    assert torch.equal(logits.detach(), before)
    assert close(result.double(), OUTPUT_SCORES[name](LOGITS, LABELS), 1e-2)


def test_a_confident_bfloat16_softmax_is_accepted() -> None:
    # .998046875 + .0001 rounds to rows that miss 1 by more than 1e-3 in bfloat16.
    p = torch.tensor([[0.9961, 0.0020]], dtype=torch.bfloat16)
    assert abs(float(p.float().sum()) - 1) > 1e-3
    assert scores.confidence(p, torch.tensor([0])).shape == (1,)
    with pytest.raises(ValueError, match=r"within 0\.001"):
        scores.confidence(p.float(), torch.tensor([0]))


def test_output_scores_take_arrays_and_any_integer_labels() -> None:
    p = np.array([[0.75, 0.25]])
    expected = torch.tensor([0.75], dtype=torch.float64)
    assert torch.equal(scores.confidence(p, np.array([1], dtype=np.uint8)), expected)


@pytest.mark.parametrize("name", OUTPUT_SCORES)
def test_no_rows_give_no_scores(name: str) -> None:
    result = OUTPUT_SCORES[name](torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert result.shape == (0,)


P = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
Y = torch.tensor([0, 1])
GOOD_VOTES = torch.tensor([[3, 1], [2, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: scores.loss(torch.zeros(3), LABELS),
            "logits must be of shape (n, C) with C at least 1. Got a tensor of shape (3,)",
        ),
        (
            lambda: scores.loss(torch.zeros(2, 0), Y),
            "logits must be of shape (n, C) with C at least 1. Got a tensor of shape (2, 0)",
        ),
        (
            lambda: scores.loss(torch.tensor([[0.0, math.nan], [0.0, 0.0]]), Y),
            "logits must be finite. Got 1 non-finite value at index [0].",
        ),
        (
            lambda: scores.loss(torch.zeros(2, 2, dtype=torch.complex64), Y),
            "logits must be real numbers.",
        ),
        (
            lambda: scores.loss(P, torch.tensor([0])),
            "targets must be of shape (2,). Got a tensor of shape (1,) and dtype int64.",
        ),
        (
            lambda: scores.loss(P, torch.tensor([0.0, 1.0])),
            "targets must be whole class numbers. Got a tensor of shape (2,) and dtype float32.",
        ),
        (
            lambda: scores.loss(P, torch.tensor([True, False])),
            "targets must be whole class numbers.",
        ),
        (
            lambda: scores.loss(P, torch.tensor([0, 2])),
            "targets must be class numbers in [0, 2). Got 2 at index [1].",
        ),
        (
            lambda: scores.loss(P, torch.tensor([-100, 1])),
            "Got -100 at index [0]. Ignored or missing labels? Drop their rows.",
        ),
        (
            lambda: scores.confidence(torch.tensor([[2.0, 1.0], [0.5, 0.5]]), Y),
            "probabilities must be rows that sum to 1 within 0.001. Got a sum of 3 at index [0]. "
            "Are these logits? Take softmax first.",
        ),
        (
            lambda: scores.confidence(torch.tensor([[0.5, 0.502], [0.5, 0.5]]), Y),
            "Got a sum of 1.002 at index [0].",
        ),
        (
            lambda: scores.confidence(torch.tensor([[0.5, 0.5], [1.5, -0.5]]), Y),
            "probabilities must be at least 0 everywhere. Got -0.5 at index [1].",
        ),
        (
            lambda: scores.margin(torch.ones(2, 1), Y),
            "probabilities must be of shape (n, C) with C at least 2. Got a tensor of shape "
            "(2, 1) and dtype float32. One value for two classes? Give a column for each.",
        ),
        (lambda: scores.margin(torch.ones(2, 1), Y, logits=True), "logits must be of shape (n, C)"),
        (lambda: scores.margin(torch.tensor([[2.0, 1.0]]), Y[:1]), "Take softmax first."),
        (lambda: scores.entropy(torch.ones(2, 1)), "with C at least 2"),
        (lambda: scores.entropy(torch.tensor([[2.0, 1.0]])), "rows that sum to 1"),
        (
            lambda: scores.human([1.0, math.inf]),
            "values must be finite. Got 1 non-finite value at index [1].",
        ),
        (lambda: scores.human([1.0], 2), "values must be one value per sample: 2 of them. Got 1."),
        (lambda: scores.human([]), "values must be one value per sample, at least one. Got none."),
        (
            lambda: scores.annotator_agreement(torch.tensor([[3, 1], [0, 0]])),
            "votes must be at least one vote per sample. Got none at index [1]. Nobody",
        ),
        (
            lambda: scores.annotator_agreement(torch.tensor([[3, -1], [1, 0]])),
            "votes must be at least 0 everywhere. Got -1.0.",
        ),
        (
            lambda: scores.annotator_agreement(torch.tensor([[3], [1]])),
            "votes must be of shape (n, C) with C at least 2.",
        ),
        (
            lambda: scores.annotator_agreement(GOOD_VOTES, torch.tensor([0, 2])),
            "targets must be class numbers in [0, 2). Got 2 at index [1].",
        ),
        (
            lambda: scores.annotator_agreement(GOOD_VOTES, Y, kind="entropy"),
            "targets must be None with kind='entropy'. Got Tensor. The entropy knows no label",
        ),
        (
            lambda: scores.annotator_agreement(GOOD_VOTES, kind="entropie"),
            "kind must be one of 'agreement', 'entropy'. Got 'entropie'. Did you mean 'entropy'?",
        ),
        (lambda: scores.rank(torch.zeros(0)), "scores must be one value per sample, at least one."),
        (lambda: scores.cdf(torch.zeros(0)), "scores must be one value per sample, at least one."),
        (lambda: scores.cdf(torch.tensor([1.0, math.nan])), "scores must be finite."),
        (lambda: scores.rank(torch.zeros(2, 2)), "scores must be one-dimensional"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: scores.loss("abc", Y),
        lambda: scores.loss(P, "ab"),
        lambda: scores.human("abc"),
        lambda: scores.human([1.0], size="1"),
        lambda: scores.rank(torch.zeros(3), generator=0),
        lambda: scores.from_model(nn.Identity(), a_data_set(), score="loss"),
        lambda: scores.from_model(nn.Identity(), a_data_set(), forward="logits"),
    ],
)
def test_what_is_of_another_kind_is_a_type_error(call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="must be"):
        call()


# --- From people ------------------------------------------------------------------------------


def test_annotator_agreement_by_hand() -> None:
    votes = torch.tensor([[3, 1, 1]])
    assert close(scores.annotator_agreement(votes), [0.4])
    assert close(scores.annotator_agreement(votes.roll(1, 1)), [0.4])  # the majority, not the first
    assert close(scores.annotator_agreement(votes, torch.tensor([0])), [0.4])
    assert close(scores.annotator_agreement(votes, torch.tensor([2])), [0.8])
    assert close(scores.annotator_agreement(votes, kind="entropy"), [0.864974])


def test_votes_of_small_integer_dtypes_do_not_overflow() -> None:
    votes = torch.tensor([[200, 200]], dtype=torch.uint8)
    assert close(scores.annotator_agreement(votes), [0.5])


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=5))
def test_vote_entropy_is_the_entropy_of_the_shares(rows: list[tuple[int, ...]]) -> None:
    votes = torch.tensor(rows) + torch.tensor([1, 0, 0])
    expected = [scipy.stats.entropy(row) / math.log(3) for row in votes.double().numpy()]
    assert close(scores.annotator_agreement(votes, kind="entropy"), expected, 1e-12)


def test_human_scores_are_a_checked_copy() -> None:
    mine = torch.tensor([3.0, 1.0])
    result = scores.human(mine, size=2)
    assert result.dtype == torch.float32
    result[0] = 7
    assert mine.tolist() == [3, 1]
    assert scores.human([3, 1]).tolist() == [3, 1]


# --- On one scale -----------------------------------------------------------------------------


def test_platanios2019_cdf_by_hand() -> None:
    assert close(scores.cdf(torch.tensor([3.0, 1.0, 1.0, 5.0])), [0.75, 0.5, 0.5, 1.0], 0)


def test_rank_by_hand() -> None:
    assert close(scores.rank(torch.tensor([3.0, 1.0, 1.0, 5.0])), [0.75, 0.375, 0.375, 1.0], 0)


# Few distinct values, so that ties are common.
DIFFICULTIES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(DIFFICULTIES)
def test_cdf_and_rank_equal_slow_loops(values: list[int]) -> None:
    n = len(values)
    difficulties = torch.tensor(values, dtype=torch.float32)
    expected = [sum(other <= mine for other in values) / n for mine in values]
    assert scores.cdf(difficulties).tolist() == expected
    assert close(scores.rank(difficulties), scipy.stats.rankdata(values) / n, 1e-15)


@given(DIFFICULTIES, st.integers(0, 99))
def test_drawn_ranks_are_a_permutation_that_keeps_the_order(values: list[int], seed: int) -> None:
    difficulties = torch.tensor(values, dtype=torch.float64)
    n = len(values)
    ranks = scores.rank(difficulties, generator=torch.Generator().manual_seed(seed))
    assert sorted(ranks.tolist()) == [i / n for i in range(1, n + 1)]
    assert (difficulties[ranks.argsort()].diff() >= 0).all()


@given(DIFFICULTIES, st.randoms(use_true_random=False))
def test_shared_ranks_do_not_depend_on_the_order_of_the_data(
    values: list[int], shuffler: random.Random
) -> None:
    difficulties = torch.tensor(values)
    order = list(range(len(values)))
    shuffler.shuffle(order)
    assert torch.equal(scores.rank(difficulties[order]), scores.rank(difficulties)[order])
    assert torch.equal(scores.cdf(difficulties[order]), scores.cdf(difficulties)[order])


def test_d28b_tied_scores_do_not_open_the_data_class_by_class() -> None:
    """Ten classes stored one after the other, all scores tied: the easiest fifth holds them all.

    A right draw misses some class with probability below 10 * 0.8^200 < 1e-18; ranking by position
    would hold two classes.
    """
    labels = torch.arange(10).repeat_interleave(100)
    ranks = scores.rank(torch.zeros(1000), generator=torch.Generator().manual_seed(1))
    easiest = labels[ranks <= 0.2]
    assert len(easiest) == 200
    assert len(easiest.unique()) == 10
    assert scores.rank(torch.zeros(1000)).unique().tolist() == [0.5005]


def test_drawn_ranks_follow_the_seed_and_no_global_state() -> None:
    def drawn(seed: int) -> list[float]:
        return scores.rank(torch.zeros(50), generator=torch.Generator().manual_seed(seed)).tolist()

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_of_float32_scores_stay_distinct_beyond_float32() -> None:
    # 1/n steps of a data set of 2^25 samples cannot be told apart in float32 near 1.
    assert scores.rank(torch.zeros(2, dtype=torch.float32)).dtype == torch.float64
    assert scores.cdf(torch.zeros(2, dtype=torch.float32)).dtype == torch.float64


# --- Over a whole data set (D10) --------------------------------------------------------------


class Counting(nn.Module):
    """Counts its calls in a buffer, in evaluation too, once in place and once by a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("rows", torch.zeros(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.rows = self.rows + len(x)
        return x


class Frozen(nn.BatchNorm1d):
    """Refuses training mode, as fine-tuning recipes freeze BatchNorm; its flag is set by hand."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


class Augmented(Dataset):
    """Draws from every global generator for each sample."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.data[index]
        noise = torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002
        return x + 1e-3 * noise, y


def a_model() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), Counting(), nn.Dropout(0.5), nn.Linear(8, 3)
    )
    model[1].running_mean.uniform_(-1, 1)
    model.train()
    model[3].eval()  # a mixed state: neither all in training nor all in evaluation
    return model


def a_data_set(size: int = 21) -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(size, 4, generator=generator)
    return TensorDataset(x, torch.randint(3, (size,), generator=generator))


def snapshot(model: nn.Module) -> list[object]:
    tensors = [*model.parameters(), *model.buffers()]
    rng = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
    return [
        [t.detach().clone().tolist() for t in tensors],
        [id(t) for t in tensors],
        [p.grad for p in model.parameters()],
        [m.training for m in model.modules()],
        rng[0],
        [part.tolist() if isinstance(part, np.ndarray) else part for part in rng[1]],
        rng[2].tolist(),
    ]


@pytest.mark.parametrize("batch_size", [1, 8, 256])
def test_d10_scoring_leaves_model_and_generators_to_the_bit(batch_size: int) -> None:
    model, data = a_model(), a_data_set()
    before = snapshot(model)
    result = scores.from_model(model, Augmented(data), batch_size=batch_size)
    assert snapshot(model) == before
    assert result.shape == (21,)
    assert not result.requires_grad


@pytest.mark.parametrize("batch_size", [1, 8, 256])
def test_from_model_scores_in_evaluation_mode_and_data_order(batch_size: int) -> None:
    model, data = a_model(), a_data_set()
    result = scores.from_model(model, data, batch_size=batch_size)
    model.eval()
    x, y = data.tensors
    expected = torch.nn.functional.cross_entropy(model(x), y, reduction="none").detach()
    torch.testing.assert_close(result, expected)
    model.train()
    in_training = torch.nn.functional.cross_entropy(model(x), y, reduction="none").detach()
    assert not torch.allclose(result, in_training)


def test_from_model_takes_another_score_and_forward() -> None:
    data = [
        {"x": torch.tensor([2.0, 0.0]), "label": 0},
        {"x": torch.tensor([0.0, 0.0]), "label": 1},
    ]
    result = scores.from_model(
        nn.Identity(),
        data,
        forward=lambda batch: (batch["x"].softmax(1), batch["label"]),
        score=scores.confidence,
        batch_size=1,
    )
    assert close(result, [1 - 1 / (1 + math.exp(-2)), 0.5])


def test_from_model_passes_arguments_to_the_loader() -> None:
    seen = []

    def collate(samples: list) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(samples))
        return torch.stack([x for x, _ in samples]), torch.stack([y for _, y in samples])

    scores.from_model(nn.Linear(4, 3), a_data_set(5), batch_size=2, collate_fn=collate)
    assert seen == [2, 2, 1]


def test_scoring_that_fails_also_leaves_the_model_as_it_was() -> None:
    model = a_model()
    before = snapshot(model)

    def fail(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        scores.from_model(model, a_data_set(), score=fail)
    assert snapshot(model) == before


def test_modules_that_refuse_training_mode_keep_their_flag() -> None:
    model = nn.Sequential(Frozen(2), nn.Dropout())
    model[0].training = True
    with undisturbed(model):
        assert [m.training for m in model.modules()] == [False] * 3
    assert [m.training for m in model.modules()] == [True] * 3


def test_nothing_is_recorded_for_a_gradient() -> None:
    model = nn.Linear(4, 3)
    recorded = []

    def watched(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        recorded.append(logits.requires_grad)
        return scores.loss(logits, targets)

    scores.from_model(model, a_data_set(5), score=watched, batch_size=4)
    assert recorded == [False, False]


def test_undisturbed_restores_expanded_buffers_it_could_not_write_to() -> None:
    model = nn.Module()
    model.register_buffer("shared", torch.zeros(1).expand(3))
    with undisturbed(model):
        pass
    assert model.shared.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: scores.from_model(abs, [1]),
            TypeError,
            "model must be a torch.nn.Module. Got bui",
        ),
        (
            lambda: scores.from_model(nn.Identity(), iter([1])),
            TypeError,
            "dataset must be a data set with a length and items. Got list_iterator.",
        ),
        (lambda: scores.from_model(nn.Identity(), []), ValueError, "dataset must be not empty."),
        (
            lambda: scores.from_model(nn.Identity(), a_data_set(), batch_size=0),
            ValueError,
            "batch_size must be a whole number, at least 1. Got 0.",
        ),
        (
            lambda: scores.from_model(nn.Identity(), a_data_set(), shuffle=True),
            ValueError,
            "shuffle must be left out. Got True. Scores follow the data set's order",
        ),
        (
            lambda: scores.from_model(nn.Identity(), a_data_set(), drop_last=True),
            ValueError,
            "drop_last must be left out.",
        ),
        (
            lambda: scores.from_model(nn.Identity(), torch.zeros(4, 2)),
            ValueError,
            "dataset must be one of (input, target) pairs. Got batches of type Tensor. Say by",
        ),
        (
            lambda: scores.from_model(
                nn.Identity(), a_data_set(), score=lambda z, y: scores.loss(z, y).mean()
            ),
            ValueError,
            "score(outputs, targets) must be one-dimensional, one value per sample.",
        ),
        (
            lambda: scores.from_model(
                nn.Identity(), a_data_set(), score=lambda z, y: scores.loss(z, y)[1:]
            ),
            ValueError,
            "score(outputs, targets) must be one per sample: 21. Got 20.",
        ),
        (
            lambda: scores.from_model(
                nn.Identity(), a_data_set(), batch_size=2, score=lambda z, y: y / (y - 1)
            ),
            ValueError,
            "score(outputs, targets) must be finite.",
        ),
    ],
)
def test_from_model_refuses_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_non_finite_scores_are_named_by_data_set_position() -> None:
    data = TensorDataset(torch.zeros(5, 2), torch.tensor([0, 0, 0, 1, 0]))
    with pytest.raises(ValueError, match=r"at index \[3\]"):
        scores.from_model(nn.Identity(), data, batch_size=2, score=lambda z, y: 1 / (1.0 - y))
