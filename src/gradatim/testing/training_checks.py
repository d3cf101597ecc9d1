"""Checks of a method in whole trainings: through the engine, with a model and an optimizer."""

from __future__ import annotations

import copy
import random

import torch

from gradatim.method import Batch, Method, Run
from gradatim.testing.differences import difference, failing, global_random_state_untouched
from gradatim.testing.examples import Example
from gradatim.testing.problems import Problem
from gradatim.testing.rehearsals import Rehearsal
from gradatim.testing.trainings import PlainTraining, Training, loaded, saved
from gradatim.undisturbed import RandomStates, seed_numpy

__all__ = [
    "check_global_random_state",
    "check_half_precision",
    "check_neutral",
    "check_resume",
    "check_return",
    "check_saved_state",
    "check_seeds",
    "check_single_sample",
    "check_zero_weight",
]


def check_neutral(example: Example) -> None:
    """At its neutral setting the method is plain training, to the bit.

    The batches, the loss of each step and the parameters equal those of a loop without gradatim
    that takes the samples in the order of plain shuffling.

    Example:
        >>> import gradatim as gr
        >>> check_neutral(Example(
        ...     build=lambda problem: gr.Focal(gamma=2.0),
        ...     neutral=lambda problem: gr.Focal(gamma=0.1),
        ...     bad={},
        ... ))
        Traceback (most recent call last):
        AssertionError: at its neutral setting training differs from plain training: losses[0]: ...
    """
    if isinstance(example.neutral, str):
        assert example.neutral.strip(), "neutral must build the method, or say why it cannot"
        return
    problem = Problem.make()
    shuffled = Training(example, problem)
    shuffled.run(example.epochs)
    plain = PlainTraining(example, problem, shuffled.batches)
    neutral = Training(example, problem, example.neutral(problem))
    neutral.run(example.epochs)
    for what, ours, theirs in (
        ("batches", neutral.batches, shuffled.batches),
        ("losses", neutral.losses, plain.losses),
        ("parameters", neutral.model.state_dict(), plain.model.state_dict()),
    ):
        found = difference(ours, theirs, where=what)
        assert not found, f"at its neutral setting training differs from plain training: {found}"


def check_resume(example: Example) -> None:
    """A run that is cut and resumed equals the uninterrupted one, to the bit, wherever it is cut.

    Cuts lie within the first and the last epoch, at the first one's end, and one step before and
    after that. The resumed curriculum is built under another seed, so that it can only know the
    right one from the checkpoint.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SuperLoss(), neutral="...", bad={})
        >>> check_resume(example)
    """
    problem = Problem.make()
    whole = Training(example, problem, example.build(problem))
    states = [copy.deepcopy(whole.state_dict())]
    whole.run(example.epochs, lambda: states.append(copy.deepcopy(whole.state_dict())))
    first, last, total = whole.ends[0], whole.ends[-2], len(whole.batches)
    for cut in sorted({first // 2, first - 1, first, first + 1, (last + total) // 2}):
        resumed = Training(example, problem, example.build(problem), seed=1)
        if not resumed.curriculum.survey_due:
            len(resumed.loader)  # plans under the wrong seed, as a script that shows a length does
        resumed.load_state_dict(loaded(saved(states[cut])))
        resumed.run(example.epochs)
        for what, ours, theirs in (
            ("batches", resumed.batches, whole.batches[cut:]),
            ("losses", resumed.losses, whole.losses[cut:]),
            ("scores", resumed.curriculum.scores(), whole.curriculum.scores()),
            ("state", resumed.state_dict(), whole.state_dict()),
        ):
            found = difference(ours, theirs, where=what)
            assert not found, f"resumed after step {cut} of {total}, training differs: {found}"


def check_saved_state(example: Example) -> None:
    """A checkpoint is plain Python and CPU tensors, complete, and nobody's live state.

    It loads with ``weights_only=True``; a method that has loaded it saves the same again; training
    on, in the run that saved it or in one that loaded it, leaves it as it is.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SuperLoss(), neutral="...", bad={})
        >>> check_saved_state(example)
    """
    problem = Problem.make()
    training = Training(example, problem, example.build(problem))
    training.run(example.epochs - 1)
    state = training.curriculum.state_dict()
    before = copy.deepcopy(state)
    with failing("a checkpoint, saved and loaded with weights_only=True,"):
        loaded(saved(state))
    resumed = Training(example, problem, example.build(problem))
    resumed.curriculum.load_state_dict(state)
    found = difference(resumed.curriculum.state_dict(), before, where="state")
    assert not found, f"a loaded checkpoint saves another one: {found}"
    for run, whose in ((training, "saved"), (resumed, "loaded")):
        run.run(example.epochs)
        found = difference(state, before, where="state")
        assert not found, f"the run that {whose} a checkpoint changed it by training on: {found}"


def check_return(example: Example) -> None:
    """No sample is left out for good.

    Two stretches of ``returns_within`` epochs each train on every sample at least once.

    Example:
        >>> import gradatim as gr
        >>> example = Example(
        ...     build=lambda problem: gr.Predefined(problem.scores, pace=gr.pacing.Constant(0.5)),
        ...     neutral="...",
        ...     bad={},
        ... )
        >>> check_return(example)
        Traceback (most recent call last):
        AssertionError: 30 of 60 samples are not trained on within 5 epochs from epoch 0
    """
    problem = Problem.make()
    training = Training(example, problem, example.build(problem))
    for stretch in (1, 2):
        done = len(training.batches)
        training.run(stretch * example.returns_within)
        visited = torch.cat(training.batches[done:]).unique()
        missing = problem.size - visited.numel()
        assert missing == 0, (
            f"{missing} of {problem.size} samples are not trained on within "
            f"{example.returns_within} epochs from epoch {(stretch - 1) * example.returns_within}"
        )


def check_seeds(example: Example) -> None:
    """The same seed gives the same training and choices; another seed gives another draw.

    With ``Example.draws`` another seed also chooses other samples, weights or factors from the same
    tables; without it, only the order of an epoch depends on the seed.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.PacedRandom(), neutral="...", bad={})
        >>> check_seeds(example)
        Traceback (most recent call last):
        AssertionError: another seed gives other choices: say draws=True. decisions[0]['names']...
    """
    problem = Problem.make()
    orders, decisions = [], []
    for seed in (0, 0, 1):
        training = Training(example, problem, example.build(problem), seed=seed)
        training.run(2)
        orders.append(torch.cat(training.batches))
        decisions.append(Rehearsal(example, problem, seed=seed).epochs())
    found = difference(orders[0], orders[1], where="order")
    assert not found, f"the same seed gives two trainings: {found}"
    found = difference(decisions[0], decisions[1], where="decisions")
    assert not found, f"the same seed gives two choices: {found}"
    assert difference(orders[0], orders[2]), "another seed gives the same order of samples"
    found = difference(decisions[0], decisions[2], where="decisions")
    if example.draws:
        assert found, "another seed gives the same choices: drop draws=True, or use run.generator"
    else:
        assert not found, f"another seed gives other choices: say draws=True. {found}"


def check_global_random_state(example: Example) -> None:
    """The global generators of Python, NumPy and torch are neither moved nor read.

    Each hook is watched alone; then two trainings and two rehearsals under different global seeds
    are compared.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.PacedRandom(), neutral="...", bad={})
        >>> check_global_random_state(example)
    """
    problem = Problem.make()
    with global_random_state_untouched("the constructor"):
        example.build(problem)
    Rehearsal(example, problem, around=lambda hook, _: global_random_state_untouched(hook)).epochs()
    with global_random_state_untouched("training"):
        training = Training(example, problem, example.build(problem))
        training.run(2)
        repr(training.curriculum)
        training.curriculum.state_dict()
    outcomes = []
    for seed in (1, 2):
        states = RandomStates()
        try:
            torch.default_generator.manual_seed(seed)
            seed_numpy(seed)  # what a method might read
            random.seed(seed)
            training = Training(example, problem, example.build(problem))
            training.run(2)
            outcomes.append((training.batches, Rehearsal(example, problem).epochs()))
        finally:
            states.restore()
    found = difference(*outcomes, where="outcome")
    assert not found, f"training depends on the global random state: {found}"


def check_half_precision(example: Example) -> None:
    """Losses and signals in float16 and bfloat16 work, and mean what they mean in float32.

    Factors are finite, and so is the gradient of the engine's loss, which stays within 5 % of the
    loss for the same numbers in float32.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.Focal(), neutral="...", bad={})
        >>> check_half_precision(example)
    """
    problem = Problem.make()
    for dtype in (torch.float16, torch.bfloat16):
        with failing(f"losses in {dtype}"):
            half = Rehearsal(example, problem, dtype=dtype).epochs()
        for decisions in half:
            for factors in decisions.factors:
                finite = factors is None or bool(torch.isfinite(factors).all())
                assert finite, f"losses in {dtype} give weights that are not finite"
        full = Training(example, problem, example.build(problem))
        narrow = Training(example, problem, example.build(problem))
        index = torch.arange(16)
        losses = problem.losses(0)[index].to(dtype)
        logits = problem.logits(0)[index].to(dtype)
        given = losses.clone().requires_grad_()
        with failing(f"a step with losses in {dtype}"):
            signals = narrow.signals(index, logits)
            narrow.curriculum.criterion(logits, problem.targets[index], index=index)
            loss = narrow.curriculum(given, index=index, **signals)
            loss.backward()
        assert given.grad is not None
        finite = bool(torch.isfinite(loss)) and bool(torch.isfinite(given.grad).all())
        assert finite, f"losses in {dtype} give a loss or gradient that is not finite"
        signals = full.signals(index, logits.float())
        full.curriculum.criterion(logits.float(), problem.targets[index], index=index)
        expected = full.curriculum(losses.float(), index=index, **signals)
        close = torch.isclose(loss.float(), expected, rtol=0.05, atol=1e-3)
        assert close, f"losses in {dtype} give the loss {loss} where float32 gives {expected}"


def check_single_sample(example: Example) -> None:
    """A data set of one sample trains, on that sample, in every epoch.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SPL(), neutral="...", bad={})
        >>> check_single_sample(example)
    """
    problem = Problem.make().first(1)
    with failing("a data set of one sample"):
        training = Training(example, problem, example.build(problem))
        training.run(example.epochs)
    for loss in training.losses:
        assert torch.isfinite(loss), f"a data set of one sample has the loss {loss}"


class Masked(Method):
    """Gives weight 0 to some samples, under the weighted mean."""

    reduction = "weighted_mean"

    def __init__(self, index: torch.Tensor) -> None:
        self.index = index

    def weigh(self, batch: Batch, run: Run) -> torch.Tensor:
        return (~torch.isin(batch.index, self.index)).to(batch.losses.dtype)


def check_zero_weight(example: Example) -> None:
    """Under the weighted mean a sample of weight 0 counts as if it were not in the batch.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SuperLoss(tau="ema"), neutral="...", bad={})
        >>> check_zero_weight(example)
        Traceback (most recent call last):
        AssertionError: weight 0 and removing samples differ: loss and gradient [0]: ...
    """
    problem = Problem.make()
    index = torch.arange(16)
    removed, rest = index[::3], index[torch.arange(16) % 3 != 0]
    results = []
    for rows in (index, rest):
        training = Training(example, problem, example.build(problem), Masked(removed))
        training.run(2)
        if training.curriculum.survey_due:
            training.survey()
        len(training.loader)  # plans the coming epoch, whose weights count as well
        losses = problem.losses(2)[rows].requires_grad_()
        signals = training.signals(rows, problem.logits(2)[rows])
        training.curriculum.criterion(problem.logits(2)[rows], problem.targets[rows], index=rows)
        loss = training.curriculum(losses, index=rows, **signals)
        loss.backward()
        assert losses.grad is not None
        gradient = torch.zeros(problem.size).index_add_(0, rows, losses.grad)
        results.append((loss.detach(), gradient))
    found = difference(*results, tolerance=1e-5, where="loss and gradient ")
    assert not found, f"weight 0 and removing samples differ: {found}"
