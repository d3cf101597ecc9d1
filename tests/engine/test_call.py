"""The call that stands where ``.mean()`` stood: what it returns, and which samples it is about."""

from __future__ import annotations

import gc
import math
import warnings
import weakref
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import gradatim as gr
from engine.probes import Average, Diary, LastLoss, Samples, Visits, Weighed, train
from gradatim.loader import IndexedDataset

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIZE = 12


def started(*methods: gr.Method, size: int = SIZE, batch: int = 4, **options: Any) -> Any:
    """A curriculum over `Samples`, its loader, and the first batch."""
    ahead = options.pop("read_ahead", False)
    curriculum = gr.Curriculum(*methods, **options)
    loader = curriculum.loader(Samples(size), batch_size=batch, read_ahead=ahead)
    stream = iter(loader)
    return curriculum, stream, next(stream)


# --- The reduction ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("methods", [(), (gr.Uniform(),)], ids=["none", "uniform"])
def test_without_weights_it_is_the_mean_to_the_bit(methods: Any, dtype: torch.dtype) -> None:
    curriculum, _, _ = started(*methods, size=37, batch=37)
    losses = torch.rand(37, generator=torch.Generator().manual_seed(1)).to(dtype)
    ours, plain = losses.clone().requires_grad_(), losses.clone().requires_grad_()
    loss, mean = curriculum(ours), plain.mean()
    loss.backward()
    mean.backward()
    assert loss.dtype == dtype
    assert torch.equal(loss, mean)
    assert torch.equal(ours.grad, plain.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", FLOATS)
def test_skipping_nonfinite_is_the_mean_to_the_bit_where_all_are_finite(
    dtype: torch.dtype,
) -> None:
    curriculum, _, _ = started(size=37, batch=37, nonfinite="skip")
    losses = torch.rand(37, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(curriculum(losses), losses.mean())


@pytest.mark.parametrize("dtype", FLOATS)
def test_d47_any_floating_dtype_is_weighed_in_float32_or_wider(dtype: torch.dtype) -> None:
    weights = torch.arange(4, dtype=torch.float64) + 0.5
    curriculum, _, _ = started(Weighed(weights), size=4, batch=4)
    index = curriculum.index
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=dtype, requires_grad=True)
    loss = curriculum(losses)
    values = losses.detach().tolist()
    by_hand = sum((k + 0.5) * v for k, v in zip(index.tolist(), values, strict=True)) / 4
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == by_hand
    loss.backward()
    assert losses.grad is not None
    assert losses.grad.dtype == dtype
    assert losses.grad.tolist() == [(k + 0.5) / 4 for k in index.tolist()]


def test_d47_sums_that_overflow_half_precision_are_reduced_wide() -> None:
    curriculum, _, _ = started(Weighed(torch.ones(4)), size=4, batch=4)
    losses = torch.full((4,), 40000.0, dtype=torch.float16)  # their sum exceeds 65504
    assert float(curriculum(losses)) == 40000.0


def test_d47_finite_half_losses_whose_sum_overflows_are_not_refused() -> None:
    curriculum, _, _ = started(size=4, batch=4)
    losses = torch.full((4,), 40000.0, dtype=torch.float16)
    assert torch.equal(curriculum(losses), losses.mean())


def test_weights_of_several_methods_and_of_the_plan_multiply() -> None:
    class Half(gr.Method):
        def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
            return pool.weigh(torch.full((pool.index.numel(),), 0.5))

    first, second = Weighed([1.0, 2.0, 3.0]), Weighed([5.0, 7.0, 11.0])
    curriculum, _, batch = started(first, Half(), second, size=3, batch=3)
    losses = batch + 1
    by_hand = sum([0.5 * 1 * 5 * 1, 0.5 * 2 * 7 * 2, 0.5 * 3 * 11 * 3]) / 3
    assert float(curriculum(losses)) == pytest.approx(by_hand, rel=1e-6)


def test_a_method_that_gives_no_weights_weighs_one() -> None:
    class Silent(gr.Method):
        def weigh(self, batch: gr.Batch, run: gr.Run) -> None:
            return None

    curriculum, _, _ = started(Silent(), size=7, batch=7)
    losses = torch.rand(7)
    assert torch.equal(curriculum(losses), losses.mean())


@given(st.lists(st.floats(0, 8, width=32), min_size=4, max_size=4), st.booleans())
def test_weigh_is_the_call_without_the_reduction(values: list[float], mean: bool) -> None:
    losses = torch.tensor([0.5, 1.0, 2.0, 4.0])
    reduction = "weighted_mean" if mean else "mean"
    called, _, _ = started(Weighed(values, reduction), size=4, batch=4)
    weighed, _, _ = started(Weighed(values, reduction), size=4, batch=4)
    weights, scale = weighed.weigh(losses)
    assert weights.shape == (4,)
    assert weights.dtype == torch.float32
    assert torch.equal((weights * losses).sum() * scale, called(losses))
    assert weighed.step == called.step == 1


def test_weigh_without_weighing_methods_gives_ones() -> None:
    curriculum, _, _ = started(gr.Uniform(), size=5, batch=5)
    weights, scale = curriculum.weigh(torch.rand(5, dtype=torch.float16))
    assert weights.tolist() == [1.0] * 5
    assert weights.dtype == torch.float32
    assert scale == 1 / 5


def test_weighted_mean_divides_by_the_weights() -> None:
    curriculum, _, batch = started(Weighed([3.0, 1.0, 0.0], "weighted_mean"), size=3, batch=3)
    # losses are 0, 1, 2 by sample: (3 * 0 + 1 * 1 + 0 * 2) / (3 + 1 + 0)
    assert float(curriculum(batch)) == 0.25


def test_under_the_weighted_mean_weight_zero_equals_removed() -> None:
    weights = torch.tensor([2.0, 0.0, 1.0, 0.0, 3.0])
    full, _, batch = started(Weighed(weights, "weighted_mean"), size=5, batch=5)
    kept = weights[weights > 0]
    part, _, fewer = started(Weighed(kept, "weighted_mean"), size=3, batch=3)
    values = torch.tensor([0.1, 9.0, 0.4, 8.0, 0.7])
    left = values[weights > 0]
    torch.testing.assert_close(full(values[batch.long()]), part(left[fewer.long()]))


def test_all_weights_zero_is_a_loss_of_zero_not_nan() -> None:
    for reduction in ("mean", "weighted_mean"):
        curriculum, _, batch = started(Weighed(torch.zeros(4), reduction), size=4, batch=4)
        losses = batch.clone().requires_grad_()
        loss = curriculum(losses)
        loss.backward()
        assert loss.item() == 0.0
        assert losses.grad is not None
        assert losses.grad.tolist() == [0.0] * 4


def test_one_sample_and_a_last_batch_of_one_are_plain_means() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(Samples(5), batch_size=4)
    lengths = [len(batch) for batch in loader if bool(curriculum(batch) == batch.mean())]
    assert lengths == [4, 1]
    assert curriculum.epoch == 1


# --- Losses are the user's --------------------------------------------------------------------


@pytest.mark.parametrize("method", [Weighed(torch.full((6,), 0.5)), gr.SuperLoss(), gr.Focal()])
def test_d46_losses_are_never_changed_in_place(method: gr.Method) -> None:
    curriculum, _, _ = started(method, LastLoss(), size=6, batch=6)
    losses = torch.linspace(0.1, 2, 6)
    before, version = losses.clone(), losses._version
    curriculum(losses)
    assert torch.equal(losses, before)
    assert losses._version == version


def test_d46_losses_that_save_their_output_have_the_right_gradient() -> None:
    """exp keeps its output for the backward pass: a product in place would break it."""
    weights = torch.tensor([0.5, 2.0, 1.0, 4.0])
    curriculum, _, batch = started(Weighed(weights), size=4, batch=4)
    rate = torch.linspace(-1, 1, 4).requires_grad_()
    losses = rate.exp()
    curriculum(losses).backward()
    torch.testing.assert_close(rate.grad, rate.detach().exp() * weights[batch.long()] / 4)


@pytest.mark.parametrize("how", ["call", "weigh", "weighed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_graph_outlives_the_call(how: str, dtype: torch.dtype) -> None:
    method = gr.Focal() if how == "weighed" else gr.Uniform()
    # The curriculum must be held; so must the stream of its batches.
    curriculum, stream, batch = started(method)
    for _ in range(2):  # the first call finds the place of the tables
        leaf = torch.ones(len(batch), dtype=dtype, requires_grad=True)
        graph = weakref.ref(leaf)  # the graph holds its leaves
        losses = leaf * 2
        result = curriculum.weigh(losses) if how == "weigh" else curriculum(losses)
        assert result is not None
        del leaf, losses, result
        gc.collect()
        assert graph() is None
        batch = next(stream)


def test_observed_values_are_kept_though_the_losses_change_afterwards() -> None:
    method = LastLoss()
    curriculum, _, batch = started(method, size=4, batch=4)
    losses = batch.clone()
    curriculum(losses)
    # The epoch ended with the call, so look at a second one that is still within its log.
    curriculum, _, batch = started(method := LastLoss(), size=8, batch=4)
    losses = batch.clone()
    curriculum(losses)
    losses.fill_(-5)
    curriculum.epochs.apply_log()
    assert method.loss.values[batch.long()].tolist() == batch.tolist()


def test_d47_losses_of_every_dtype_are_observed_exactly() -> None:
    for dtype in FLOATS:
        curriculum, _, batch = started(method := LastLoss(), size=4, batch=4)
        curriculum((batch / 4).to(dtype))
        assert method.loss.values.tolist() == [0.0, 0.25, 0.5, 0.75]


def test_d47_indices_beyond_two_to_the_24_stay_exact() -> None:
    """Float32 cannot tell 16,777,217 from 16,777,216; int64 indices can."""
    size = 2**24 + 4

    class Far(gr.Method):
        def setup(self, run: gr.Run) -> None:
            self.loss = gr.Table("loss", dtype=torch.bfloat16)

        def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
            return pool.keep(torch.arange(size - 4, size))

        def observe(self, batch: gr.Batch, run: gr.Run) -> None:
            self.loss.write(batch.index, batch.losses)

    curriculum = gr.Curriculum(method := Far())

    class Wide(Samples):
        def __getitem__(self, k: int) -> Any:
            return k  # default_collate makes int64 of it

    loader = curriculum.loader(Wide(size), batch_size=4)
    (batch,) = loader
    assert torch.equal(curriculum.index, batch)
    assert sorted(batch.tolist()) == list(range(size - 4, size))
    curriculum((batch - (size - 5)).float())
    assert method.loss.values[-5:].tolist() == [0, 1, 2, 3, 4]
    assert int(method.loss.values.count_nonzero()) == 4


# --- Signals ----------------------------------------------------------------------------------


def test_signals_nobody_needs_are_ignored() -> None:
    curriculum, _, batch = started(LastLoss(), size=4, batch=4)
    loss = curriculum(batch, logits=torch.zeros(99, 2), nonsense="of any kind", mask=None)
    assert torch.equal(loss, batch.mean())


def test_methods_get_the_signals_they_want_and_no_graph() -> None:
    class Wanting(Diary):
        def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor:
            self.weighed = batch.signals
            assert not batch.losses.requires_grad
            return torch.ones_like(batch.losses)

    method = Wanting(wants=("logits", "targets"))
    curriculum, _, batch = started(method, size=4, batch=4)
    logits = torch.rand(4, 3, requires_grad=True)
    curriculum(logits.sum(1), logits=logits, targets=batch.long(), other=batch)
    assert set(method.weighed) == {"logits", "targets"}
    assert not method.weighed["logits"].requires_grad
    (seen,) = method.signals
    assert set(seen) == {"logits", "targets"}
    assert torch.equal(seen["logits"], logits.detach())
    assert torch.equal(seen["targets"], batch.long())


def test_accepted_signals_are_handed_over_where_given() -> None:
    class Accepting(gr.Method):
        accepts = ("mask",)

        def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor:
            return batch.signals.get("mask", torch.ones_like(batch.losses))

    curriculum, stream, batch = started(Accepting(), size=4, batch=2)
    assert float(curriculum(batch)) == float(batch.mean())
    assert float(curriculum(next(stream), mask=torch.zeros(2))) == 0.0


def test_a_differentiable_method_sees_the_graph_and_the_others_do_not() -> None:
    class Square(gr.Method):
        differentiable = True

        def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor:
            return batch.losses

    class Same(Square):
        differentiable = False

    gradients = []
    for method in (Square(), Same()):
        curriculum, _, _ = started(method, size=1, batch=1)
        loss = torch.tensor([3.0], requires_grad=True)
        curriculum(loss).backward()
        gradients.append(float(loss.grad))  # type: ignore[arg-type]
    assert gradients == [6.0, 3.0]  # d(l * l) and l * dl


# --- Which samples a call is about ------------------------------------------------------------


def test_index_is_the_pending_batch_and_int64() -> None:
    curriculum, stream, batch = started(size=9, batch=4)
    while True:
        assert curriculum.index.dtype == torch.int64
        assert curriculum.index.tolist() == batch.tolist()
        curriculum(batch)
        batch = next(stream, None)
        if batch is None:
            break


def test_d6_explicit_index_rules_over_the_order_of_rows() -> None:
    """A loop that permutes its batch hands over the permuted index."""
    curriculum = gr.Curriculum(method := LastLoss(), seed=3)
    loader = curriculum.loader(Samples(20), batch_size=4)
    for batch in loader:
        order = torch.randperm(4, generator=torch.Generator().manual_seed(int(batch[0])))
        curriculum(batch[order], index=curriculum.index[order])
    assert method.loss.values.tolist() == list(range(20))
    assert curriculum.epoch == 1


def test_d6_second_forward_in_between_changes_nothing() -> None:
    """Losses of other samples, by index= and outside the batch, go to those samples."""
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Samples(8), batch_size=4)
    first = next(stream := iter(loader))
    curriculum(first)
    others = first[:2].long()
    step = curriculum.step
    curriculum(torch.tensor([70.0, 0.5]), index=others)
    assert curriculum.step == step  # not a batch of the loader
    second = next(stream)
    curriculum(second)
    expected = torch.arange(8.0)
    expected[others] = torch.tensor([70.0, 0.5])
    assert torch.equal(method.loss.values, expected)


def test_the_same_index_again_is_a_repeat_that_nobody_observes() -> None:
    """A closure evaluates the same batch several times: one observation, one step."""
    visits = Visits()
    curriculum, stream, batch = started(visits, size=8, batch=4)
    index = curriculum.index
    for _ in range(3):
        loss = curriculum(batch, index=index)
        assert torch.equal(loss, batch.mean())
    assert curriculum.step == 1
    batch, index = next(stream), curriculum.index
    curriculum(batch, index=index.clone())
    curriculum(batch, index=index.clone())
    assert curriculum.step == 2
    assert visits.visits.values.tolist() == [1] * 8


def test_a_repeat_is_weighed_where_its_batch_stood_though_the_epoch_has_ended() -> None:
    """The last batch's second evaluation must be the same function as the first."""

    class ByEpoch(gr.Method):
        def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor:
            assert (batch.epoch, batch.step) == (run.epoch, run.step)
            return torch.full_like(batch.losses, 1.0 + run.epoch + 0.125 * run.step)

    curriculum, _, batch = started(ByEpoch(), size=4, batch=4)
    index = curriculum.index
    first = curriculum(batch, index=index)
    assert curriculum.epoch == 1
    assert torch.equal(curriculum(batch, index=index), first)


def test_a_repeat_under_read_ahead_leaves_the_next_batch_alone() -> None:
    curriculum, stream, first = started(visits := Visits(), size=8, batch=4, read_ahead=True)
    second = next(stream)  # drawn before the first was trained on
    index = curriculum.index
    curriculum(first, index=index)
    curriculum(first, index=index)
    assert curriculum.step == 1
    assert curriculum.index.tolist() == second.tolist()
    curriculum(second)
    assert visits.visits.values.tolist() == [1] * 8


def test_an_index_buffer_that_the_user_reuses_is_copied() -> None:
    """Rows remembered by reference would all move to the last batch's samples."""
    curriculum, _, _ = started(method := LastLoss(), size=8, batch=8)
    curriculum.skip()
    buffer = torch.empty(2, dtype=torch.int64)
    for low in range(0, 8, 2):
        buffer.copy_(torch.tensor([low, low + 1]))
        curriculum(buffer.float(), index=buffer)
    curriculum.epochs.apply_log()
    assert method.loss.values.tolist() == list(range(8))


def test_two_calls_about_one_batch_are_refused() -> None:
    curriculum, _, batch = started(size=8, batch=4)
    curriculum(batch)
    with pytest.raises(RuntimeError, match=r"there is no batch to weigh.*or pass index="):
        curriculum(batch)
    assert curriculum.step == 1


def test_d48_two_batches_since_the_last_call_are_refused_until_one_is_skipped() -> None:
    curriculum, stream, _ = started(method := LastLoss(), size=12, batch=4)
    second = next(stream)
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(RuntimeError, match=r"2 batches were drawn.*read_ahead=True.*skip\(\)"):
            curriculum(second)
    with pytest.raises(RuntimeError, match="2 batches"):
        _ = curriculum.index
    curriculum.skip()
    curriculum(second)
    third = next(stream)
    curriculum(third)
    seen = {int(k) for k in (*second, *third)}
    assert {k for k in range(12) if not math.isnan(method.loss.values[k])} == seen
    assert curriculum.epoch == 1


def test_skip_counts_the_batch_and_observes_nothing() -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Samples(12), batch_size=4)
    dropped: list[int] = []
    for number, batch in enumerate(loader):
        if number == 1:
            dropped = batch.long().tolist()
            curriculum.skip()
        else:
            curriculum(batch)
    assert (curriculum.epoch, curriculum.step) == (1, 3)
    nan = method.loss.values.isnan().nonzero().squeeze(1).tolist()
    assert nan == sorted(dropped)


def test_skipping_the_last_batch_ends_the_epoch() -> None:
    curriculum, _, _ = started(size=4, batch=4)
    curriculum.skip()
    assert curriculum.epoch == 1


# --- Mix-up -----------------------------------------------------------------------------------


def mixed_targets() -> torch.Tensor:
    return torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.4, 0.0, 0.6], [1.0, 0.0, 0.0]])


def test_observed_hands_over_unmixed_values() -> None:
    diary = Diary(wants=("logits",))
    curriculum, _, batch = started(diary, size=4, batch=4)
    mixed, unmixed = torch.full((4,), 9.0), batch.clone()
    loss = curriculum(
        mixed,
        logits=torch.zeros(4, 2),
        targets=mixed_targets(),
        observed={"losses": unmixed, "logits": torch.ones(4, 2)},
    )
    assert float(loss) == 9.0  # trained on the mixed losses
    assert sorted(zip(diary.column("index"), diary.column("loss"), strict=True)) == [
        (k, float(k)) for k in range(4)
    ]
    assert diary.signals[0]["logits"].tolist() == [[1.0, 1.0]] * 4


def test_observed_false_observes_nothing_and_stays_silent() -> None:
    curriculum, _, batch = started(visits := Visits(), size=4, batch=4)
    curriculum(batch, targets=mixed_targets(), observed=False)
    assert visits.visits.values.tolist() == [0] * 4
    assert curriculum.epoch == 1


def test_mixed_targets_are_not_observed_and_warned_about_once_where_the_user_stands() -> None:
    curriculum, stream, batch = started(visits := Visits(), size=12, batch=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        curriculum(batch, targets=mixed_targets())
        curriculum(next(stream), targets=mixed_targets())
        curriculum(next(stream), targets=torch.eye(4, 3))  # one-hot: not mixed
    assert [str(warning.message)[:18] for warning in caught] == ["targets look mixed"]
    assert caught[0].filename == __file__
    assert int(visits.visits.values.sum()) == 4


@pytest.mark.parametrize(
    "targets",
    [
        torch.tensor([[0.5], [2.5], [-1.0], [0.25]]),  # regression, one output
        torch.tensor([[0.5, 1.5], [0.2, 0.3], [0.0, 0.1], [3.0, 4.0]]),  # regression, two
        torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),  # several labels at once
        torch.tensor([0.5, 0.25, 0.125, 2.0]),
        torch.tensor([0, 1, 2, 1]),
    ],
    ids=["column", "two", "multilabel", "vector", "labels"],
)
def test_targets_that_are_not_distributions_are_observed(targets: torch.Tensor) -> None:
    curriculum, _, batch = started(visits := Visits(), size=4, batch=4)
    curriculum(batch, targets=targets)  # a warning would be an error here
    assert visits.visits.values.tolist() == [1] * 4


def test_mixed_targets_do_not_matter_to_methods_that_observe_nothing() -> None:
    curriculum, _, batch = started(gr.Focal(gamma=0), size=4, batch=4)
    assert torch.equal(curriculum(batch, targets=mixed_targets()), batch.mean())


# --- Losses that are not finite ---------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nonfinite_losses_are_refused_by_index_and_the_batch_can_be_retried(bad: float) -> None:
    methods = (LastLoss(), gr.SuperLoss(), Average())
    curriculum, stream, batch = started(*methods, seed=1, size=12, batch=4)
    twin, twins, again = started(LastLoss(), gr.SuperLoss(), Average(), seed=1, size=12, batch=4)
    losses = batch.clone()
    losses[2] = bad
    with pytest.raises(ValueError, match=rf"losses must be finite. Got 1 .* \[{int(batch[2])}\]"):
        curriculum(losses)
    assert (curriculum.step, curriculum.epoch) == (0, 0)
    # The same batch again, with good losses, is as if nothing had happened.
    for _ in range(3):
        assert torch.equal(curriculum(batch), twin(again))
        batch, again = next(stream, None), next(twins, None)
    for name, values in twin.scores().items():
        assert torch.equal(curriculum.scores()[name], values)


def test_up_to_ten_bad_indices_are_named() -> None:
    curriculum, _, batch = started(size=15, batch=15)
    with pytest.raises(ValueError, match="Got 15 non-finite values") as error:
        curriculum(torch.full((15,), math.nan))
    named = ", ".join(str(int(k)) for k in batch[:10])
    assert str(error.value).endswith(f"at index [{named}, ...].")


def test_infinities_that_cancel_in_a_sum_are_found() -> None:
    curriculum, _, _ = started(size=4, batch=4)
    with pytest.raises(ValueError, match="Got 2 non-finite values"):
        curriculum(torch.tensor([math.inf, 1.0, -math.inf, 2.0]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_observed_losses_are_checked_in_the_call_too(bad: float) -> None:
    """Found only at the epoch's end they would have been counted, and refused for ever after."""
    curriculum, stream, batch = started(method := LastLoss(), size=8, batch=4)
    observed = batch.clone()
    observed[0] = bad
    with pytest.raises(ValueError, match=rf"observed losses.*finite.*\[{int(batch[0])}\]"):
        curriculum(batch, observed={"losses": observed})
    assert curriculum.step == 0
    curriculum(batch, observed={"losses": batch})
    curriculum(next(stream))
    assert method.loss.values.tolist() == list(range(8))


def test_skip_gives_nonfinite_losses_weight_zero_and_forgets_them() -> None:
    curriculum, _, batch = started(
        method := LastLoss(), gr.SuperLoss(lam=4.0), size=4, batch=4, nonfinite="skip"
    )
    losses = batch.clone().requires_grad_()
    poisoned = torch.where(batch == 2, torch.tensor(math.nan), losses)
    loss = curriculum(poisoned)
    loss.backward()
    assert math.isfinite(loss.item())
    assert losses.grad is not None
    assert losses.grad[batch == 2].tolist() == [0.0]
    assert bool((losses.grad[batch != 2] > 0).all())
    values = method.loss.values
    assert math.isnan(values[2])
    assert values[[0, 1, 3]].tolist() == [0.0, 1.0, 3.0]


def test_skip_forgets_observed_losses_that_are_not_finite() -> None:
    curriculum, _, batch = started(method := LastLoss(), size=4, batch=4, nonfinite="skip")
    unmixed = torch.where(batch == 1, torch.tensor(math.inf), batch)
    assert float(curriculum(batch, observed={"losses": unmixed})) == 1.5
    assert method.loss.values.isnan().tolist() == [False, True, False, False]


def test_skip_averages_over_what_is_finite() -> None:
    method = gr.SuperLoss()
    curriculum, _, _ = started(method, size=4, batch=4, nonfinite="skip")
    assert math.isfinite(curriculum(torch.tensor([1.0, math.nan, 3.0, math.inf])))
    assert float(method.average.value) == 2.0


def test_skip_without_weights_divides_by_the_whole_batch() -> None:
    curriculum, _, _ = started(size=4, batch=4, nonfinite="skip")
    assert float(curriculum(torch.tensor([1.0, math.inf, 3.0, math.nan]))) == 1.0


def test_skip_leaves_running_means_untouched_by_a_bad_batch() -> None:
    method = gr.SuperLoss()
    curriculum, stream, batch = started(method, size=8, batch=4, nonfinite="skip")
    curriculum(batch)
    before = float(method.average.value)
    next(stream)
    curriculum(torch.full((4,), math.nan))
    assert float(method.average.value) == before == float(batch.mean())
    assert float(method.batches.value) == 1


# --- One call per batch, whatever else happens ------------------------------------------------


def test_iterating_without_a_call_changes_nothing() -> None:
    curriculum = gr.Curriculum(visits := Visits(), seed=5)
    loader = curriculum.loader(Samples(10), batch_size=4)
    looked_at = [batch.tolist() for batch in loader]
    assert (curriculum.epoch, curriculum.step) == (0, 0)
    order = train(curriculum, loader)[0]
    assert order == [k for batch in looked_at for k in batch]
    assert visits.visits.values.tolist() == [1] * 10
    assert curriculum.epoch == 1


def test_global_random_state_is_untouched_by_calls(watch_global_rng: Any) -> None:
    curriculum, stream, batch = started(
        gr.SuperLoss(), gr.Focal(), LastLoss(), size=12, batch=4, nonfinite="skip"
    )
    moved = watch_global_rng()
    curriculum(batch)
    curriculum.weigh(next(stream))
    next(stream)
    _ = curriculum.index
    curriculum.skip()
    curriculum.scores()
    curriculum.metrics()
    assert moved() == []


def test_the_data_set_wrapper_answers_padding_with_the_sample_itself() -> None:
    fetched = IndexedDataset(Samples(5)).__getitems__([3, ~1])
    assert [float(item) for item in fetched.items] == [3.0, 1.0]
    assert fetched.codes == [3, ~1]
