"""The moving average of a model's weights (6, "EMA model"): numbers by hand, buffers, copies."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gradatim.averaging import ema_model


def scalar_model(value: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def follow(average: AveragedModel, model: nn.Module, values: list[float]) -> list[float]:
    found = []
    for value in values:
        nn.init.constant_(model.weight, value)  # type: ignore[arg-type]
        average.update_parameters(model)
        found.append(average.module.weight.item())  # type: ignore[union-attr, operator]
    return found


def test_zhou2021_three_updates_by_hand() -> None:
    """beta = 0, 1/2, 2/3: 1; (1 + 2)/2; 2/3 1.5 + 1/3 6 = 3."""
    model = scalar_model(7.0)
    assert follow(ema_model(model), model, [1.0, 2.0, 6.0]) == pytest.approx([1.0, 1.5, 3.0])


def test_from_the_cap_on_the_mean_forgets() -> None:
    """beta = 0, 1/2, 1/2: 1; 1.5; .5 1.5 + .5 6 = 3.75; .5 3.75 = 1.875."""
    model = scalar_model(7.0)
    found = follow(ema_model(model, cap=0.5), model, [1.0, 2.0, 6.0, 0.0])
    assert found == pytest.approx([1.0, 1.5, 3.75, 1.875])
    assert follow(ema_model(model, cap=0.0), model, [1.0, 2.0, 6.0]) == [1.0, 2.0, 6.0]


def test_the_default_cap_is_met_after_999_updates() -> None:
    """Before it, the plain mean of 0, 1, 2, ...; at t = 1,999 a new value weighs .001."""
    model = scalar_model(0.0)
    average = ema_model(model)
    found = follow(average, model, [0.0] * 1999 + [1.0])
    assert found[-1] == pytest.approx(0.001)
    assert follow(ema_model(model), model, [float(k) for k in range(99)])[-1] == pytest.approx(49.0)


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    model = nn.BatchNorm1d(2)
    average = ema_model(model)
    copied = average.module
    for step, mean in enumerate([1.0, 2.0, 6.0], start=1):
        model.running_mean.fill_(mean)  # type: ignore[union-attr]
        model.num_batches_tracked.fill_(10 * step)  # type: ignore[union-attr]
        average.update_parameters(model)
        assert copied.num_batches_tracked.dtype == torch.int64  # type: ignore[union-attr]
        assert int(copied.num_batches_tracked) == 10 * step  # type: ignore[arg-type]
    torch.testing.assert_close(copied.running_mean, torch.full((2,), 3.0))


def test_the_model_itself_is_not_changed() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = copy.deepcopy(model.state_dict())
    average = ema_model(model)
    average.update_parameters(model)
    average.update_parameters(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(
        mine is theirs
        for mine, theirs in zip(average.module.parameters(), model.parameters(), strict=True)
    )


def test_no_global_random_number_is_drawn(
    watch_global_rng: Callable[[], Callable[[], list[str]]],
) -> None:
    model = nn.Linear(3, 2)
    moved = watch_global_rng()
    average = ema_model(model)
    average.update_parameters(model)
    average.update_parameters(model)
    assert moved() == []
    assert int(average.n_averaged) == 2


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda average: pickle.loads(pickle.dumps(average))]
)
def test_copies_go_on_alike(twin: Callable[[AveragedModel], AveragedModel]) -> None:
    model = scalar_model(0.0)
    average = ema_model(model, cap=0.5)
    follow(average, model, [1.0, 2.0])
    other = twin(average)
    assert follow(other, model, [6.0, 0.0]) == pytest.approx([3.75, 1.875])
    assert average.module.weight.item() == 1.5  # type: ignore[union-attr, operator]


def test_a_state_dict_resumes_the_ramp() -> None:
    model = scalar_model(0.0)
    average = ema_model(model)
    follow(average, model, [1.0, 2.0])
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    other = ema_model(scalar_model(9.0))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert follow(other, model, [6.0]) == pytest.approx([3.0])


def test_mixed_dtypes_keep_theirs() -> None:
    model = nn.Module()
    model.wide = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    model.narrow = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    model.register_buffer("mask", torch.tensor([True, False]))
    average = ema_model(model)
    for _ in range(3):
        average.update_parameters(model)
    kinds = {name: value.dtype for name, value in average.module.state_dict().items()}
    assert kinds == {"wide": torch.float64, "narrow": torch.bfloat16, "mask": torch.bool}
    assert average.module.mask.tolist() == [True, False]  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    ("cap", "error"),
    [(1.0, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("1", TypeError)],
)
def test_a_bad_cap_is_refused(cap: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="cap must be a finite number"):
        ema_model(nn.Linear(1, 1), cap=cap)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module"):
        ema_model([1.0])  # type: ignore[arg-type]
