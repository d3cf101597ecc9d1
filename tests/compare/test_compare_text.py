"""Texts in `gradatim compare`: transformers, hidden states, pairs and several labels."""

from __future__ import annotations

import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

import gradatim as gr
from gradatim.compare.budget import Budget
from gradatim.compare.cells import run_cell, task_of
from gradatim.compare.data import Samples, Source, load, make_task
from gradatim.compare.data.task import _whole
from gradatim.compare.data.texts import SEGMENT
from gradatim.compare.defaults import resolve
from gradatim.compare.models import build_model, tokenizer_for
from gradatim.compare.models.networks import TextNet
from gradatim.compare.models.pretrained import pretrained
from gradatim.compare.objectives import Objective
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.reading import ask_all, cropped, shows_hidden
from gradatim.compare.settings import Training
from gradatim.compare.training import predict, train

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

WORDS = ["the", "cat", "dog", "bird", "sat", "ran", "sang", "on", "mat", "road", "tree", "not"]
WORDS += ["never", "well", "fast", "today"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a tiny pretrained encoder, as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL + WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def sentences(count, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 12))) for _ in range(count)]


@pytest.fixture(scope="module")
def cola(tmp_path_factory):
    path = tmp_path_factory.mktemp("cola") / "cola.csv"
    rows = [f"{text},{int('not' in text.split())}" for text in sentences(80)]
    path.write_text("\n".join(["sentence,label", *rows]))
    return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    both = zip(sentences(60, 1), sentences(60, 2), strict=True)
    rows = [f"{one},{other},{i % 2}" for i, (one, other) in enumerate(both)]
    path.write_text("\n".join(["sentence1,sentence2,label", *rows]))
    return str(path)


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    """Several labels, between bars in one cell; some texts have none."""
    path = tmp_path_factory.mktemp("topics") / "topics.csv"
    labels = ("cat", "dog", "tree", "not", "fast")
    rows = []
    for text in sentences(80, 3):
        found = [word for word in labels if word in text.split()]
        rows.append(f"{text},{'|'.join(found)}")
    path.write_text("\n".join(["text,topics", *rows]))
    return str(path)


def resolved(data, **values):
    usual = {"seeds": 2, "epochs": 2, "batch_size": 8, "evaluations": 2, "device": "cpu"}
    return resolve(Plan(data, **(usual | values)))[0]


def run(plan, curriculum, seed=0):
    return run_cell(plan, Cell("clean", curriculum, seed))


# ---------------------------------------------------------------- the model and its tokenizer


def test_a_pair_is_read_as_the_model_was_taught_to(bert):
    first, second = ["the cat sat", "dog ran"], ["bird sang well today", "the road"]
    model = pretrained(bert, 2).eval()
    ids = tokenizer_for(bert, 40)(first, second)
    plain = transformers.AutoTokenizer.from_pretrained(bert)(
        first, second, padding=True, return_tensors="pt"
    )
    assert plain["token_type_ids"].sum() == 5 + 3  # words of the second and the mark behind them
    assert torch.equal(ids // SEGMENT, plain["token_type_ids"])
    with torch.no_grad():
        assert torch.equal(model(ids), model.network(**plain).logits)
        one_text = model.network(plain["input_ids"], plain["attention_mask"]).logits
    assert not torch.allclose(model(ids), one_text)


def test_hidden_states_are_those_of_the_last_layer(bert):
    model = pretrained(bert, 3).eval()
    ids = tokenizer_for(bert, 40)(["the cat sat on the mat", "dog ran"])
    plain = transformers.AutoTokenizer.from_pretrained(bert)(
        ["the cat sat on the mat", "dog ran"], padding=True, return_tensors="pt"
    )
    encoder = transformers.AutoModel.from_pretrained(bert).eval()
    with torch.no_grad():
        outputs, hidden, mask = model(ids, hidden=True)
        expected = encoder(**plain).last_hidden_state
        assert torch.equal(outputs, model(ids))
    assert torch.equal(hidden, expected)
    assert torch.equal(mask, plain["attention_mask"])
    assert shows_hidden(model)


def test_a_text_is_the_same_with_and_without_padding(bert):
    model = pretrained(bert, 2).eval()
    ids = tokenizer_for(bert, 40)(["the cat sat on the mat today", "dog ran"])
    short = cropped(model, ids[1:])
    assert short.shape == (1, 4)
    with torch.no_grad():
        assert torch.allclose(model(ids)[1], model(short)[0], atol=1e-6)
    assert cropped(torch.nn.Identity(), ids[1:]).shape == (1, 9)  # only models that ask for it


def test_predictions_come_in_the_order_of_the_samples(bert, monkeypatch):
    monkeypatch.setattr("gradatim.compare.reading.CPU_ROWS", 3)
    model = pretrained(bert, 2)
    ids = tokenizer_for(bert, 40)(sentences(11))
    samples = Samples(ids, torch.arange(11) % 2)
    widths = []
    model.register_forward_pre_hook(lambda module, given: widths.append(given[0].shape[1]))
    outputs, loss = predict(model, samples, Objective("classification"), CPU)
    lengths = (ids != 0).sum(1).sort().values
    assert widths == [int(part.max()) for part in lengths.split(3)]
    assert model.training
    one_by_one = torch.cat([predict(model, part, Objective("classification"), CPU)[0]
                            for part in (Samples(ids[i : i + 1], samples.labels[i : i + 1])
                                         for i in range(11))])  # fmt: skip
    assert torch.allclose(outputs, one_by_one, atol=1e-6)
    losses = torch.nn.functional.cross_entropy(one_by_one, samples.labels)
    assert loss == pytest.approx(float(losses), abs=1e-6)


def test_hidden_states_of_parts_come_back_whole_and_in_order(bert, monkeypatch):
    model = pretrained(bert, 2).eval()
    ids = tokenizer_for(bert, 40)(sentences(9))
    with torch.no_grad():
        whole, _ = ask_all(model, ids, CPU, hidden=False)
        monkeypatch.setattr("gradatim.compare.reading.CPU_ROWS", 2)
        outputs, signals = ask_all(model, ids, CPU, hidden=True)
        expected, hidden, mask = model(ids, hidden=True)
    assert torch.allclose(outputs, expected, atol=1e-6)
    assert torch.allclose(whole, expected, atol=1e-6)
    assert torch.equal(signals["mask"], mask)
    real = mask.unsqueeze(2).bool()
    assert torch.allclose(signals["hidden"] * real, hidden * real, atol=1e-5)


def test_weights_in_half_precision_train_in_single(bert, tmp_path):
    transformers.AutoModel.from_pretrained(bert, dtype=torch.float16).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    model = pretrained(str(tmp_path), 2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_an_encoder_without_its_weights_is_refused(bert, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "vocab.txt"):
        (tmp_path / name).write_text((Path(bert) / name).read_text())
    weights = load_file(f"{bert}/model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer.1." not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"with the weights of its layers. Got .*, which lacks 16"):
        pretrained(str(tmp_path), 2)


def test_loading_says_nothing_and_leaves_the_loggers_as_they_were(bert, capfd):
    log = transformers.utils.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    pretrained(bert, 2)
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_texts_longer_than_the_model_reads_are_refused_before_anything_runs(cola, bert, tmp_path):
    long = tmp_path / "long.csv"
    rows = [f"{' '.join(['cat'] * 50)},{i % 2}" for i in range(40)]
    long.write_text("\n".join(["sentence,label", *rows]))
    with pytest.raises(ValueError, match=r"max_tokens must be at most 40, what .* Got 52"):
        resolved(str(long), text="sentence", model=bert)
    assert resolved(cola, text="sentence", model=bert).max_tokens == 64  # the longest has 14


def test_texts_are_tokenised_once_for_all_seeds(cola, bert, monkeypatch):
    from gradatim.compare.models.pretrained import Tokenizer

    calls, original = [], Tokenizer.__call__

    def counted(self, texts, second=None):
        calls.append(len(texts))
        return original(self, texts, second)

    monkeypatch.setattr(Tokenizer, "__call__", counted)
    _whole.cache_clear()
    plan = resolved(cola, text="sentence", model=bert)
    tasks = [task_of(plan, Cell("clean", "uniform", seed)) for seed in (0, 1)]
    assert calls == [80]
    assert [len(task.training) for task in tasks] == [48, 48]
    encode = tokenizer_for(bert, 64)
    few = replace(plan.source, limit=20)
    task = make_task(load(few), plan.settings["clean"], seed=0, encode_texts=encode)
    assert calls == [80, 20]  # nobody waits for texts that are not used
    whole = original(encode, load(few).inputs.first)
    at = torch.from_numpy(task.positions["test"])
    width = task.test.features.shape[1]
    assert torch.equal(task.test.features, whole[at][:, :width])


# ---------------------------------------------------------------- SPDCL


class Watch(gr.Method):
    """Notes which samples each epoch trained on."""

    def __init__(self):
        self.epochs = {}

    def records(self, epoch):
        return True

    def observe(self, batch, run):
        if not batch.surveyed:
            self.epochs.setdefault(int(batch.epoch), set()).update(batch.index.tolist())


def trained(model, samples, *methods, epochs=3.0, batch=5):
    from lightning_fabric import Fabric

    settings = Training(
        Budget("epochs", epochs), batch, optimizer="adamw", learning_rate=1e-3, evaluations=1
    )
    return train(
        Fabric(accelerator="cpu", devices=1), model, methods, samples, samples, settings,
        objective=Objective("classification"), score=lambda *_: 0.0, seed=0,
    )  # fmt: skip


def test_the_first_order_is_that_of_the_pretrained_model_as_it_is(bert):
    texts = sentences(20, 5)
    samples = Samples(tokenizer_for(bert, 40)(texts), torch.arange(20) % 2)
    tokens = transformers.AutoTokenizer.from_pretrained(bert)(
        texts, padding=True, return_tensors="pt"
    )
    encoder = transformers.AutoModel.from_pretrained(bert).eval()
    with torch.no_grad():
        norms = gr.scores.nuclear_norm(encoder(**tokens).last_hidden_state, tokens.attention_mask)
    watch = Watch()
    curriculum = gr.SPDCL(shares=2, tie="index")
    done = trained(pretrained(bert, 2), samples, curriculum, watch, epochs=2.0)
    assert watch.epochs[0] == set(norms.argsort()[:10].tolist())
    assert watch.epochs[1] == set(range(20))
    assert [epoch["samples"] for epoch in done.epochs] == [10, 20]
    assert done.samples["survey"] == 20  # t = 2 shows everything: no second survey
    found = curriculum.tables()["norm"][torch.arange(20)]
    assert torch.allclose(found.double(), norms.double(), rtol=1e-5)


class Spy(torch.nn.Module):
    """A model that notes how it is asked."""

    def __init__(self, network):
        super().__init__()
        self.network, self.asked = network, []

    def forward(self, ids, *, hidden=False):
        self.asked.append((hidden, self.training))
        return self.network(ids, hidden=hidden)


@pytest.mark.parametrize(
    ("method", "surveys", "training"),
    [
        (gr.SPDCL(shares=3), {True}, {True}),
        (gr.SPDCL(shares=3, measure="training"), {True}, {True}),
        (
            gr.SPL(pace=gr.pacing.Linear(start_fraction=0.5, epochs=3), survey_every_epochs=1),
            {False},
            {False},
        ),
        (gr.Uniform(), set(), {False}),
    ],
)
def test_hidden_states_are_asked_for_where_a_method_reads_them(method, surveys, training):
    ids = torch.randint(1, 20, (20, 6), generator=torch.Generator().manual_seed(0))
    spy = Spy(TextNet(20, 2))
    epochs = 3 if isinstance(method, gr.SPDCL) else 2
    trained(spy, Samples(ids, torch.arange(20) % 2), method, epochs=float(epochs))
    *asked, evaluation = spy.asked
    assert evaluation == (False, False)
    assert {hidden for hidden, mode in asked if not mode} == surveys  # in eval mode
    assert {hidden for hidden, mode in asked if mode} == training


def test_change_of_norms_decides_from_the_second_epoch_on(bert):
    texts = sentences(30, 6)
    samples = Samples(tokenizer_for(bert, 40)(texts), torch.arange(30) % 2)
    seen = {}
    for change in ("signed", "abs"):
        torch.manual_seed(0)
        watch, method = Watch(), gr.SPDCL(shares=3, change=change, tie="index")
        done = trained(pretrained(bert, 2), samples, method, watch, epochs=2.0)
        assert done.samples["survey"] == 60
        change_of = method.tables()["change"][torch.arange(30)]
        key = change_of if change == "signed" else change_of.abs()
        seen[change] = watch.epochs[1]
        assert watch.epochs[1] == set((-key).argsort(stable=True)[:20].tolist())
    assert len(seen["signed"]) == len(seen["abs"]) == 20


def test_the_default_network_of_texts_shows_hidden_states():
    model = build_model("default", modality="text", shape=(5,), outputs=2, tokens=9, seed=0)
    ids = torch.tensor([[3, 4, 5, 0, 0], [6, 0, 0, 0, 0]])
    outputs, hidden, mask = model(ids, hidden=True)
    assert torch.equal(outputs, model(ids))
    assert hidden.shape == (2, 5, 160)
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    # What the head reads: the mean of vectors, and the strongest of each pattern.
    assert torch.allclose(hidden[0, :3, :64].mean(0), model.embedding(ids[0, :3]).mean(0))


def test_shares_are_as_many_as_show_everything_at_half_of_the_budget(cola, bert):
    for epochs, shares in ((1, 2), (3, 4), (5, 6), (30, 6)):
        plan = resolved(cola, text="sentence", epochs=epochs, curricula="spdcl")
        context = gr.compare.curricula.Context.of(
            task_of(plan, Cell("clean", "spdcl", 0)), seed=0, budget_epochs=epochs
        )
        (method,) = gr.compare.curricula.build(plan.specs[-1], context)
        assert method.shares == shares
    (given,) = gr.compare.curricula.build(
        resolved(cola, text="sentence", curricula="spdcl(shares=3)").specs[-1], context
    )
    assert given.shares == 3


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_texts.py").write_text(
        """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, outputs, tokens):
        super().__init__()
        self.words, self.head = nn.Embedding(tokens, 4), nn.Linear(4, outputs)
    def forward(self, ids):
        return self.head(self.words(ids).mean(1))

class Showing(Plain):
    def forward(self, ids, hidden=False):
        words = self.words(ids)
        outputs = self.head(words.mean(1))
        return (outputs, words, ids != 0) if hidden else outputs

class Wrong(Plain):
    def forward(self, ids, hidden=False):
        words = self.words(ids)
        outputs = self.head(words.mean(1))
        return (outputs, words.mean(1), ids != 0) if hidden else outputs

class Less(Showing):
    def forward(self, ids, hidden=False):
        return super().forward(ids, hidden)[:2] if hidden else super().forward(ids)

def plain(shape, outputs, tokens): return Plain(outputs, tokens)
def showing(shape, outputs, tokens): return Showing(outputs, tokens)
def wrong(shape, outputs, tokens): return Wrong(outputs, tokens)
def less(shape, outputs, tokens): return Less(outputs, tokens)
"""
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    import sys

    sys.modules.pop("own_texts", None)


def test_spdcl_without_hidden_states_is_refused_by_name_before_anything_runs(own, cola):
    with pytest.raises(ValueError, match=r"^curricula must be able to work on the model. Got "
                       r"spdcl, which reads hidden states, and model 'default' shows none. The "
                       r"data are of kind 'table'"):  # fmt: skip
        resolved("iris", curricula="spl,spdcl")
    with pytest.raises(ValueError, match=r"model 'own_texts:plain' shows none. Let its forward "
                       "take hidden=True"):  # fmt: skip
        resolved(cola, text="sentence", model="own_texts:plain", curricula="spl,uniform+spdcl")
    with pytest.raises(ValueError, match=r"called with hidden=True. Got \(2, 2\), \(2, 4\), \(2, "):
        resolved(cola, text="sentence", model="own_texts:wrong", curricula="spdcl")
    with pytest.raises(ValueError, match=r"called with hidden=True. Got tuple of 2"):
        resolved(cola, text="sentence", model="own_texts:less", curricula="spdcl")


def test_a_model_of_ones_own_may_show_hidden_states(own, cola):
    plan = resolved(cola, text="sentence", model="own_texts:showing", curricula="spdcl")
    result = run(plan, "spdcl")
    assert [epoch["samples"] for epoch in result["epochs"]][:2] == [16, 32]
    assert result["samples"]["survey"] == 2 * 48
    assert result["sees"] == ["hidden states of the whole training set before an epoch"]


def test_a_function_with_a_tokenizer_gets_the_ids_of_a_pretrained_model(
    bert, cola, tmp_path, monkeypatch
):
    folder = tmp_path / "encoder"
    shutil.copytree(bert, folder)
    (tmp_path / "own_heads.py").write_text(
        f"""
from transformers import AutoModelForSequenceClassification
from gradatim.compare.models import Pretrained

def head(shape, outputs):
    network = AutoModelForSequenceClassification.from_pretrained(head.tokenizer, num_labels=outputs)
    return Pretrained(network, segments=True)

head.tokenizer = {str(folder)!r}
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_heads", raising=False)
    assert tokenizer_for("own_heads:head", 40) == tokenizer_for(str(folder), 40)
    ids = tokenizer_for("own_heads:head", 40)(["the cat sat", "dog ran"], ["a dog", "the mat"])
    own, same = (
        build_model(name, modality="text", shape=(ids.shape[1],), outputs=2, seed=3).eval()
        for name in ("own_heads:head", bert)
    )
    torch.testing.assert_close(own(ids), same(ids))
    plan = resolved(cola, text="sentence", model="own_heads:head", curricula="spdcl")
    assert plan.versions["transformers"] == transformers.__version__
    with (folder / "config.json").open("a") as config:
        config.write("\n")
    changed = resolved(cola, text="sentence", model="own_heads:head", curricula="spdcl")
    assert changed.fingerprint != plan.fingerprint
    sys.modules.pop("own_heads")


@pytest.mark.parametrize("value", ["", 3, str.split])
def test_a_tokenizer_that_is_no_name_is_refused(value, monkeypatch):
    module = ModuleType("own_wrong_heads")
    module.head = lambda shape, outputs: None
    module.head.tokenizer = value
    monkeypatch.setitem(sys.modules, "own_wrong_heads", module)
    with pytest.raises(ValueError, match="tokenizer must be None or a transformers name or folder"):
        tokenizer_for("own_wrong_heads:head", 8)


# ---------------------------------------------------------------- whole comparisons

CURRICULA = (
    "uniform,paced_random,predefined(score=length,label=length),predefined(score=rarity,"
    "label=rarity),predefined,spl,spdcl,spdcl(change=abs,label=absolute),"
    "spdcl(measure=training,label=cheap),dihcl,lerac"
)


@pytest.mark.parametrize(
    "curriculum",
    ["uniform", "paced_random", "length", "rarity", "predefined", "spl", "spdcl", "absolute",
     "cheap", "dihcl", "lerac"],
)  # fmt: skip
def test_every_curriculum_trains_a_pretrained_encoder(curriculum, cola, bert):
    plan = resolved(
        cola, text="sentence", model=bert, curricula=CURRICULA, metric="mcc", epochs=3,
        optimizer="adamw", learning_rate=5e-5, batch_size=8,
    )  # fmt: skip
    result = run(plan, curriculum)
    assert result["steps"] == 18
    assert set(result["scores"]) >= {"mcc", "f1", "accuracy", "macro_f1"}
    assert len(result["test_labels"]) == 16


def test_a_cell_of_a_transformer_gives_the_same_twice(cola, bert):
    plan = resolved(cola, text="sentence", model=bert, curricula="spdcl")
    results = [run(plan, "spdcl") for _ in range(2)]
    assert results[0]["curve"]["validation_loss"] == results[1]["curve"]["validation_loss"]
    assert results[0]["epochs"] == results[1]["epochs"]


def test_pairs_are_read_by_transformers_and_by_the_small_network(pairs, bert):
    columns = {"text": "sentence1", "text_pair": "sentence2"}
    for model in (bert, "default"):
        plan = resolved(pairs, **columns, model=model, curricula="spdcl,predefined", epochs=1)
        task = task_of(plan, Cell("clean", "spdcl", 0))
        second = task.training.features // SEGMENT if model == bert else None
        assert second is None or set(second.unique().tolist()) == {0, 1}
        for curriculum in ("spdcl", "predefined"):
            assert run(plan, curriculum)["steps"] == 4


def test_several_labels_with_a_transformer(topics, bert):
    plan = resolved(
        topics, text="text", label="topics", label_separator="|", model=bert, curricula="spdcl"
    )
    assert plan.metric == "micro_f1"
    result = run(plan, "spdcl")
    assert set(result["scores"]) == {"macro_f1", "micro_f1", "subset_accuracy", "hamming_loss"}
    assert result["test_predictions"].shape == (16, 5)
    assert list(result["by_label_group"]) == ["1-2", "3", "4", "5"]
    assert all(0 <= value <= 1 for value in result["by_label_group"].values())


def test_results_of_several_labels_hold_every_metric(topics, tmp_path):
    from gradatim.compare.command import compare

    plan = Plan(
        topics, text="text", label="topics", label_separator="|", curricula="uniform", seeds=2,
        epochs=1, evaluations=1, device="cpu",
    )  # fmt: skip
    assert compare(plan, tmp_path / "out", jobs=1) == []
    head, first = (tmp_path / "out" / "results.csv").read_text().splitlines()[:2]
    row = dict(zip(head.split(","), first.split(","), strict=True))
    found = json.loads((tmp_path / "out" / "results.json").read_text())["cells"][0]
    for name in ("micro_f1", "macro_f1", "subset_accuracy", "hamming_loss"):
        assert float(row[f"test_{name}"]) == found["scores"][name]
    for group, value in found["by_label_group"].items():
        assert float(row[f"test_macro_f1_labels_{group}"]) == value
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Labels by frequency" in report
    assert "labels 1 to 2" in report


@pytest.mark.parametrize("curriculum", ["uniform", "spdcl"])
def test_several_labels_in_folds_have_groups_as_well(curriculum, topics):
    from gradatim.compare.folds import pooled

    plan = resolved(
        topics, text="text", label="topics", label_separator="|", curricula="spdcl", folds=2,
        epochs=1,
    )  # fmt: skip
    parts = [run_cell(plan, Cell("clean", curriculum, 0, fold=fold)) for fold in (1, 2)]
    loaded = load(plan.source)
    whole = pooled(plan, parts, kind=loaded.kind, names=loaded.label_names)
    assert list(whole["by_label_group"]) == ["1-2", "3", "4", "5"]


def test_lists_and_columns_of_labels_mean_the_same(tmp_path):
    texts = sentences(30, 4)
    labels = [[word for word in ("cat", "dog") if word in text.split()] for text in texts]
    both = list(zip(texts, labels, strict=True))
    rows = [json.dumps({"text": text, "topics": names}) for text, names in both]
    (tmp_path / "lists.jsonl").write_text("\n".join(rows))
    rows = [f"{text},{int('cat' in names)},{int('dog' in names)}" for text, names in both]
    (tmp_path / "columns.csv").write_text("\n".join(["text,cat,dog", *rows]))
    lists = load(Source(str(tmp_path / "lists.jsonl"), text="text", label="topics"))
    columns = load(Source(str(tmp_path / "columns.csv"), text="text", label=("cat", "dog")))
    assert lists.kind == columns.kind == "multilabel"
    assert lists.label_names == columns.label_names
    assert (lists.targets == columns.targets).all()


def test_the_loss_of_several_labels_is_the_mean_over_them():
    logits, labels = torch.tensor([[0.0, 2.0], [-1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    losses = Objective("multilabel").losses(logits, labels)
    p = torch.sigmoid(logits)
    each = -(labels * p.log() + (1 - labels) * (1 - p).log())
    assert torch.allclose(losses, each.mean(1))


# ---------------------------------------------------------------- plans


def test_the_plan_of_a_transformer_names_versions_and_weights(cola, bert, tmp_path):
    plan = resolved(cola, text="sentence", model=bert)
    assert plan.versions["transformers"] == transformers.__version__
    assert "tokenizers" in plan.versions
    assert list(plan.versions) == sorted(plan.versions)
    same = resolved(cola, text="sentence", model=bert)
    assert same.fingerprint == plan.fingerprint
    other = tmp_path / "other"
    model = transformers.AutoModel.from_pretrained(bert)
    torch.nn.init.zeros_(model.pooler.dense.bias.data).add_(1)
    model.save_pretrained(other)
    (other / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    assert resolved(cola, text="sentence", model=str(other)).fingerprint != plan.fingerprint


def test_other_plans_name_no_transformers(cola):
    plan = resolved(cola, text="sentence")
    assert "transformers" not in plan.versions


def test_f1_is_for_two_classes(cola):
    assert resolved(cola, text="sentence", metric="f1").metric == "f1"
    with pytest.raises(ValueError, match=r"metric must be one for classification: .* Got 'f1'"):
        resolved("iris", metric="f1")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("column", ["sentence1", "sentence2"])
@pytest.mark.parametrize("cell", ["", "  ", '""'])
def test_empty_texts_are_refused_with_their_row(column, cell, tmp_path):
    rows = [{"sentence1": "a cat", "sentence2": "a dog", "label": str(i % 2)} for i in range(12)]
    rows[7][column] = cell
    lines = [",".join(row.values()) for row in rows]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["sentence1,sentence2,label", *lines]))
    source = Source(str(path), text="sentence1", text_pair="sentence2", label="label")
    with pytest.raises(ValueError, match=f"text '{column}' must be non-empty .* none in row 7"):
        load(source)


@pytest.mark.parametrize(
    ("label", "task", "message"),
    [
        ([[1.0, 0.0], [1.0]], "regression", "label must be lists of numbers of one length"),
        ([["a"], ["b"]], "classification", "task must be multilabel for lists of labels"),
        (["a", "b"], "multilabel", "label must be 0/1 columns or lists for multilabel"),
    ],
)
def test_labels_of_a_wrong_shape_are_refused(label, task, message, tmp_path):
    rows = [json.dumps({"text": f"a cat {i}", "label": label[i % 2]}) for i in range(12)]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(rows))
    with pytest.raises(ValueError, match=message):
        load(Source(str(path), text="text", label="label", task=task))
