"""Data parameters: Saxena et al. 2019; methods 15."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

import gradatim as gr
from gradatim.methods import data_parameters

CLASSES = 3


def problem(size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    return features, torch.randint(CLASSES, (size,), generator=generator)


def loop(method: Any, features: torch.Tensor, targets: torch.Tensor, **options: Any) -> Any:
    """A curriculum of one or several methods, with its loader of (features, targets, index)."""
    size = options.pop("batch_size", 5)
    methods = method if isinstance(method, list) else [method]
    curriculum = gr.Curriculum(*methods, seed=1, nonfinite=options.pop("nonfinite", "raise"))
    data = TensorDataset(features, targets, torch.arange(len(targets)))
    return curriculum, curriculum.loader(data, batch_size=size, **options)


def one_step(
    logits: torch.Tensor, targets: torch.Tensor, method: gr.DataParameters, **options: Any
) -> tuple[gr.Curriculum, torch.Tensor, torch.Tensor]:
    """The losses of one batch of everything, and the gradient of their mean."""
    curriculum, loader = loop(method, logits, targets, batch_size=len(targets), **options)
    for z, y, _ in loader:
        z = z.clone().requires_grad_()
        losses = curriculum.criterion(z, y)
        curriculum(losses, logits=z, targets=y).backward()
        return curriculum, losses.detach(), z.grad
    raise AssertionError("no batch")


def train(method: gr.Method, epochs: int = 3, **options: Any) -> Any:
    """Train a linear model; the curriculum, batches, losses and the model's weights."""
    features, targets = problem()
    curriculum, loader = loop(method, features, targets, **options)
    weight = torch.zeros(4, CLASSES, dtype=torch.float64, requires_grad=True)
    batches, losses = [], []
    for _ in range(epochs):
        for x, y, index in loader:
            logits = x @ weight
            loss = curriculum(curriculum.criterion(logits, y), logits=logits, targets=y)
            (gradient,) = torch.autograd.grad(loss, weight)
            weight = (weight - 0.5 * gradient).detach().requires_grad_()
            batches.append(index)
            losses.append(loss.item())
    return curriculum, batches, losses, weight.detach()


class Dense:
    """The slow way: all parameters in autograd, one gradient step after each batch.

    The slope of each sample's own loss, as the sum over the batch gives it to its rows.
    """

    def __init__(self, level: str, size: int, **settings: float) -> None:
        self.s = torch.zeros(size, dtype=torch.float64, requires_grad=True)
        self.c = torch.zeros(CLASSES, dtype=torch.float64, requires_grad=True)
        self.level, self.settings = level, settings

    def losses(self, logits: torch.Tensor, y: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        parts = {"instance": [self.s.exp()[index]], "class": [self.c.exp()[y]]}
        parts["both"] = [*parts["instance"], *parts["class"]]
        sigma = torch.stack(parts[self.level]).sum(0)
        return F.cross_entropy(logits / sigma[:, None], y, reduction="none")

    def step(self, losses: torch.Tensor, index: torch.Tensor) -> None:
        given, bound = self.settings, math.log(self.settings.get("limit", 20.0))
        rows = [self.s, self.c]
        own, shared = torch.autograd.grad(losses.sum(), rows, retain_graph=True, allow_unused=True)
        with torch.no_grad():
            if own is not None:
                slope = own[index] + given.get("decay", 0.0) * self.s[index]
                new = self.s[index] - given.get("instance_rate", 0.1) * slope
                self.s[index] = new.clamp(-bound, bound)
            if shared is not None:
                slope = shared / len(index) + given.get("class_decay", 0.0) * self.c
                self.c -= given.get("class_rate", 0.1) * slope
                self.c.clamp_(-bound, bound)


# --- By hand ----------------------------------------------------------------------------------


def test_saxena2019_loss_and_slope_by_hand() -> None:
    """z = (2, 0): losses .126928 and 2.126928, slopes 2 (1 - p_0) = .238406 and -2 p_0."""
    logits = torch.tensor([[2.0, 0.0]] * 2, dtype=torch.float64)
    method = gr.DataParameters(instance_rate=1.0)
    curriculum, losses, _ = one_step(logits, torch.tensor([0, 1]), method)
    assert losses.tolist() == pytest.approx([0.126928, 2.126928], abs=5e-7)
    assert method.log_sigma.values.tolist() == pytest.approx([-0.238406, 1.761594], abs=5e-7)
    scores = curriculum.scores()["DataParameters.log_sigma"]
    assert scores[0] < 0 < scores[1], "right asks for a smaller sigma, wrong for a larger one"


def test_saxena2019_logits_are_divided_by_exp_s() -> None:
    """s = log 2 halves (2, 0): loss log(1 + e^-1) = .313262, and its gradient is halved too."""
    logits = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    method = gr.DataParameters(instance_rate=0.0)
    curriculum, loader = loop(method, logits, torch.tensor([0]))
    method.log_sigma.write(torch.tensor([0]), torch.tensor([math.log(2)]))
    for z, y, _ in loader:
        z = z.clone().requires_grad_()
        losses = curriculum.criterion(z, y)
        curriculum(losses, logits=z, targets=y).backward()
    assert losses.tolist() == pytest.approx([0.313262], abs=5e-7)
    wrong = 1 - 1 / (1 + math.exp(-1))
    assert z.grad.flatten().tolist() == pytest.approx([-wrong / 2, wrong / 2], abs=5e-7)


def test_both_levels_sum_their_temperatures() -> None:
    """s = c = 0: sigma 2. Each slope is half of the .231059 that log sigma has: u = (1, 0)."""
    logits = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    method = gr.DataParameters("both", instance_rate=1.0, class_rate=1.0)
    _, losses, _ = one_step(logits, torch.tensor([0]), method)
    slope = 1 - 1 / (1 + math.exp(-1))
    assert losses.tolist() == pytest.approx([0.313262], abs=5e-7)
    assert method.log_sigma.values.tolist() == pytest.approx([-slope / 2])
    assert method.class_log_sigma.tolist() == pytest.approx([-slope / 2, 0.0])


def test_classes_move_by_the_mean_over_the_batch() -> None:
    """Two of class 0 and one of class 1, z = (2, 0) each: (2 (.238406), -1.761594) / 3."""
    logits = torch.tensor([[2.0, 0.0]] * 3, dtype=torch.float64)
    method = gr.DataParameters("class", class_rate=1.0)
    one_step(logits, torch.tensor([0, 1, 0]), method)
    assert method.class_log_sigma is not None
    assert method.class_log_sigma.tolist() == pytest.approx([-0.158937, 0.587198], abs=5e-7)
    assert method.tables() == {}


# --- Against a dense optimizer ----------------------------------------------------------------


@pytest.mark.parametrize("level", ["instance", "class", "both"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"decay": 0.3, "class_decay": 0.2, "instance_rate": 0.7, "class_rate": 0.4},
        {"limit": 1.1, "instance_rate": 0.5},
    ],
)
def test_equals_autograd_over_dense_parameters(level: Any, settings: dict[str, float]) -> None:
    method = gr.DataParameters(level, **settings)
    curriculum, batches, losses, weight = train(method, epochs=4)
    features, targets = problem()
    dense = Dense(level, len(targets), **settings)
    w = torch.zeros(4, CLASSES, dtype=torch.float64, requires_grad=True)
    for step, index in enumerate(batches):
        rows = dense.losses(features[index] @ w, targets[index], index)
        assert losses[step] == pytest.approx(rows.mean().item(), rel=1e-5)
        (gradient,) = torch.autograd.grad(rows.mean(), w, retain_graph=True)
        dense.step(rows, index)
        w = (w - 0.5 * gradient).detach().requires_grad_()
    torch.testing.assert_close(weight, w.detach(), rtol=1e-4, atol=1e-6)
    if level != "class":
        found = curriculum.scores()["DataParameters.log_sigma"]
        torch.testing.assert_close(found, dense.s.detach().float(), rtol=1e-4, atol=1e-6)
        assert found.abs().max() > 0.01
    if level != "instance":
        expected = dense.c.detach().float()
        torch.testing.assert_close(method.class_log_sigma, expected, rtol=1e-4, atol=1e-6)
    if "limit" in settings and level != "class":
        assert found.abs().max().item() == pytest.approx(math.log(1.1))


@pytest.mark.parametrize("waiting_bytes", [0, 200, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_that_come_again_in_an_epoch_are_met_where_they_moved_to(
    dtype: torch.dtype, waiting_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch of twice the data, then epochs of the data: whoever comes again has been moved."""
    monkeypatch.setattr(data_parameters, "WAITING_BYTES", waiting_bytes)
    features, targets = problem()
    dense = Dense("instance", len(targets), instance_rate=0.7)
    settings = {"batch_size": 6, "steps_per_epoch": 8}
    for options, epochs in ((settings, 2), ({"batch_size": 6}, 3)):
        method = gr.DataParameters(instance_rate=0.7)
        curriculum, loader = loop(method, features[:, :CLASSES].to(dtype), targets, **options)
        dense.s = torch.zeros(len(targets), dtype=torch.float64, requires_grad=True)
        for _ in range(epochs):
            for z, y, index in loader:
                z = z.clone().requires_grad_()
                losses = curriculum.criterion(z, y)
                rows = dense.losses(z.detach().double(), y, index)
                torch.testing.assert_close(losses.double(), rows, rtol=1e-5, atol=1e-6)
                curriculum(losses, logits=z, targets=y)
                dense.step(rows, index)
        found = curriculum.scores()["DataParameters.log_sigma"].double()
        torch.testing.assert_close(found, dense.s.detach(), rtol=1e-5, atol=1e-6)
        assert found.abs().min() > 0


def test_samples_named_by_index_are_met_where_they_moved_to() -> None:
    """Calls of the loader's batches and by index= of any samples, in turns."""
    features, targets = problem(12)
    z = features[:, :CLASSES].float()
    method = gr.DataParameters(instance_rate=1.0)
    curriculum, loader = loop(method, z, targets, batch_size=4)
    dense = Dense("instance", 12, instance_rate=1.0)

    def learn(index: torch.Tensor, given: dict[str, torch.Tensor]) -> None:
        logits, y = z[index].requires_grad_(), targets[index]
        losses = curriculum.criterion(logits, y, **given)
        rows = dense.losses(logits.detach().double(), y, index)
        torch.testing.assert_close(losses.double(), rows, rtol=1e-5, atol=1e-6)
        curriculum(losses, logits=logits, targets=y, **given)
        dense.step(rows, index)

    for _, _, index in loader:
        learn(index, {})
        for again in (index[:2], torch.arange(3)):
            learn(again, {"index": again})
    found = curriculum.scores()["DataParameters.log_sigma"].double()
    torch.testing.assert_close(found, dense.s.detach(), rtol=1e-5, atol=1e-6)


class First(gr.Method):
    """Selects its first candidate, as often as is asked for."""

    def select(self, batch: gr.Batch, k: int, run: gr.Run) -> torch.Tensor:
        return torch.zeros(k, dtype=torch.int64)


def test_a_sample_that_select_draws_twice_moves_once_by_the_mean_of_its_slopes() -> None:
    """As with dropout its rows differ: z = (2, 0) and (4, 0) of class 0."""
    levels: tuple[Any, ...] = ("instance", "both")
    for level in levels:
        method = gr.DataParameters(level, instance_rate=1.0, class_rate=0.0)
        curriculum, loader = loop([First(), method], torch.zeros(4, 2), torch.zeros(4).long())
        next(iter(loader))
        sample = int(curriculum.index[0])
        y = torch.zeros(4, dtype=torch.int64)
        zeros = torch.zeros(4, 2)
        curriculum.select(curriculum.criterion(zeros, y), 2, logits=zeros, targets=y)
        z = torch.tensor([[2.0, 0.0], [4.0, 0.0]]).requires_grad_()
        curriculum(curriculum.criterion(z, y[:2]), logits=z, targets=y[:2])
        sigma = 1.0 if level == "instance" else 2.0
        slopes = [u / sigma * (1 - 1 / (1 + math.exp(-u / sigma))) / sigma for u in (2.0, 4.0)]
        expected = [0.0] * 4
        expected[sample] = -sum(slopes) / 2
        assert method.log_sigma.values.tolist() == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("looked", [False, True])
def test_a_closure_meets_its_samples_where_they_moved_to_whoever_looks(looked: bool) -> None:
    """z = (2, 0): sigma 1 at first; labels 0 and 1 then have s of -.238406 and 1.761594."""
    z, y = torch.tensor([[2.0, 0.0]] * 2).requires_grad_(), torch.tensor([0, 1])
    method, zeros = gr.DataParameters(instance_rate=1.0), torch.zeros(6, 2)
    curriculum, loader = loop(method, zeros, zeros[:, 0].long(), batch_size=2)
    next(iter(loader))  # the epoch goes on
    index, found = curriculum.index, []
    for _ in range(2):
        losses = curriculum.criterion(z, y, index=index)
        curriculum(losses, logits=z, targets=y, index=index)
        found.append(losses.tolist())
        if looked:
            curriculum.scores()
    u = [2 * math.exp(0.238406), 2 * math.exp(-1.761594)]
    assert found[0] == pytest.approx([0.126928, 2.126928], abs=5e-6)
    again = [math.log1p(math.exp(-u[0])), math.log1p(math.exp(u[1]))]
    assert found[1] == pytest.approx(again, abs=5e-6)


@pytest.mark.parametrize("level", ["instance", "both"])
def test_losses_that_are_changed_before_the_call_do_not_change_the_slopes(level: Any) -> None:
    found = []
    for factor in (1.0, 5.0):
        method = gr.DataParameters(level, instance_rate=1.0)
        curriculum, loader = loop(method, torch.zeros(2, 2), torch.zeros(2).long(), batch_size=2)
        next(iter(loader))
        z, y = torch.tensor([[2.0, 0.0]] * 2).requires_grad_(), torch.zeros(2, dtype=torch.int64)
        losses = curriculum.criterion(z, y)
        with torch.no_grad():
            losses.mul_(factor)
        curriculum(losses, logits=z, targets=y)
        found.append(method.log_sigma.values.tolist())
    assert found[0] == found[1]
    assert max(found[0]) < 0


def test_what_is_changed_after_the_call_moves_nothing() -> None:
    method = gr.DataParameters(instance_rate=1.0)
    curriculum, loader = loop(method, torch.zeros(4, 2), torch.zeros(4).long(), batch_size=2)
    for _ in loader:
        index = curriculum.index
        z, y = torch.tensor([[2.0, 0.0]] * 2).requires_grad_(), torch.zeros(2, dtype=torch.int64)
        losses = curriculum.criterion(z, y)
        curriculum(losses, logits=z, targets=y)
        with torch.no_grad():
            for tensor in (losses, z, y, index):
                tensor.fill_(3)
    assert method.log_sigma.values.tolist() == pytest.approx([-0.238406] * 4, abs=1e-6)


def test_visits_of_another_number_of_classes_are_calculated_apart() -> None:
    method = gr.DataParameters(instance_rate=1.0)
    curriculum, loader = loop(method, torch.zeros(4, 2), torch.zeros(4).long(), batch_size=2)
    expected = torch.zeros(4)
    for classes, (_, _, index) in zip((2, 3), loader, strict=True):
        z = torch.zeros(2, classes)
        z[:, 0] = 2.0
        z.requires_grad_()
        y = torch.zeros(2, dtype=torch.int64)
        curriculum(curriculum.criterion(z, y), logits=z, targets=y)
        expected[index] = -2 * (1 - math.exp(2) / (math.exp(2) + classes - 1))
    assert method.log_sigma.values.tolist() == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.0, 20.0])
def test_the_closed_form_is_the_derivative(sigma: float) -> None:
    from gradatim.methods.data_parameters import _slope

    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(7, (50,), generator=generator)
    s = torch.full((50,), math.log(sigma), dtype=torch.float64, requires_grad=True)
    F.cross_entropy(logits / s.exp()[:, None], targets, reduction="sum").backward()
    torch.testing.assert_close(_slope(logits, targets, s.detach().exp()), s.grad)


# --- Rows -------------------------------------------------------------------------------------


def test_only_the_rows_of_the_batch_move_decay_included() -> None:
    features, targets = problem(10)
    method = gr.DataParameters(decay=0.5)
    curriculum, loader = loop(method, features[:, :CLASSES], targets, batch_size=4)
    method.log_sigma.write(torch.arange(10), torch.full((10,), 0.3))
    for z, y, index in loader:
        curriculum(curriculum.criterion(z, y), logits=z, targets=y)
        moved = (method.log_sigma.values != torch.tensor(0.3)).nonzero().squeeze(1)
        assert moved.tolist() == sorted(index.tolist())
        break


def test_a_sample_twice_in_a_batch_moves_once_by_the_mean_of_its_slopes() -> None:
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    method = gr.DataParameters(instance_rate=1.0)
    curriculum, loader = loop(method, torch.zeros(5, 2), torch.zeros(5).long())
    index, targets = torch.tensor([3, 1, 3]), torch.tensor([0, 1, 0])
    losses = curriculum.criterion(logits, targets, index=index)
    curriculum(losses, logits=logits, targets=targets, index=index)
    slopes = [z * (1 - 1 / (1 + math.exp(-z))) for z in (2.0, 4.0)]
    expected = [0.0, 1.761594, 0.0, -sum(slopes) / 2, 0.0]
    assert method.log_sigma.values.tolist() == pytest.approx(expected, abs=5e-7)
    assert len(loader) == 1


def test_a_closure_learns_once_per_batch() -> None:
    features, targets = problem(6)
    method = gr.DataParameters(instance_rate=1.0)
    curriculum, loader = loop(method, features[:, :CLASSES], targets, batch_size=6)
    for z, y, index in loader:
        for _ in range(3):
            losses = curriculum.criterion(z, y, index=index)
            curriculum(losses, logits=z, targets=y, index=index)
        once = method.log_sigma.values.clone()
    twin = gr.DataParameters(instance_rate=1.0)
    one_step(features[:, :CLASSES], targets, twin)
    torch.testing.assert_close(once, twin.log_sigma.values)


def test_losses_that_are_not_finite_move_nothing() -> None:
    logits = torch.tensor([[2.0, 0.0], [math.inf, 0.0], [math.nan, 0.0], [2.0, 0.0]])
    for level in ("instance", "class"):
        method = gr.DataParameters(level, instance_rate=1.0, class_rate=1.0, decay=0.1)
        one_step(logits, torch.tensor([0, 1, 0, 1]), method, nonfinite="skip")
        if level == "instance":
            expected = [-0.238406, 0.0, 0.0, 1.761594]
            assert method.log_sigma.values.tolist() == pytest.approx(expected, abs=1e-6)
        else:
            assert method.class_log_sigma is not None
            found = method.class_log_sigma.tolist()
            assert found == pytest.approx([-0.238406 / 2, 1.761594 / 2], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_keep_their_dtype(dtype: torch.dtype) -> None:
    logits = torch.tensor([[2.0, 0.0]] * 2, dtype=dtype)
    method = gr.DataParameters(instance_rate=1.0)
    _, losses, gradient = one_step(logits, torch.tensor([0, 1]), method)
    assert losses.dtype == gradient.dtype == dtype
    assert method.log_sigma.values.tolist() == pytest.approx([-0.238406, 1.761594], abs=1e-3)


# --- Neutral ----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["instance", "class"])
def test_rates_of_zero_are_plain_cross_entropy_to_the_bit(level: Any) -> None:
    plain = train(gr.Uniform())
    neutral = train(gr.DataParameters(level, instance_rate=0.0, class_rate=0.0))
    learning = train(gr.DataParameters(level))
    assert neutral[2] == plain[2]
    assert torch.equal(neutral[3], plain[3])
    assert learning[2] != plain[2]


# --- The criterion and its samples ------------------------------------------------------------


def test_without_a_waiting_batch_the_criterion_is_the_usual_one() -> None:
    """As in evaluation, between batches."""
    features, targets = problem()
    method = gr.DataParameters(instance_rate=5.0)
    curriculum, loader = loop(method, features[:, :CLASSES], targets, batch_size=12)
    usual = F.cross_entropy(features[:7, :CLASSES], targets[:7], reduction="none")
    for z, y, index in loader:
        losses = curriculum.criterion(z, y)
        tempered = z / method.log_sigma[index].exp()[:, None]
        torch.testing.assert_close(losses, F.cross_entropy(tempered, y, reduction="none"))
        curriculum(losses, logits=z, targets=y)
        assert torch.equal(curriculum.criterion(features[:7, :CLASSES], targets[:7]), usual)


def test_losses_from_elsewhere_are_refused() -> None:
    features, targets = problem()
    for given in ({}, {"index": torch.arange(5)}):
        curriculum, loader = loop(gr.DataParameters(), features[:, :CLASSES], targets)
        for z, y, _ in loader:
            if given:
                curriculum.skip()
                curriculum.criterion(z, y)  # of samples that it cannot know
            losses = F.cross_entropy(z, y, reduction="none")
            with pytest.raises(RuntimeError, match=r"from curriculum\.criterion.*give it there"):
                curriculum(losses, logits=z, targets=y, **given)
            break


def test_a_batch_under_a_key_is_found_by_its_index() -> None:
    class Dicts(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"z": torch.tensor([2.0, 0.0]), "y": index % 2}

    method = gr.DataParameters(instance_rate=1.0)
    curriculum = gr.Curriculum(method, seed=0)
    loader = curriculum.loader(Dicts(), batch_size=4, carry="key", read_ahead=True)
    for batch in list(loader):
        index = batch["_gradatim_index"]
        losses = curriculum.criterion(batch["z"], batch["y"], index=index)
        curriculum(losses, logits=batch["z"], targets=batch["y"], index=index)
    expected = [-0.238406, 1.761594] * 3
    assert method.log_sigma.values.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_engine_passes_no_index_to_a_criterion_that_takes_none() -> None:
    class Doubled(gr.Method):
        def criterion(self, logits: torch.Tensor, targets: torch.Tensor, run: gr.Run) -> Any:
            return 2 * F.cross_entropy(logits, targets, reduction="none")

    features, targets = problem()
    curriculum, loader = loop(Doubled(), features[:, :CLASSES], targets)
    for z, y, _ in loader:
        losses = curriculum.criterion(z, y)
        assert torch.equal(losses, 2 * F.cross_entropy(z, y, reduction="none"))
        curriculum(losses)


def test_resuming_keeps_class_parameters_apart_from_the_live_ones() -> None:
    curriculum, *_ = train(gr.DataParameters("both"), epochs=1)
    state = curriculum.state_dict()
    before = copy.deepcopy(state)
    features, targets = problem()
    method = gr.DataParameters("both", class_rate=3.0)
    other, loader = loop(method, features[:, :CLASSES], targets)
    other.load_state_dict(state)
    for z, y, _ in loader:
        other(other.criterion(z, y), logits=z, targets=y)
    saved = [each["methods"][0]["state"]["class_log_sigma"] for each in (state, before)]
    assert torch.equal(*saved)
    assert not torch.equal(method.class_log_sigma, saved[0])


# --- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(4, 3, 2), torch.zeros(4).long(), r"logits must be of shape \(B, C\)"),
        (torch.zeros(4), torch.zeros(4).long(), r"logits must be of shape \(B, C\)"),
        (torch.zeros(3, 3), torch.zeros(3).long(), "logits must be one row per sample: 4"),
        (torch.zeros(4, 3), torch.full((4, 3), 1 / 3), r"class numbers of shape \(B,\).*Mixed"),
        (torch.zeros(4, 3), torch.zeros(4), "dtype int64"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 3, 0]), r"in \[0, 3\)\. Got 3"),
        (torch.zeros(4, 3), torch.tensor([0, -100, 2, 0]), r"in \[0, 3\)\. Got -100"),
    ],
)
def test_what_has_no_class_is_refused(
    logits: torch.Tensor, targets: torch.Tensor, message: str
) -> None:
    curriculum, loader = loop(gr.DataParameters(), torch.zeros(4, 3), torch.zeros(4).long())
    for _ in loader:
        with pytest.raises(ValueError, match=message):
            curriculum.criterion(logits, targets)
        break


def test_another_number_of_classes_is_refused() -> None:
    curriculum, loader = loop(gr.DataParameters("class"), torch.zeros(8, 3), torch.zeros(8).long())
    for z, y, _ in loader:
        curriculum.criterion(z, y)
        with pytest.raises(ValueError, match=r"logits must be of 3 classes, as before\. Got 4"):
            curriculum.criterion(torch.zeros(5, 4), y)
        break


def test_a_call_without_logits_is_refused() -> None:
    curriculum, loader = loop(gr.DataParameters(), torch.zeros(4, 3), torch.zeros(4).long())
    for z, y, _ in loader:
        losses = curriculum.criterion(z, y)
        with pytest.raises(ValueError, match="logits must be given"):
            curriculum(losses, targets=y)
        break


@pytest.mark.parametrize("name", ["instance_rate", "class_rate", "decay", "class_decay"])
def test_negative_rates_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be a finite number, at least 0\. Got -1"):
        gr.DataParameters(**{name: -1.0})
    with pytest.raises(ValueError, match=r"limit must be a finite number, above 1"):
        gr.DataParameters(limit=1.0)


def test_masked_classes_leave_the_slope_as_it_is_without_them() -> None:
    logits = torch.tensor([[2.0, 0.0, -math.inf]] * 2, dtype=torch.float64)
    method = gr.DataParameters(instance_rate=1.0)
    one_step(logits, torch.tensor([0, 1]), method)
    assert method.log_sigma.values.tolist() == pytest.approx([-0.238406, 1.761594], abs=5e-7)
