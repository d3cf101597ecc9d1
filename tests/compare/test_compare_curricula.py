import importlib
import math
import sys
import warnings
from dataclasses import replace

import pytest
import torch

import gradatim as gr
from gradatim.compare import catalogue
from gradatim.compare.contexts import SCORES, Context
from gradatim.compare.curricula import (
    BASELINE,
    CONTROLS,
    CURRICULA,
    Recipe,
    build,
    check,
    check_all,
    known_methods,
    sees,
)
from gradatim.compare.curricula import teacher_scores as reexported
from gradatim.compare.data import Samples, digits
from gradatim.compare.specs import CurriculumSpec, parse_curricula
from gradatim.compare.teachers import teacher_scores


def spec(text):
    (found,) = parse_curricula(text)
    return found


def made(text, context):
    (method,) = build(spec(text), context)
    return method


@pytest.fixture(scope="module")
def context():
    return Context(digits("noisy", seed=0).training, seed=0, budget_epochs=30)


def small(labels, features=None, **changes):
    labels = torch.as_tensor(labels)
    features = torch.zeros(len(labels), 2) if features is None else features
    return Context(Samples(features, labels), seed=0, budget_epochs=6, **changes)


TEXTS = small(
    [0, 1, 0, 1], torch.tensor([[2, 3, 0], [2, 0, 0], [2, 2, 4], [2, 2, 0]]), modality="text"
)

# ---------------------------------------------------------------- names


def test_plain_names_build_what_they_always_did(context):
    pace = context.pace()
    assert pace == gr.pacing.Linear(start_fraction=0.5, epochs=20.0)
    expected = {
        "uniform": gr.Uniform(),
        "paced_random": gr.PacedRandom(pace=pace),
        "predefined": gr.Predefined(score=context.scores, pace=pace),
        "anti": gr.Predefined(score=context.scores, pace=pace, order="anti"),
        "spl": gr.SPL(pace=pace, survey_every_epochs=1),
        "spld": gr.SPLD(context.training.labels, pace=pace, survey_every_epochs=1),
        "super_loss": gr.SuperLoss(),
    }
    assert list(CURRICULA) == list(expected)
    assert (BASELINE, CONTROLS) == ("uniform", ("uniform", "paced_random"))
    for name, method in expected.items():
        assert repr(CURRICULA[name].build(context)) == repr(made(name, context)) == repr(method)


def test_plain_names_see_what_they_always_did():
    teacher = "training labels, through a 5-fold teacher"
    survey = "losses of the whole training set before an epoch"
    assert {name: recipe.sees for name, recipe in CURRICULA.items()} == {
        "uniform": (),
        "paced_random": (),
        "predefined": (teacher,),
        "anti": (teacher,),
        "spl": (survey,),
        "spld": (survey, "training labels, as groups"),
        "super_loss": (),
    }


@pytest.mark.parametrize("name", ["SuperLoss", "super_loss", "super-loss", "SUPERLOSS"])
def test_any_spelling_will_do(name, context):
    assert isinstance(made(f"{name}(lam=.5)", context), gr.SuperLoss)
    assert check(spec(name)).name == "super_loss"


def test_every_method_of_gradatim_can_be_compared(context):
    classes = {getattr(gr, name) for name in gr.__all__ if isinstance(getattr(gr, name), type)}
    methods = {kind for kind in classes if issubclass(kind, gr.Method) and kind is not gr.Method}
    assert set(known_methods().values()) == methods
    for name, kind in known_methods().items():
        assert check(CurriculumSpec(name)) == CurriculumSpec(name)
        assert [type(method) for method in build(CurriculumSpec(name), context)] == [kind]
        assert isinstance(sees(CurriculumSpec(name)), tuple)


def test_a_method_that_joins_gradatim_needs_no_edit_here(monkeypatch, context):
    class StepByStep(gr.Method):
        """Learns layer by layer."""

        def __init__(self, groups, classes, budget_epochs, *, pace=None, decay=0.5):
            self.given = (groups, classes, budget_epochs, pace, decay)

    monkeypatch.setattr(gr, "StepByStep", StepByStep, raising=False)
    monkeypatch.setattr(gr, "__all__", [*gr.__all__, "StepByStep"])
    groups, classes, epochs, pace, decay = made("step_by_step(decay=.9)", context).given
    assert torch.equal(groups, context.training.labels)
    assert (classes, epochs, pace, decay) == (10, 30, context.pace(), 0.9)
    assert sees(spec("Step-By-Step")) == ("training labels, as groups",)
    assert [entry.name for entry in catalogue.methods()][-1] == "stepbystep"


def test_a_plus_joins_methods_in_one_curriculum(context):
    joined = spec("LeRaC(epochs=3)+cbs(sigma=.8)+SPL")
    assert check(joined).label == "lerac(epochs=3)+cbs(sigma=0.8)+spl"
    lerac, cbs, spl = build(check(joined), context)
    assert (lerac.epochs, cbs.sigma_at(0), type(spl)) == (3, 0.8, gr.SPL)
    assert cbs.planned_epochs == 30
    assert sees(joined) == sees(spec("spl"))


def test_what_a_comparison_fills_in_for_model_level_methods(context):
    (lerac,) = build(spec("lerac"), context)
    (cbs,) = build(spec("cbs"), context)
    assert (lerac.epochs, cbs.planned_epochs) == (5, 30)
    (short,) = build(spec("lerac"), replace(context, budget_epochs=6))
    assert short.epochs == 1


def test_joined_methods_are_checked_each_and_together():
    with pytest.raises(ValueError, match="lerac has: epochs"):
        check(spec("spl+lerac(epoch=3)"))
    with pytest.raises(ValueError, match="one of 'uniform'"):
        check(spec("spl+lerack"))
    with pytest.raises(TypeError, match=r"go together.*at most one method may set"):
        check(spec("docl+docl"))


@pytest.mark.parametrize(
    ("text", "what"), [("lerac+cbs+lerac(epochs=2)", "two LeRaC"), ("cbs+cbs(sigma=2)", "two CBS")]
)
def test_two_of_all_layers_cannot_be_joined_but_two_of_other_layers_can(text, what):
    with pytest.raises(ValueError, match=f"go together.*{what}, each of all layers"):
        check(spec(text))
    assert len(check(spec("cbs(layers=[conv1])+cbs(sigma=2,layers=[conv2])")).parts) == 2


@pytest.mark.parametrize("text", ["spl+", "+spl", "spl+cbs(label=a)", "spl++cbs"])
def test_what_cannot_be_joined_is_refused_with_its_place(text):
    with pytest.raises(ValueError, match="At character"):
        spec(text)


def test_a_recipe_may_be_replaced(monkeypatch, context):
    monkeypatch.setitem(CURRICULA, "spl", Recipe(lambda context: gr.Uniform()))
    assert isinstance(made("spl", context), gr.Uniform)
    assert isinstance(made("spl(form=linear)", context), gr.SPL)


# ---------------------------------------------------------------- what is filled in


def test_all_that_are_paced_share_the_controls_pace_unless_one_is_given(context):
    for name in ("paced_random", "predefined", "anti", "spl(form=linear)", "spld", "spcl"):
        assert made(name, context).pace == context.pace()
    assert made("spl(pace=shared)", context).pace == context.pace()
    own = made("spl(pace=baby_steps(buckets=4))", context).pace
    assert own == gr.pacing.BabySteps(buckets=4)
    assert made("spl(pace='root(power=3)')", context).pace == gr.pacing.Root(power=3)
    assert made("spl(pace=Root)", context).pace == gr.pacing.Root()
    assert made("spl(growth=1.3)", context).pace is None
    assert made("spl(growth=None)", context).pace == context.pace()


def test_a_comparison_surveys_before_every_epoch_unless_told_otherwise(context):
    for name in ("spl(form=linear)", "spld(gamma=2)"):
        assert made(name, context).survey_every_epochs == 1
    method = made("spl(survey_every_epochs=None)", context)
    assert method.survey_every_epochs is None
    assert sees(spec("spl(survey_every_epochs=None)")) == ()


def test_groups_and_balance_come_from_training_labels(context):
    labels = context.training.labels
    assert torch.equal(made("spld", context).groups, labels)
    assert made("predefined", context).balanced is None
    assert torch.equal(made("predefined(balanced=labels)", context).balanced, labels)
    assert sees(spec("predefined(balanced=labels)")) == (
        "training labels, to balance classes",
        "training labels, through a 5-fold teacher",
    )


def test_groups_of_several_labels_and_of_targets():
    several = small([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], kind="multilabel")
    # Label 1 occurs once and is rarer than label 0; the last sample has none: a group of its own.
    assert several.groups.tolist() == [1, 0, 3]
    targets = small(torch.arange(10.0), kind="regression")
    assert targets.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert made("spld", several).groups.tolist() == [1, 0, 3]
    # Two targets count alike whatever their units. Standardised, the first is (i - 4.5) / 3.03, the
    # second +-0.95: -0.54, -2.10, 0.12, -1.44, 0.78, -0.78, 1.44, -0.12, 2.10, 0.54 in all.
    both = torch.stack([torch.arange(10.0), torch.tensor([1e6, -1e6] * 5)], 1)
    found = small(both, kind="regression").groups
    assert found.tolist() == [1, 0, 2, 0, 3, 1, 4, 2, 4, 3]


def test_scores_are_asked_for_by_name():
    assert made("predefined(score=length)", TEXTS).score.tolist() == [2, 1, 3, 2]
    # Of 8 tokens 6 are "2", 1 "3" and 1 "4": the second text is the likeliest.
    rarity = made("predefined(score=rarity)", TEXTS).score
    assert rarity.argmin() == 1
    assert rarity[1] == pytest.approx(math.log(8 / 6), abs=1e-6)
    words = Context(TEXTS.training, 0, 6, modality="text", texts=["a", "a b c", "a b", ""])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a text has no token
        assert words.score("length").tolist() == [1, 3, 2, 0]
    pixels = torch.zeros(4, 1, 16, 16, dtype=torch.uint8)
    pixels[2] = torch.arange(256).reshape(16, 16)
    images = small([0, 1, 0, 1], pixels, modality="image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("complexity", "grey_entropy", "gradient_magnitude"):
            assert made(f"predefined(score={name})", images).score.argmax() == 2
    assert sees(spec("predefined(score=length)")) == ("lengths of the training texts",)


def test_no_teacher_is_asked_where_the_order_is_random():
    assert made("predefined(order=random)", TEXTS).score is None
    assert sees(spec("predefined(order=random)")) == ()


def test_importance_sampling_scores_by_the_tasks_own_gradients(context):
    assert made("importance_sampling", context).score == "cross_entropy"
    assert made("importance_sampling", small([0.5, 1.5], kind="regression")).score == (
        "squared_error"
    )
    several = small([[1.0, 0.0], [0.0, 1.0]], kind="multilabel")
    assert made("importance_sampling(score=data)", several).score == "loss"
    assert made("importance_sampling(score=loss)", context).score == "loss"


def test_pruning_is_planned_for_the_epochs_that_the_budget_pays(context):
    """30 epochs; with r of the lower half skipped until delta, one costs 1 - r delta / 2."""
    for text, epochs in (
        ("info_batch", 38),  # 30 / (1 - .5 * .875 / 2) = 38.4
        ("info_batch(delta=.5,ratio=.8)", 38),  # 30 / .8 = 37.5
        ("info_batch(planned_epochs=budget,ratio=.8)", 46),  # 30 / .65
        ("info_batch(planned_epochs=7)", 7),
        ("info_batch(ratio=0)", 30),
        ("cbs", 30),
    ):
        assert made(text, context).planned_epochs == epochs, text
    own = replace(context, budget="epochs")
    assert made("info_batch", own).planned_epochs == 30
    with pytest.raises(ValueError, match=r"ratio must be a finite number, at least 0 and below 1"):
        check(spec("info_batch(ratio=1.5)"))


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_data_parameters_are_for_classes(kind):
    message = f"curricula must be able to learn from {kind}. Got data_parameters\\(decay=0.1\\)"
    with pytest.raises(ValueError, match=message):
        check(spec("data_parameters(decay=.1)"), kind=kind)
    assert check(spec("data_parameters")).name == "data_parameters"


def test_a_context_is_made_from_a_task():
    task = digits("noisy", seed=2)
    found = Context.of(task, seed=2, budget_epochs=8, budget="samples")
    assert found.budget == "samples"
    assert found.training is task.training
    assert (found.seed, found.budget_epochs, found.outputs) == (2, 8, 10)
    assert (found.kind, found.modality, found.texts) == (task.kind, task.modality, task.texts)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "spll",
            r"one of 'uniform', 'paced_random', 'predefined'.* Got 'spll'. Did you mean 'spl'",
        ),
        ("SuperLos", r"Got 'SuperLos'. Did you mean 'super_loss'\?"),
        ("quantum", r"or package.module:Class. Got 'quantum'.$"),
        ("my.module.Class", r"Did you mean 'my.module:Class'\?"),
        ("spl(frm=linear)", r"spl has: form, pace, growth.* Got 'frm'. Did you mean 'form'\?"),
        ("uniform(a=1)", r"parameters that uniform has: none. Got 'a'"),
        ("anti(order=random)", r"parameters that anti has: score, pace, mode.* Got 'order'"),
        ("spl(form=liner)", r"buildable. Got spl\(form=liner\): form must be one of .*'linear'"),
        ("spl(warmup_epochs=-1)", r"spl\(warmup_epochs=-1\): warmup_epochs must be a whole"),
        ("spl(pace=liner)", r"pace must be one of 'baby_steps', .* Did you mean 'linear'"),
        ("spl(pace=linear(epoch=3))", r"linear has: start_fraction, epochs. Got 'epoch'. Did you"),
        ("spl(pace=linear(epochs=0))", r"epochs must be a finite number, above 0. Got 0"),
        ("predefined(score=lenght)", r"score must be one of 'teacher', .*Did you mean 'length'"),
        ("math:sqrt", r"subclasses of gradatim.Method. Got 'math:sqrt'"),
        ("missing_module:Class", r"can be imported. Got 'missing_module:Class'. ModuleNotFound"),
        ("gradatim:SPLL", r"an attribute of gradatim. Got 'SPLL'. Did you mean 'SPL'"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_runs(text, message, monkeypatch):
    monkeypatch.setattr(Context, "score", pytest.fail)
    with pytest.raises(ValueError, match=message) as refused:
        check(spec(text))
    assert str(refused.value).startswith("curricula must be ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["super_loss(lam=high)", "spl(pace=3)", "spl(pace=baby_steps)"])
def test_wrong_kinds_are_refused_too(text):
    with pytest.raises(TypeError, match=r"curricula must be buildable. Got ") as refused:
        check(spec(text))
    assert "\n" not in str(refused.value)


def test_scores_that_the_data_do_not_have_are_refused():
    message = "score must be one that data of kind 'image' have: teacher, complexity, .* 'length'"
    with pytest.raises(ValueError, match=message):
        check(spec("predefined(score=length)"), modality="image")
    assert check(spec("predefined(score=length)"), modality="text").name == "predefined"
    with pytest.raises(ValueError, match=r"'table' have: teacher. Got 'complexity'"):
        made("predefined(score=complexity)", small([0, 1]))


def test_the_same_curriculum_in_two_spellings_is_refused():
    with pytest.raises(ValueError, match="one or more different names"):
        check_all(parse_curricula("super_loss,SuperLoss"))
    names = [found.label for found in check_all(parse_curricula("SuperLoss,SPL(form=linear)"))]
    assert names == ["super_loss", "spl(form=linear)"]


def test_checking_builds_nothing_that_costs(monkeypatch):
    trained = []
    monkeypatch.setattr(
        "gradatim.compare.contexts.teacher_scores", lambda *_, **__: trained.append("a teacher")
    )
    for kind in ("classification", "multilabel", "regression"):
        checked = [check(spec(name), kind=kind) for name in CURRICULA]
        assert [found.name for found in checked] == list(CURRICULA)
    assert trained == []


# ---------------------------------------------------------------- users' own classes


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_curricula.py").write_text(
        """
import gradatim as gr

class Needs(gr.Method):
    def __init__(self, score, groups, pace, *, strength, optional=None, labels=None):
        self.given = (score, groups, pace, strength, optional, labels)

class Plain(gr.Method):
    wants = ("embeddings",)
    def __init__(self, alpha=0.5, pace=None, ks=()):
        self.alpha, self.pace, self.ks = alpha, pace, ks
    def survey_due(self, run):
        return True

class Free(gr.Method):
    def __init__(self, **settings):
        self.given = settings

class Fails(gr.Method):
    def __init__(self):
        raise KeyError("weights")

class Pace:
    def __init__(self, epochs):
        self.epochs = epochs
    def __call__(self, t):
        return 1.0
"""
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("own_curricula", None)


def test_a_users_class_is_given_what_it_requires_and_nothing_else(own):
    found = made("own_curricula:Needs(strength=2,score=length)", TEXTS).given
    assert found[0].tolist() == [2, 1, 3, 2]
    assert found[1].tolist() == [0, 1, 0, 1]
    assert found[2:] == (TEXTS.pace(), 2, None, None)
    plain = made("own_curricula:Plain(alpha=.1,ks=[1,2])", TEXTS)
    assert (plain.alpha, plain.pace, plain.ks) == (0.1, None, [1, 2])
    assert made("own_curricula:Plain(pace=linear(epochs=3))", TEXTS).pace == gr.pacing.Linear(
        epochs=3.0
    )
    assert made("own_curricula:Free(a=1,score=mine)", TEXTS).given == {"a": 1, "score": "mine"}
    assert made("spl(pace=own_curricula:Pace(epochs=3))", TEXTS).pace.epochs == 3


def test_what_a_users_class_sees(own):
    assert sees(spec("own_curricula:Needs(strength=2)")) == (
        "training labels, through a 5-fold teacher",
        "training labels, as groups",
    )
    assert sees(spec("own_curricula:Plain")) == (
        "losses of the whole training set before an epoch",
        "embeddings of the batch",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("own_curricula:Needs", r"given what own_curricula:Needs needs: strength.* Write own_curr"),
        ("own_curricula:Plain(alfa=1)", r"own_curricula:Plain has: alpha, .*Did you mean 'alpha'"),
        ("own_curricula:Fails", r"buildable. Got own_curricula:Fails: KeyError: 'weights'"),
        ("own_curricula:Pace", r"subclasses of gradatim.Method. Got 'own_curricula:Pace'"),
    ],
)
def test_a_users_class_that_cannot_be_built_costs_one_line(own, text, message):
    with pytest.raises(ValueError, match=message) as refused:
        check(spec(text))
    assert "\n" not in str(refused.value)


# ---------------------------------------------------------------- teachers


def test_the_teacher_of_a_table_is_the_one_it_was():
    from sklearn.linear_model import LogisticRegression

    training = digits("noisy", seed=3).training
    features, labels = training.features.numpy(), training.labels.numpy()

    def fit_predict(train, held_out):
        model = LogisticRegression(max_iter=1000).fit(features[train], labels[train])
        return torch.from_numpy(model.predict_proba(features[held_out]))

    generator = torch.Generator().manual_seed(3)
    expected = gr.scores.out_of_fold(training.labels, fit_predict, generator=generator)
    found = reexported(training, seed=3)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_a_class_of_one_member_is_no_obstacle_and_counts_as_hardest():
    features = torch.randn(41, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3] * 20 + [7])
    features[:, 0] += 3 * (labels == 3)
    scores = teacher_scores(Samples(features, labels), seed=0)
    assert scores[40] == 1
    assert scores[:40].mean() < 0.3
    alone = teacher_scores(Samples(features, torch.zeros(41, dtype=torch.int64)), seed=0)
    assert alone.tolist() == [0.0] * 41


def hardest(features, labels, **changes):
    scores = teacher_scores(Samples(features, labels), seed=0, **changes)
    assert scores.shape == (len(labels),)
    assert bool(scores.isfinite().all())
    return int(scores.argmax())


def test_teachers_of_every_kind_and_modality_find_the_wrong_label():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    shown = labels.clone()
    shown[7] = 1 - shown[7]
    table = torch.randn(60, 3, generator=generator) + 4 * labels[:, None]
    assert hardest(table, shown) == 7
    pixels = torch.randint(0, 60, (60, 3, 20, 17), generator=generator, dtype=torch.uint8)
    pixels[labels == 1, :, :10] += 150
    assert hardest(pixels, shown, modality="image") == 7
    assert hardest(pixels[:, :1].float() / 255, shown, modality="spectrogram") == 7
    ids = torch.randint(4, 20, (60, 6), generator=generator)
    ids[:, 2] = 2 + labels
    ids[:, 5] = 0
    assert hardest(ids, shown, modality="text") == 7
    both = torch.stack([labels, 1 - labels], 1).float()
    both[7] = 1 - both[7]
    assert hardest(table, both, kind="multilabel") == 7
    assert hardest(ids, both, kind="multilabel", modality="text") == 7
    target = table.sum(1) * 1000
    target[7] += 30_000
    assert hardest(table, target, kind="regression") == 7
    assert hardest(table, torch.stack([target, -target], 1), kind="regression") == 7


def test_targets_of_other_units_do_not_drown_the_rest():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(60, 2, generator=generator)
    targets = torch.stack([table[:, 0], 1e6 * table[:, 1]], 1)
    targets[3, 0] += 10
    assert hardest(table, targets, kind="regression") == 3


def test_teachers_of_large_data_learn_from_a_part(monkeypatch):
    monkeypatch.setattr("gradatim.compare.teachers.MOST_SAMPLES", 20)
    table = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    labels = (table[:, 0] > 0).long()
    one, again = (teacher_scores(Samples(table, labels), seed=0) for _ in range(2))
    assert torch.equal(one, again)
    assert one.mean() < 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "folds must be a whole number, at least 2"),
        ({"kind": "regresion"}, "kind must be one of .* Did you mean 'regression'"),
        ({"modality": "images"}, "modality must be one of .* Did you mean 'image'"),
    ],
)
def test_teachers_refuse_what_they_do_not_know(changes, message):
    with pytest.raises(ValueError, match=message):
        teacher_scores(Samples(torch.zeros(10, 1), torch.arange(10) % 2), seed=0, **changes)


# ---------------------------------------------------------------- the list


def test_the_list_names_every_method_as_the_command_line_takes_it():
    shown = catalogue.show()
    assert max(map(len, shown.splitlines())) <= 100
    for entry in catalogue.methods():
        assert check(CurriculumSpec(entry.name)).name == entry.name
        assert f"\n{entry.name} " in shown or f"\n{entry.name}\n" in shown
        for name, default in entry.parameters:
            assert (f"{name}={default}" if default else name) in shown
    flat = " ".join(shown.split())
    assert "spl Self-paced learning: train on what the model finds easy now" in flat
    assert "form=hard, pace=shared, growth=None" in flat
    assert "survey_every_epochs=1" in flat
    assert "groups=labels" in flat
    assert "score=teacher" in flat
    assert "Kumar et al. 2010" in flat


def test_the_list_shows_what_can_be_written():
    """All that stands in the list can be given as it stands there."""
    for entry in catalogue.methods():
        written = [(name, default) for name, default in entry.parameters if default]
        text = ",".join(f"{name}={default}" for name, default in written)
        checked = check(spec(f"{entry.name}({text})"))
        assert checked.name == entry.name
        assert [name for name, _ in checked.parameters] == [name for name, _ in written]


def test_one_method_is_shown_with_its_parameters_explained():
    shown = catalogue.show(["SPL"])
    assert max(map(len, shown.splitlines())) <= 100
    lines = shown.splitlines()
    assert lines[0] == "spl (gradatim.SPL)"
    at = lines.index("    growth=None")
    assert lines[at + 1].startswith("        by value: mu, above 1; lambda starts where")
    assert "    Kumar et al. 2010: Self-Paced Learning for Latent Variable Models." in shown
    assert catalogue.show(["anti"]) == catalogue.show(["Predefined"])
    assert catalogue.show(["spl", "uniform"]).startswith(shown + "\n\nuniform (gradatim.Uniform)")


def test_what_users_know_by_name_can_be_written_as_it_stands(context):
    shown = catalogue.show()
    for name, text in catalogue.COMPOSED.items():
        assert f"\n{name} " in shown
        assert text in shown
        assert check(spec(text), modality="text").name in ("predefined", "anti")
        assert catalogue.show([name.replace(" ", "_")]) == catalogue.show(["predefined"])
    pace = made(catalogue.COMPOSED["competence"], context).pace
    assert (pace.power, pace.start_fraction, pace.epochs) == (2, 0.01, 10)
    transfer = made(catalogue.COMPOSED["transfer teacher"], context)
    assert isinstance(transfer.pace, gr.pacing.FixedExponential)
    assert torch.equal(transfer.score.double(), context.scores.double())


def test_every_policy_and_every_value_is_listed_apart_from_what_is_compared():
    listed = {entry.name: entry for group in catalogue.others().values() for entry in group}
    assert set(listed) == {
        "DoReMi", "Exp3S", "OnlineDataMixing", "StagedMix",
        "exact_shapley", "gradient_shapley", "knn_shapley", "tmc_shapley",
    }  # fmt: skip
    assert not set(listed) & {entry.name for entry in catalogue.methods()}
    shown = catalogue.show()
    for name, entry in listed.items():
        assert f"\n{name}" in shown
        assert entry.summary.endswith(".")
        assert (name == "StagedMix") == (not entry.papers)
        detail = catalogue.show([name])
        assert max(map(len, detail.splitlines())) <= 100
        assert all(f"\n    {parameter}" in detail for parameter, _ in entry.parameters)


def test_papers_are_cited_as_in_a_text():
    papers = {entry.name: entry.papers for entry in catalogue.methods()}
    assert papers["uniform"] == ()
    assert papers["super_loss"] == ("Castells et al. 2020",)
    two = gr.citations.Reference(
        key="x", authors=("Doe, J.", "Roe, R."), title="T", venue="V", year=2001
    )
    assert catalogue._paper(two) == "Doe and Roe 2001"


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"lists. Got 'splt'. Did you mean 'spl"):
        catalogue.show(["splt"])


def test_every_score_says_what_it_looks_at():
    assert all(modalities and text for modalities, text in SCORES.values())
