"""The contract that every method and part keeps, for ours and for yours.

Ten lines check a method of your own, with or without a test framework:

    >>> import torch, gradatim as gr
    >>> from gradatim import testing
    >>> class EveryOther(gr.Method):
    ...     def plan(self, pool, run):
    ...         return pool.keep(torch.arange(run.epoch % 2, pool.index.numel(), 2))
    >>> testing.check_method(testing.Example(
    ...     build=lambda problem: EveryOther(),
    ...     neutral="it always leaves out half of the data",
    ...     bad={},
    ... ))
    Traceback (most recent call last):
    AssertionError: relabelling: relabelling the samples changes more than their labels: ...

An `Example` says how to build the method, which values its parameters must refuse, and, with a
reason, which checks do not apply to it. `check_method` runs them all; each is a function of its
own, and `METHOD_CHECKS` lists them by name for one test each. Paces, weightings, draws and scores
have their own: `check_pace`, `check_weighting`, `check_draw`, `check_score`, and `check_function`
for whatever else is public.

A check raises AssertionError and says what was tried and what came of it. Nothing here needs
pytest, touches a global generator, or takes longer than a second or two.
"""

from gradatim.testing.bad_values import (
    Bad,
    bad_callables,
    bad_choices,
    bad_counts,
    bad_generators,
    bad_numbers,
    bad_vectors,
    check_refusals,
)
from gradatim.testing.differences import difference, global_random_state_untouched, unchanged
from gradatim.testing.examples import Example, PaceExample, PartExample
from gradatim.testing.hook_checks import (
    check_copies,
    check_decisions,
    check_distinct,
    check_empty_batch,
    check_inputs,
    check_planned_size,
    check_relabelling,
    check_scores_stand,
)
from gradatim.testing.method_checks import (
    METHOD_CHECKS,
    check_bad_values,
    check_method,
    check_references,
    check_repr,
    rebuilt,
)
from gradatim.testing.pace_checks import PACE_CHECKS, check_pace
from gradatim.testing.part_checks import (
    DRAW_CHECKS,
    FUNCTION_CHECKS,
    SCORE_CHECKS,
    WEIGHTING_CHECKS,
    check_draw,
    check_function,
    check_score,
    check_weighting,
)
from gradatim.testing.problems import Problem
from gradatim.testing.rehearsals import Decisions, Rehearsal
from gradatim.testing.running import run_checks
from gradatim.testing.training_checks import (
    check_global_random_state,
    check_half_precision,
    check_neutral,
    check_resume,
    check_return,
    check_saved_state,
    check_seeds,
    check_single_sample,
    check_zero_weight,
)
from gradatim.testing.trainings import PlainTraining, Training

__all__ = [
    "DRAW_CHECKS",
    "FUNCTION_CHECKS",
    "METHOD_CHECKS",
    "PACE_CHECKS",
    "SCORE_CHECKS",
    "WEIGHTING_CHECKS",
    "Bad",
    "Decisions",
    "Example",
    "PaceExample",
    "PartExample",
    "PlainTraining",
    "Problem",
    "Rehearsal",
    "Training",
    "bad_callables",
    "bad_choices",
    "bad_counts",
    "bad_generators",
    "bad_numbers",
    "bad_vectors",
    "check_bad_values",
    "check_copies",
    "check_decisions",
    "check_distinct",
    "check_draw",
    "check_empty_batch",
    "check_function",
    "check_global_random_state",
    "check_half_precision",
    "check_inputs",
    "check_method",
    "check_neutral",
    "check_pace",
    "check_planned_size",
    "check_references",
    "check_refusals",
    "check_relabelling",
    "check_repr",
    "check_resume",
    "check_return",
    "check_saved_state",
    "check_score",
    "check_scores_stand",
    "check_seeds",
    "check_single_sample",
    "check_weighting",
    "check_zero_weight",
    "difference",
    "global_random_state_untouched",
    "rebuilt",
    "run_checks",
    "unchanged",
]
