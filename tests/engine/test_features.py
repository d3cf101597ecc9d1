"""Features: the inputs of the last linear layer, kept by a hook that leaves no trace."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.methods.features import WithFeatures, last_linear

SIZE = 12


class Features(WithFeatures):
    """Keeps features in its first epoch."""

    def __init__(self, features: torch.Tensor | None = None, layer: str | None = None) -> None:
        super().__init__(features, layer)

    def collects(self, epoch: int) -> bool:
        return epoch == 0


def network() -> nn.Sequential:
    torch_state = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1, generator=torch_state)
    return model


X = torch.randn(SIZE, 3, generator=torch.Generator().manual_seed(1))


def train(method: gr.Method, model: Any, *, epochs: int = 1, **given: Any) -> gr.Curriculum:
    curriculum = gr.Curriculum(method)
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(SIZE)), batch_size=5)
    curriculum.attach(model=model)
    for _ in range(epochs):
        for (index,) in loader:
            losses = F.cross_entropy(model(X[index]), index % 2, reduction="none")
            signals = {name: rows[index] for name, rows in given.items()}
            curriculum(losses, **signals).backward()
    return curriculum


def test_each_sample_has_the_input_of_the_last_linear_layer() -> None:
    model, method = network(), Features()
    train(method, model)
    with torch.no_grad():
        expected = model[1](model[0](X))
    assert torch.allclose(method.feature_rows(torch.arange(SIZE)), expected)
    assert method.feature_rows(torch.tensor([3, 1])).shape == (2, 5)


def test_only_the_epochs_that_collect_count() -> None:
    once, twice = Features(), Features()
    train(once, network())
    model = network()
    curriculum = gr.Curriculum(twice)
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(SIZE)), batch_size=5)
    curriculum.attach(model=model)
    for _ in range(3):
        for (index,) in loader:
            curriculum(F.cross_entropy(model(X[index]), index % 2, reduction="none"))
        with torch.no_grad():
            model[0].weight.add_(1.0)
    rows = torch.arange(SIZE)
    assert torch.equal(twice.feature_rows(rows), once.feature_rows(rows))


def test_a_named_layer_a_signal_and_a_constructor_argument_go_before() -> None:
    model, named = network(), Features(layer="0")
    train(named, model)
    assert torch.allclose(named.feature_rows(torch.arange(SIZE)), X)
    given = torch.arange(2.0 * SIZE).reshape(SIZE, 2)
    signalled = Features()
    train(signalled, network(), features=given)
    assert torch.equal(signalled.feature_rows(torch.arange(SIZE)), given)
    fixed = Features(features=given)
    train(fixed, network())
    assert torch.equal(fixed.feature_rows(torch.tensor([2])), given[2:3])
    assert "features" not in fixed.tables()


def test_detaching_leaves_the_model_as_it_was() -> None:
    model = network()
    keys, hooks = list(model.state_dict()), len(model[2]._forward_pre_hooks)
    curriculum = train(Features(), model)
    assert len(model[2]._forward_pre_hooks) == hooks + 1
    curriculum.detach()
    assert len(model[2]._forward_pre_hooks) == hooks
    assert list(model.state_dict()) == keys


def test_a_hooked_model_and_its_method_can_be_copied_and_pickled() -> None:
    model, method = network(), Features()
    train(method, model)
    twin = copy.deepcopy(method)
    assert torch.equal(
        twin.feature_rows(torch.arange(SIZE)), method.feature_rows(torch.arange(SIZE))
    )
    assert twin._handle is None
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(X), model(X))


def test_wrapped_models_are_hooked_inside() -> None:
    method = Features()
    model = nn.DataParallel(network())
    train(method, model)
    assert method.feature_rows(torch.arange(SIZE)).shape == (SIZE, 5)


def test_samples_that_were_not_seen_count_as_average() -> None:
    method = Features()
    curriculum = gr.Curriculum(method)
    loader = curriculum.loader(
        torch.utils.data.TensorDataset(torch.arange(SIZE)), batch_size=5, drop_last=True
    )
    seen = []
    for (index,) in loader:
        seen.append(index)
        curriculum(torch.ones(5), features=X[index])
    rows = method.feature_rows(torch.arange(SIZE))
    known = torch.cat(seen)
    assert torch.equal(rows[known], X[known])
    left_out = [i for i in range(SIZE) if i not in known.tolist()]
    assert len(left_out) == 2
    assert torch.allclose(rows[left_out], X[known].mean(0).expand(2, 3))


def test_what_is_missing_or_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"layer must be one of the linear layers \['0', '2'\]"):
        last_linear(network(), "fc")
    with pytest.raises(ValueError, match="model must be a module with a linear layer"):
        last_linear(nn.ReLU())
    curriculum = gr.Curriculum(Features())
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(4)), batch_size=4)
    for _ in loader:
        with pytest.raises(RuntimeError, match="features must be given"):
            curriculum(torch.ones(4))
        with pytest.raises(ValueError, match="features must be one row per sample: 4"):
            curriculum(torch.ones(4), features=torch.ones(4))
        curriculum.skip()
    with pytest.raises(TypeError, match="features must be a floating tensor"):
        Features(features=torch.ones(4, 2).long())
    with pytest.raises(ValueError, match="features must be finite"):
        Features(features=torch.full((4, 2), torch.nan))


def test_rows_of_several_lengths_are_refused_by_name() -> None:
    """As texts of several lengths give to a layer that sees each token."""
    method = Features()
    curriculum = gr.Curriculum(method)
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(SIZE)), batch_size=6)
    batches = iter(loader)
    (index,) = next(batches)
    curriculum(torch.ones(6), features=torch.ones(6, 3, 2))
    (index,) = next(batches)
    with pytest.raises(ValueError, match="features must be of 6 values per sample, as before"):
        curriculum(torch.ones(len(index)), features=torch.ones(len(index), 2, 2))
    assert curriculum.step == 1
