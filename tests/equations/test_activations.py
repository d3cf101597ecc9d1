"""Analyses of layers, `methods.md` 8.2: activation entropy, feature distance, update sizes."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gradatim.analysis import activation_entropy, activations, feature_distance, update_sizes
from gradatim.analysis.recording import Recording
from gradatim.figures import activation_maps, draw

# ---------------------------------------------------------------- entropy


def test_entropy_by_hand() -> None:
    """8.2: constant map 1, one-hot 0, (1, 1, 2): -(2/4 ln 1/4 + 2/4 ln 1/2) / ln 3 = .946395."""
    maps = torch.tensor([[7.0, 7.0, 7.0], [0.0, 3.0, 0.0], [1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(activation_entropy(maps), [1, 0, 0.946395, 0], atol=5e-7)


def test_entropy_counts_all_units_of_a_sample_and_not_their_signs() -> None:
    maps = torch.tensor([1.0, -1.0, 2.0, 0.0]).reshape(1, 2, 1, 2)
    expected = (0.5 * math.log(4) + 0.5 * math.log(2)) / math.log(4)
    assert activation_entropy(maps).tolist() == [pytest.approx(expected)]
    assert activation_entropy(maps.numpy()).shape == (1,)


numbers = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(st.lists(numbers, min_size=2, max_size=8), st.sampled_from([1e-300, 1e-9, 3.0, 1e300]))
@settings(deadline=None, max_examples=60)
def test_entropy_lies_in_the_unit_interval_whatever_the_scale(
    values: list[float], scale: float
) -> None:
    row = np.array([values])
    row[np.abs(row) < 1e-6] = 0  # or the scaled ones would underflow
    found = activation_entropy(row)[0]
    assert 0 <= found <= 1
    assert activation_entropy(row * scale)[0] == pytest.approx(found, abs=1e-9)


def test_entropy_of_half_precision_is_that_of_its_values() -> None:
    maps = torch.full((2, 70_000), 60_000.0, dtype=torch.float16)  # their sum is no float16
    assert activation_entropy(maps) == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.tensor([[1.0, float("nan")]]), "activations must be finite. Got 1 values"),
        (torch.ones(3), r"activations must be of shape \(B, ...\)"),
        (torch.ones(3, 1), "activations must be of at least 2 units per sample"),
        (torch.ones(0, 4), "activations must be of shape"),
        (torch.ones(2, 2, dtype=torch.complex64), "activations must be real numbers"),
    ],
)
def test_entropy_refuses_bad_activations(values: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        activation_entropy(values)


def test_entropy_refuses_a_list() -> None:
    with pytest.raises(TypeError, match=r"activations must be a tensor or an array .* Got list"):
        activation_entropy([[1.0, 2.0]])  # type: ignore[arg-type]


# ---------------------------------------------------------------- distance


def test_distance_is_the_mean_over_samples_of_euclidean_distances() -> None:
    """(5 + 0) / 2; relative to the mean norm, (5 + sqrt 2) / 2."""
    first = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).reshape(2, 1, 2)
    second = torch.tensor([[3.0, 4.0], [1.0, 1.0]]).reshape(2, 1, 2)
    assert feature_distance(first, second) == 2.5
    assert feature_distance(first, second, relative=True) == pytest.approx(5 / (5 + math.sqrt(2)))


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_distance_is_0_to_itself_and_symmetric(rows: list[tuple[float, float]]) -> None:
    one = np.array(rows)
    assert feature_distance(one, one) == 0
    assert feature_distance(one, one[::-1].copy()) == feature_distance(one[::-1].copy(), one)


def test_distance_refuses_another_order_of_samples() -> None:
    a, b = torch.rand(3, 4), torch.rand(3, 4)
    assert feature_distance(a, b, first_index=[5, 2, 9], second_index=torch.tensor([5, 2, 9])) > 0
    with pytest.raises(ValueError, match=r"Got sample 9 instead of 2 in row 1. Sort both"):
        feature_distance(a, b, first_index=[5, 2, 9], second_index=[5, 9, 2])
    with pytest.raises(ValueError, match=r"instead of 9 in row 2. Are they other inputs\?"):
        feature_distance(a, b, first_index=[5, 2, 9], second_index=[5, 2, 8])
    with pytest.raises(ValueError, match="second_index must be given where the other one is"):
        feature_distance(a, b, first_index=[5, 2, 9])
    with pytest.raises(ValueError, match=r"first_index must be one per sample: 3 of them\. Got 2"):
        feature_distance(a, b, first_index=[5, 2], second_index=[5, 2, 8])


def test_distance_refuses_bad_values() -> None:
    a = torch.rand(3, 4)
    with pytest.raises(ValueError, match=r"second must be of shape \(3, 4\), as first"):
        feature_distance(a, torch.rand(3, 5))
    with pytest.raises(TypeError, match=r"first must be a tensor or an array .* Got list"):
        feature_distance([[1.0, 2.0]], a)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="first must be finite"):
        feature_distance(a / 0, a)
    with pytest.raises(ValueError, match="second must be not all 0"):
        feature_distance(a, torch.zeros(3, 4), relative=True)


# ---------------------------------------------------------------- update sizes


def test_update_sizes_by_hand() -> None:
    """A layer has the root of the sum of its parameters' squares."""
    before = {"a.weight": torch.tensor([[3.0, 4.0]]), "a.bias": torch.tensor([0.0])}
    after = {"a.weight": torch.tensor([[3.0, 8.0]]), "a.bias": torch.tensor([3.0])}
    found = update_sizes(before, after)
    assert list(found) == ["a.weight", "a.bias"]
    one = found["a.weight"]
    assert (one.absolute, one.relative, one.numbers) == (4.0, pytest.approx(0.8), 2)
    assert (found["a.bias"].absolute, found["a.bias"].relative) == (3.0, math.inf)
    (layer,) = update_sizes(before, after, by="layer").items()
    assert (layer[0], layer[1].absolute, layer[1].relative) == ("a", 5.0, pytest.approx(1.0))


def test_update_sizes_of_a_plain_step_are_rate_times_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    before = copy.deepcopy(model.state_dict())
    model(torch.rand(5, 4)).square().sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    found = update_sizes(before, model.state_dict())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert found[name].absolute == pytest.approx(0.1 * float(parameter.grad.norm()), abs=1e-6)
    assert "1.running_mean" in found
    assert "1.num_batches_tracked" not in found
    assert list(update_sizes(before, model.state_dict(), by="layer")) == ["0", "1", "2"]


def test_an_unmoved_model_has_update_sizes_0() -> None:
    snapshot = {"w": torch.zeros(3), "v": torch.ones(3)}
    found = update_sizes(snapshot, copy.deepcopy(snapshot))
    assert [(size.absolute, size.relative) for size in found.values()] == [(0.0, 0.0)] * 2


def test_update_sizes_refuse_a_snapshot_that_moves_along() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"before must be a copy. Got the memory of after"):
        update_sizes(model.state_dict(), model.state_dict())


def test_update_sizes_refuse_other_names_shapes_and_values() -> None:
    one = {"w": torch.ones(2)}
    with pytest.raises(ValueError, match=r"after must be a snapshot of the same names .*'v'"):
        update_sizes(one, {"w": torch.ones(2), "v": torch.ones(1)})
    with pytest.raises(ValueError, match=r"after\['w'\] must be of shape \(2,\)"):
        update_sizes(one, {"w": torch.ones(3)})
    with pytest.raises(ValueError, match=r"after\['w'\] must be finite"):
        update_sizes(one, {"w": torch.tensor([1.0, math.inf])})
    with pytest.raises(ValueError, match="by must be one of 'parameter', 'layer'"):
        update_sizes(one, {"w": torch.ones(2)}, by="block")  # type: ignore[arg-type]


# ---------------------------------------------------------------- hooks


class Backwards(nn.Module):
    """Its convolutions are called in another order than they are registered in."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(2, 3, 3)
        self.early = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout()
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.late(self.drop(self.act(self.norm(self.early(x))))).mean((2, 3)))


def double(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
    return 2 * output


def test_first_and_last_are_those_that_are_called_first_and_last() -> None:
    torch.manual_seed(0)
    model, x = Backwards(), torch.rand(5, 1, 8, 8)
    found = activations(model, x, batch_size=2)
    assert list(found) == ["first", "last"]
    with torch.no_grad():
        early = model.early(x)
        middle = torch.relu(model.eval().norm(early))
        torch.testing.assert_close(found["first"], early)
        torch.testing.assert_close(found["last"], model.late(middle))


def test_a_change_in_place_after_the_layer_does_not_show() -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(inplace=True))
    nn.init.constant_(next(model.parameters()), -1)
    nn.init.constant_(list(model.parameters())[1], 0)
    assert float(activations(model, torch.ones(2, 1, 5), ["0"])["0"].max()) < 0


def test_the_model_is_as_it_was_afterwards() -> None:
    model = Backwards().train()
    model.norm.eval()
    model.late.register_forward_hook(double)
    kept = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = activations(model, torch.rand(4, 1, 8, 8, generator=torch.Generator()))
    assert not found["last"].requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_leave_when_the_forward_pass_fails() -> None:
    model = Backwards()
    with pytest.raises(RuntimeError):
        activations(model, torch.rand(2, 5, 8, 8))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def test_earlier_hooks_have_acted_on_what_is_kept() -> None:
    model = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False))
    plain = activations(model, torch.ones(1, 1, 3), ["0"])["0"]
    model[0].register_forward_hook(double)
    torch.testing.assert_close(activations(model, torch.ones(1, 1, 3), ["0"])["0"], 2 * plain)


def test_named_layers_mappings_and_layers_that_give_tuples() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(9, 4)
            self.lstm = nn.LSTM(4, 6, batch_first=True)

        def forward(self, ids: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return self.lstm(self.words(ids) * scale)[0].mean(1)

    ids = torch.arange(6).reshape(3, 2)
    found = activations(Reader(), {"ids": ids, "scale": 2.0}, ["lstm", "words"], batch_size=2)
    assert {name: tuple(part.shape) for name, part in found.items()} == {
        "lstm": (3, 2, 6),
        "words": (3, 2, 4),
    }
    alike = activations(Reader(), (ids,), ["words"])
    assert alike["words"].shape == (3, 2, 4)


@pytest.mark.parametrize(
    ("layers", "inputs", "message"),
    [
        (["nowhere"], torch.rand(2, 1, 8, 8), "layers must be names .* Got 'nowhere'"),
        ([], torch.rand(2, 1, 8, 8), "layers must be a list of names"),
        ("late", torch.rand(2, 1, 8, 8), "layers must be a list of names. Got 'late'"),
        (["unused"], torch.rand(2, 1, 8, 8), "layers must be called .* Got 'unused'"),
        (None, torch.rand(0, 1, 8, 8), "inputs must be tensors of the same number of rows"),
        (None, (torch.rand(2, 1, 8, 8), torch.rand(3)), "inputs must be tensors of the same"),
        (None, "text", "inputs must be tensors of the same number of rows, .* Got str"),
    ],
)
def test_bad_layers_and_inputs_are_refused_by_name(
    layers: list[str] | None, inputs: object, message: str
) -> None:
    model = Backwards()
    model.add_module("unused", nn.Linear(1, 1))
    with pytest.raises(ValueError, match=message):
        activations(model, inputs, layers)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_convolutions_must_name_its_layers() -> None:
    with pytest.raises(ValueError, match=r"model must be one with convolutions. Got Linear. Name"):
        activations(nn.Linear(2, 2), torch.rand(1, 2))


def test_a_layer_without_a_row_per_input_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 2)))
    with pytest.raises(ValueError, match=r"a row per input, 2 .* \(6,\) from '0'"):
        activations(model, torch.rand(2, 3), ["0"])


# ---------------------------------------------------------------- figure


def test_maps_are_those_of_lowest_and_highest_entropy() -> None:
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 0, 0, 0] = -5  # one place alone: 0
    maps[0, 1] = 2.0  # even: 1
    maps[0, 2] = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    figure = activation_maps(torch.rand(1, 3, 8, 8), {"first conv": maps})
    figure.canvas.draw()
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["input", "first conv\nlowest\n0.000", "\nhighest\n1.000"]
    pictures = [axis.images[0].get_array() for axis in figure.axes]
    np.testing.assert_array_equal(pictures[1], [[5, 0], [0, 0]])
    np.testing.assert_array_equal(pictures[2], 2 * np.ones((2, 2)))


@pytest.mark.parametrize(
    ("images", "maps", "message"),
    [
        (torch.rand(2, 8), {"a": torch.rand(2, 3, 4, 4)}, "images must be of shape"),
        (torch.rand(9, 8, 8), {"a": torch.rand(9, 3, 4, 4)}, "images must be at most 8"),
        (torch.rand(2, 8, 8) + 1, {"a": torch.rand(2, 3, 4, 4)}, "images must be bytes, or"),
        (torch.rand(2, 8, 8), {}, "maps must be one entry or more"),
        (torch.rand(2, 8, 8), {"a": torch.rand(3, 3, 4, 4)}, r"maps\['a'\] must be of shape"),
        (torch.rand(2, 8, 8), {"a": torch.rand(2, 1, 4, 4)}, r"maps\['a'\] must be of shape"),
    ],
)
def test_the_figure_refuses_bad_input(
    images: torch.Tensor, maps: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        activation_maps(images, maps)


def test_the_entropy_figure_draws_means_over_samples_of_both_runs() -> None:
    runs = [Recording(), Recording()]
    for number, run in enumerate(runs):
        for epoch in (1, 2):
            tables = {"entropy.first": np.array([0.2, 0.4]) + number / 10}
            run.append({**tables, "entropy.last": np.full(2, 0.5 * epoch)}, epoch=epoch)
    figure = draw("lerac-entropy", *runs)
    first, last = figure.axes
    np.testing.assert_allclose([line.get_ydata() for line in first.lines], [[0.3] * 2, [0.4] * 2])
    np.testing.assert_allclose(last.lines[0].get_ydata(), [0.5, 1.0])


def test_the_entropy_figure_says_what_would_record_it() -> None:
    other = Recording()
    other.append({"entropy.first": np.ones(2)}, epoch=1)
    with pytest.raises(ValueError, match=r"one with table 'entropy.last'. .* activation_entropy"):
        draw("lerac-entropy", other, other)
