"""SPDCL with other norms and orders, and what may go wrong around it (methods.md 7)."""

from __future__ import annotations

import copy
import io
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradatim as gr

D1, D2 = (5.0, 3.0, 8.0, 1.0, 7.0, 2.0), (4.0, 3.5, 5.0, 1.2, 7.5, 0.0)


def told(norms: Any, tokens: Any = None) -> Any:
    """A survey's forward: texts of given norms, each of one token but where ``tokens`` says."""
    values = torch.as_tensor(norms, dtype=torch.float64)
    lengths = torch.ones(len(values)) if tokens is None else torch.as_tensor(tokens)

    def forward(index: torch.Tensor) -> dict[str, torch.Tensor]:
        width = int(lengths[index].max())
        mask = (torch.arange(width) < lengths[index].unsqueeze(1)).long()
        hidden = torch.zeros(len(index), width, 1, dtype=torch.float64)
        hidden[:, 0, 0] = values[index]
        return {"losses": torch.zeros(len(index)), "hidden": hidden, "mask": mask}

    return forward


def start(method: gr.SPDCL, size: int = 6, **options: Any) -> tuple[gr.Curriculum, Any]:
    curriculum = gr.Curriculum(method, **options)
    return curriculum, curriculum.loader(range(size), batch_size=3)


def order_of(curriculum: gr.Curriculum) -> list[int]:
    method, run = curriculum.methods[0], curriculum.run
    assert isinstance(method, gr.SPDCL)
    return method._order(torch.arange(run.size), run).tolist()


def visit(curriculum: gr.Curriculum, loader: Any, forward: Any = None) -> list[int]:
    """Train for an epoch; with ``forward`` the call is given its hidden states."""
    visited = []
    for index in loader:
        known = {} if forward is None else forward(index)
        known.pop("losses", None)
        curriculum(torch.zeros(len(index)), **known)
        visited += index.tolist()
    return sorted(visited)


# ------------------------------------------------------------------------------ orders to compare


@pytest.mark.parametrize("measure", ["survey", "training"])
def test_without_change_the_order_stays_that_of_d_1_and_one_survey_makes_it(measure: Any) -> None:
    curriculum, loader = start(gr.SPDCL(6, change="none", tie="index", measure=measure))
    curriculum.survey(range(6), told(D1))
    visited = []
    for _ in range(6):
        assert not curriculum.survey_due
        assert order_of(curriculum) == [3, 5, 1, 0, 4, 2]
        visited.append(visit(curriculum, loader, told(D2)))
        curriculum.survey(range(6), told(D2))  # somebody else's
    assert visited == [sorted([3, 5, 1, 0, 4, 2][:t]) for t in range(1, 7)]
    assert curriculum.scores()["SPDCL.norm"].tolist() == pytest.approx(D1)


@pytest.mark.parametrize("norm", ["nuclear", "word", "word_mean", "l1", "l2"])
def test_texts_are_in_the_order_of_the_norm_asked_for(norm: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(8, 5, 4, generator=generator)
    hidden[:4] = hidden[:4].sign() * hidden[:4, :1]  # of low rank
    mask = (torch.arange(5) < torch.tensor([5, 2, 4, 1, 3, 5, 1, 2]).unsqueeze(1)).long()
    scores, named = gr.scores, {"word_mean": lambda h, m: gr.scores.word_norm(h, m, mean=True)}
    named |= {"nuclear": scores.nuclear_norm, "word": scores.word_norm}
    named |= {"l1": scores.l1_norm, "l2": scores.l2_norm}
    expected = named[norm](hidden, mask)
    curriculum, _ = start(gr.SPDCL(3, norm=norm), 8)
    curriculum.survey(
        range(8), lambda i: {"losses": torch.zeros(len(i)), "hidden": hidden[i], "mask": mask[i]}
    )
    assert order_of(curriculum) == expected.argsort().tolist()
    torch.testing.assert_close(curriculum.scores()["SPDCL.norm"], expected)
    orders = {name: tuple(score(hidden, mask).argsort().tolist()) for name, score in named.items()}
    assert len(set(orders.values())) == 5  # or this test would tell none from another


# ------------------------------------------------------------------------------ other truncation


def test_texts_of_another_number_of_tokens_are_told_of_and_their_change_is_unknown() -> None:
    curriculum, loader = start(gr.SPDCL(4, tie="index"))
    curriculum.survey(range(6), told(D1))
    visit(curriculum, loader)
    with pytest.warns(
        UserWarning, match=r"2 texts have another number of tokens .* \[1, 4\].*trun"
    ):
        curriculum.survey(range(6), told(D2, tokens=[1, 2, 1, 1, 3, 1]), batch_size=6)
    changes = curriculum.scores()["SPDCL.change"].tolist()
    assert changes == pytest.approx([-1, math.nan, -3, 0.2, math.nan, -2], nan_ok=True)
    # The lower median of -1, -3, .2 and -2 is -2: 1, 4 and 5 count as alike, by their norms.
    assert order_of(curriculum) == [3, 0, 5, 1, 4, 2]
    visit(curriculum, loader)
    with warnings.catch_warnings():  # the same again is comparable
        warnings.simplefilter("error")
        curriculum.survey(range(6), told(D1, tokens=[1, 2, 1, 1, 3, 1]))
    expected = [a - b for a, b in zip(D1, D2, strict=True)]
    assert curriculum.scores()["SPDCL.change"].tolist() == pytest.approx(expected, abs=1e-6)


def test_norms_from_training_tell_of_other_truncation_at_the_epochs_end() -> None:
    curriculum, loader = start(gr.SPDCL(6, measure="training", tie="index"))
    curriculum.survey(range(6), told(D1))
    with pytest.warns(UserWarning, match=r"1 text has another number of tokens .* index \[3\]"):
        visit(curriculum, loader, told(D2, tokens=[1, 1, 1, 4, 1, 1]))
    assert bool(curriculum.scores()["SPDCL.change"].isnan().all())


def test_a_fixed_order_compares_nothing_so_nothing_is_told() -> None:
    curriculum, _ = start(gr.SPDCL(4, change="none"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tokens in (1, 3):
            curriculum.survey(range(6), told(D1, tokens=[tokens] * 6))
    assert curriculum.scores()["SPDCL.tokens"].tolist() == [3] * 6


# ------------------------------------------------------------------------------ hidden and mask


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_batches_of_every_length_agree_with_one_long_batch(dtype: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(13, 9, 4, generator=generator).to(dtype)
    lengths = torch.randint(1, 10, (13,), generator=generator)
    exact = gr.scores.nuclear_norm(states.double(), torch.arange(9) < lengths.unsqueeze(1)).float()
    for batch_size in (1, 4, 13):
        curriculum, _ = start(gr.SPDCL(3), 13)
        widths = set()

        def forward(index: torch.Tensor, widths: set[int] = widths) -> dict[str, torch.Tensor]:
            width = int(lengths[index].max())
            widths.add(width)
            mask = torch.arange(width) < lengths[index].unsqueeze(1)
            losses = torch.zeros(len(index), dtype=dtype)
            return {"losses": losses, "hidden": states[index, :width], "mask": mask}

        curriculum.survey(range(13), forward, batch_size=batch_size)
        torch.testing.assert_close(curriculum.scores()["SPDCL.norm"], exact, rtol=1e-6, atol=0)
        assert curriculum.scores()["SPDCL.tokens"].tolist() == lengths.tolist()
        assert batch_size == 13 or len(widths) > 1


def test_a_bad_call_in_training_changes_nothing_and_may_be_made_again() -> None:
    curriculum, loader = start(gr.SPDCL(6, measure="training", tie="index"))
    curriculum.survey(range(6), told(D1))
    (index,) = loader
    good = told(D2)(index)
    losses = good.pop("losses")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"mask": good["mask"] * 0}, ValueError, r"1 at least once .* \[3\]. Are these texts"),
        ({"mask": good["mask"].tolist()}, TypeError, r"mask must be a tensor \(B, L\). Got list"),
        ({"mask": good["mask"][:, None]}, ValueError, r"mask must be of shape \(1, 1\)"),
        ({"mask": -1e9 * good["mask"]}, ValueError, "An additive mask"),
        ({"hidden": (good["hidden"],) * 2}, TypeError, r"hidden_states\[-1\]"),
        ({"hidden": None}, ValueError, "output_hidden_states=True"),
        ({"mask": None}, ValueError, "attention_mask"),
        ({"hidden": good["hidden"].repeat(2, 1, 1)}, ValueError, "one row per sample: 1"),
        ({"hidden": good["hidden"].long()}, ValueError, "a floating tensor"),
        ({"hidden": good["hidden"][:, 0]}, ValueError, r"of shape \(B, L, h\)"),
    ]
    for bad, kind, message in cases:
        with pytest.raises(kind, match=message):
            curriculum(losses, **{**good, **bad})
        assert (curriculum.step, curriculum.scores()["SPDCL.seen"].tolist()) == (0, [0] * 6)
    curriculum(losses, **good)
    assert curriculum.scores()["SPDCL.seen"].tolist() == [0, 0, 0, 1, 0, 0]


def test_an_empty_text_is_the_easiest_and_one_without_any_token_is_named() -> None:
    """Tokenizers of BERT give an empty string two tokens, others none."""
    states = torch.ones(6, 5, 3)
    for tokens, ends in ((torch.tensor([5, 4, 2, 5, 4, 5]), True), ([5, 4, 0, 5, 4, 5], False)):
        curriculum, loader = start(gr.SPDCL(6))
        mask = (torch.arange(5) < torch.as_tensor(tokens).unsqueeze(1)).long()

        def forward(index: torch.Tensor, mask: torch.Tensor = mask) -> dict[str, torch.Tensor]:
            known = {"hidden": states[index], "mask": mask[index]}
            return {"losses": torch.zeros(len(index)), **known}

        if ends:
            curriculum.survey(range(6), forward)
            assert visit(curriculum, loader) == [2]
        else:
            with pytest.raises(ValueError, match=r"at index \[2\]. Are these texts empty"):
                curriculum.survey(range(6), forward)
            assert curriculum.survey_due


@pytest.mark.parametrize("shares", [0, -1, 1.5, True, "3", None, math.nan])
def test_shares_that_are_no_number_of_shares_are_refused(shares: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="shares must be a whole number, at least 1"):
        gr.SPDCL(shares)


# ------------------------------------------------------------------------------ a survey's traces


class Tagger(nn.Module):
    """An encoder with everything that a forward pass may move."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(6)
        self.frozen = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 6))
        self.head = nn.Linear(6, 2)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.frozen(self.norm(self.drop(self.embed(ids)).transpose(1, 2)).transpose(1, 2))
        return self.head(hidden[:, 0]), hidden


@pytest.mark.parametrize("fails", [False, True])
def test_a_survey_leaves_flags_buffers_gradients_and_generators_as_they_were(
    fails: bool, watch_global_rng: Any
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tagger()
        ids = torch.randint(20, (12, 4))
        model(ids)[0].sum().backward()
    model.train()
    model.frozen.eval()
    model.frozen.requires_grad_(False)
    curriculum, _ = start(gr.SPDCL(3), 12)
    curriculum.attach(model=model)
    flags = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    moved = watch_global_rng()

    def forward(index: torch.Tensor) -> dict[str, torch.Tensor]:
        assert not any(module.training for module in model.modules())
        if fails and 11 in index:
            raise OSError("the disk is gone")
        torch.rand(3)
        np.random.rand()  # noqa: NPY002
        logits, hidden = model(ids[index])
        losses = nn.functional.cross_entropy(logits, index % 2, reduction="none")
        assert not losses.requires_grad
        return {"losses": losses, "hidden": hidden, "mask": torch.ones(len(index), 4)}

    if fails:
        with pytest.raises(OSError, match="the disk is gone"):
            curriculum.survey(range(12), forward, batch_size=5)
        assert bool(curriculum.scores()["SPDCL.norm"].isnan().all())
    else:
        curriculum.survey(range(12), forward, batch_size=5)
    assert curriculum.survey_due == fails
    assert moved() == []
    assert [module.training for module in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        assert (parameter.grad is None) == (grad is None)
        assert grad is None or torch.equal(parameter.grad, grad)  # type: ignore[arg-type]


def test_a_model_under_autocast_is_measured_in_the_precision_of_its_states() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, ids = Tagger().eval(), torch.randint(20, (8, 4))
    norms = []
    for on in (False, True):
        curriculum, _ = start(gr.SPDCL(3), 8)
        curriculum.attach(model=model)

        def forward(index: torch.Tensor) -> dict[str, torch.Tensor]:
            logits, hidden = model(ids[index])
            return {
                "losses": logits.float().sum(1) ** 2,
                "hidden": hidden,
                "mask": torch.ones(len(index), 4),
            }

        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            curriculum.survey(range(8), forward)
        norms.append(curriculum.scores()["SPDCL.norm"])
    torch.testing.assert_close(norms[1], norms[0], rtol=0.02, atol=0)
    assert not torch.equal(*norms)


# ------------------------------------------------------------------------------ going on

SETTINGS: list[dict[str, Any]] = [
    {"measure": measure, "change": change, "review": review}
    for measure in ("survey", "training")
    for change, review in (("signed", 1.0), ("abs", 0.4), ("none", 0.5))
]


def norms_at(epoch: int, index: torch.Tensor) -> Any:
    generator = torch.Generator().manual_seed(epoch)
    return told(torch.rand(20, generator=generator) * 9 + 1)(index)


def train(
    settings: dict[str, Any], *, stop: tuple[int, int] | None = None, limit: int | None = None
) -> tuple[list[tuple[int, list[int]]], dict[str, torch.Tensor]]:
    """Batches of 5 epochs of 20 texts; ``stop`` saves and resumes there: (epoch, batches).

    ``stop=(e, -1)`` is before the survey of epoch e, ``(e, 0)`` after it.
    """

    def build(state: bytes | None = None) -> tuple[gr.Curriculum, Any]:
        curriculum, loader = start(gr.SPDCL(4, **settings), 20, seed=5)
        if limit is not None:
            curriculum.epochs.log_limit_bytes = limit
        if state is not None:
            curriculum.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
        return curriculum, loader

    def again(curriculum: gr.Curriculum) -> tuple[gr.Curriculum, Any]:
        file = io.BytesIO()
        torch.save(curriculum.state_dict(), file)
        return build(file.getvalue())

    curriculum, loader = build()
    batches: list[tuple[int, list[int]]] = []
    done = 0
    while curriculum.epoch < 5:
        epoch = curriculum.epoch
        if stop == (epoch, -1):
            (curriculum, loader), stop = again(curriculum), None
        if curriculum.survey_due:
            curriculum.survey(range(20), lambda index, epoch=epoch: norms_at(2 * epoch, index))
        if stop == (epoch, 0):
            (curriculum, loader), stop = again(curriculum), None
        for index in loader:
            known = norms_at(2 * epoch + 1, index)
            curriculum(known.pop("losses"), **known)
            batches.append((epoch, index.tolist()))
            done += 1
            if stop is not None and stop[0] == epoch and curriculum.epoch == epoch:
                here = sum(number == epoch for number, _ in batches)
                if here == stop[1]:
                    (curriculum, loader), stop = again(curriculum), None
                    break
    assert stop is None, "the run was not interrupted"
    return batches, curriculum.scores()


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(map(str, s.values())))
def test_a_run_that_is_resumed_goes_on_as_if_it_had_not_been(settings: dict[str, Any]) -> None:
    expected, scores = train(settings)
    assert [len({i for e, b in expected if e == epoch for i in b}) for epoch in (3, 4)] == [20, 20]
    for stop in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1), (2, -1), (2, 1), (3, 2)):
        for limit in (None, 1):
            found, after = train(settings, stop=stop, limit=limit)
            assert found == expected, (stop, limit)
            for name, values in scores.items():
                assert torch.equal(after[name].nan_to_num(-7), values.nan_to_num(-7)), (stop, name)
