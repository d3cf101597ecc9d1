import copy
import importlib
import pickle
import random
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from gradatim.compare.models import ConvNet, TextNet, build_model, perceptron, tokenizer_for
from gradatim.compare.models.pretrained import Pretrained, Tokenizer

CASES = {
    "table": {"shape": (7,)},
    "image": {"shape": (3, 32, 32)},
    "grey": {"modality": "image", "shape": (1, 28, 28)},
    "tiny": {"modality": "image", "shape": (1, 8, 9)},
    "large": {"modality": "image", "shape": (3, 97, 64)},
    "spectrogram": {"shape": (1, 40, 75)},
    "text": {"shape": (12,), "tokens": 50},
}


def model_of(case, *, seed=0, outputs=4, **changes):
    arguments = {"modality": case, "outputs": outputs, "seed": seed, **CASES[case], **changes}
    return build_model("default", **arguments)


def batch_of(case, size=6):
    generator = torch.Generator().manual_seed(1)
    modality, shape = CASES[case].get("modality", case), CASES[case]["shape"]
    if modality == "image":
        return torch.randint(0, 256, (size, *shape), generator=generator, dtype=torch.uint8)
    if modality == "text":
        return torch.randint(0, 50, (size, *shape), generator=generator)
    return torch.rand(size, *shape, generator=generator)


def fit(model, inputs, targets, *, epochs, rate=0.1, size=64):
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(size):
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    return model


def accuracy(model, inputs, targets):
    with torch.no_grad():
        return float((model(inputs).argmax(1) == targets).float().mean())


# ---------------------------------------------------------------- all defaults


@pytest.mark.parametrize("case", CASES)
def test_defaults_map_a_batch_to_outputs_and_train_every_weight(case):
    model, batch = model_of(case), batch_of(case)
    before = batch.clone()
    answer = model(batch)
    assert answer.shape == (6, 4)
    answer.square().sum().backward()
    assert torch.equal(batch, before)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("case", CASES)
def test_initial_weights_depend_on_the_seed_and_leave_the_global_generators_alone(case):
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (model_of(case, seed=seed).state_dict() for seed in (2, 2, 3))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("case", CASES)
def test_defaults_can_be_copied_pickled_and_saved(case):
    model, batch = model_of(case).eval(), batch_of(case)
    expected = model(batch)
    copied, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    loaded = model_of(case, seed=9).eval()
    loaded.load_state_dict(model.state_dict())
    for twin in (copied, pickled, loaded):
        assert torch.equal(twin(batch), expected)


@pytest.mark.parametrize("case", CASES)
def test_defaults_work_under_autocast(case):
    with torch.autocast("cpu", torch.bfloat16):
        answer = model_of(case)(batch_of(case))
        answer.float().sum().backward()
    assert bool(answer.isfinite().all())
    assert answer.dtype == torch.bfloat16


@pytest.mark.parametrize("case", ["table", "image", "spectrogram", "text"])
def test_defaults_work_compiled(case):
    model, batch = model_of(case).eval(), batch_of(case)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(batch), model(batch))


@pytest.mark.parametrize("case", ["image", "grey", "tiny", "spectrogram"])
def test_convolutional_defaults_are_small(case):
    assert 50_000 < sum(p.numel() for p in model_of(case).parameters()) < 300_000


# ---------------------------------------------------------------- what they see and learn


def test_images_of_bytes_and_of_fractions_are_the_same_to_the_network():
    model = model_of("image").eval()
    pixels = batch_of("image")
    with torch.no_grad():
        assert torch.allclose(model(pixels), model(pixels.float() / 255), atol=1e-6)


def test_the_first_convolution_brings_any_size_to_about_the_same_grid():
    for side, expected in ((8, 8), (14, 14), (28, 14), (32, 16), (64, 16), (224, 14)):
        first = ConvNet(1, side, side, 2).features[0]
        assert first(torch.zeros(1, 1, side, side)).shape[2:] == (expected, expected)


def test_padding_says_nothing_to_the_text_network():
    model = model_of("text").eval()
    short = torch.tensor([[7, 8, 9]])
    padded = F.pad(short, (0, 9))
    with torch.no_grad():
        assert torch.allclose(model(short), model(padded), atol=1e-6)
        assert bool(model(torch.zeros(1, 5, dtype=torch.int64)).isfinite().all())
        assert not torch.allclose(model(short), model(torch.tensor([[9, 8, 7]])), atol=1e-6)


def test_the_image_network_learns_digits():
    data = load_digits()
    images = torch.from_numpy(np.minimum(data.images * 16, 255).astype(np.uint8))[:, None]
    labels = torch.from_numpy(data.target).long()
    model = model_of("tiny", outputs=10, shape=(1, 8, 8))
    fit(model, images[:1000], labels[:1000], epochs=4)
    assert accuracy(model, images[1000:], labels[1000:]) > 0.9


def test_the_text_network_learns_words_and_their_order():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 50, (600, 12), generator=generator)
    labels = torch.arange(600) % 2
    # "2 3" against "3 2": bags of words cannot tell.
    ids[:, 5:7] = torch.where(labels[:, None] == 1, torch.tensor([2, 3]), torch.tensor([3, 2]))
    model = model_of("text", outputs=2)
    fit(model, ids[:400], labels[:400], epochs=15)
    assert accuracy(model, ids[400:], labels[400:]) > 0.9


def test_the_spectrogram_network_learns_pitch():
    generator = torch.Generator().manual_seed(0)
    sounds = 0.3 * torch.rand(240, 1, 40, 75, generator=generator)
    labels = torch.arange(240) % 3
    for label in range(3):
        sounds[labels == label, :, 5 + 12 * label : 9 + 12 * label, 20:50] += 0.5
    model = model_of("spectrogram", outputs=3)
    fit(model, sounds[:160], labels[:160], epochs=6, size=32)
    assert accuracy(model, sounds[160:], labels[160:]) > 0.9


def test_the_table_default_is_the_perceptron():
    model, own = model_of("table", seed=5), perceptron(7, 4, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), own.parameters(), strict=True))


# ---------------------------------------------------------------- users' own models


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(
        """
import random
import numpy as np
import torch
from torch import nn

def linear(shape, outputs):
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), outputs))
    model.draws = (random.random(), np.random.rand(), float(torch.rand(())))
    return model

def frozen(shape, outputs):
    model = nn.Sequential(nn.BatchNorm1d(shape[0]), nn.Dropout(), nn.Linear(shape[0], outputs))
    model[0].eval()
    return model

def lazy(shape, outputs):
    return nn.LazyLinear(outputs)

def words(shape, outputs, tokens):
    head = nn.Linear(outputs * shape[0], outputs)
    return nn.Sequential(nn.Embedding(tokens, outputs), nn.Flatten(), head)

def wide(shape, outputs):
    return nn.Linear(shape[0], outputs + 1)

def flat(shape, outputs):
    return nn.Sequential(nn.Linear(shape[0], 1), nn.Flatten(0))

def nothing(shape, outputs):
    return "a model"

def fails(shape, outputs):
    raise KeyError("weights")

def mismatched(shape, outputs):
    return nn.Linear(shape[0] + 1, outputs)

constant = 3
"""
    )
    (tmp_path / "broken_models.py").write_text("import a_module_that_is_missing")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("own_models", None)


def built(name, *, modality="table", shape=(5,), outputs=3, tokens=None, seed=0):
    return build_model(
        name, modality=modality, shape=shape, outputs=outputs, tokens=tokens, seed=seed
    )


def test_a_users_function_is_called_at_the_seed_and_leaves_no_trace(own):
    states = torch.get_rng_state(), random.getstate()
    one, again, other = (built("own_models:linear", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert torch.equal(one[1].weight, again[1].weight)
    assert not torch.equal(one[1].weight, other[1].weight)
    assert one.draws == again.draws
    assert all(a != b for a, b in zip(one.draws, other.draws, strict=True))


def test_the_modes_of_a_users_model_are_its_own(own):
    model = built("own_models:frozen")
    assert [module.training for module in model] == [False, True, True]
    assert float(model[0].running_mean.abs().sum()) == 0


def test_a_users_lazy_model_is_complete_when_it_comes_back(own):
    assert built("own_models:lazy").weight.shape == (3, 5)


def test_a_users_function_gets_the_number_of_tokens_if_it_asks(own):
    model = built("own_models:words", modality="text", shape=(4,), tokens=30)
    assert model[0].num_embeddings == 30


def test_one_output_may_come_without_a_dimension(own):
    assert built("own_models:flat", outputs=1)(torch.zeros(2, 5)).shape == (2,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_models:lineer", r"attribute of own_models. Got 'lineer'. Did you mean 'linear'"),
        ("missing_models:net", r"can be imported. Got 'missing_models:net'. ModuleNotFoundError"),
        ("broken_models:net", r"ModuleNotFoundError: No module named 'a_module_that_is_missing'"),
        ("own_models:constant", r"must be a function \(shape, outputs\)"),
        ("own_models:nothing", r"returns a torch.nn.Module. Got str from own_models:nothing"),
        ("own_models:fails", r"own_models:fails, which fails: KeyError: 'weights'"),
        ("own_models:wide", r"shape \(2, 3\). Got \(2, 4\) from own_models:wide"),
        ("own_models:mismatched", r"\(B, 5\). Got own_models:mismatched, which fails: Runtime"),
        (":net", r"written as package.module:attribute. Got ':net'"),
        ("own_models:", r"written as package.module:attribute"),
        ("defautl", r"Got 'defautl'. Did you mean 'default'\?"),
        ("bert-base", r"Got 'bert-base'. The data are of kind 'table'"),
    ],
)
def test_models_that_cannot_be_had_cost_one_line(own, name, message):
    with pytest.raises(ValueError, match=message) as refused:
        built(name)
    assert str(refused.value).startswith("model must be ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": "tabel"}, "modality must be one of .* Did you mean 'table'"),
        ({"outputs": 0}, "outputs must be a whole number, at least 1"),
        ({"shape": (3, 8)}, r"shape must be \(F,\) for modality 'table'. Got \(3, 8\)"),
        ({"modality": "image"}, r"shape must be \(C, H, W\) for modality 'image'"),
        ({"shape": (0,)}, "shape must be a whole number, at least 1"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
    ],
)
def test_bad_parameters_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        built("default", **changes)


def test_texts_need_the_number_of_tokens():
    with pytest.raises(TypeError, match="tokens must be a whole number, at least 2"):
        built("default", modality="text")


# ---------------------------------------------------------------- pretrained models


class Network(nn.Module):
    """What transformers' models look like from outside."""

    def __init__(self, outputs, pad=None, end=None):
        super().__init__()
        self.config = SimpleNamespace(pad_token_id=pad, eos_token_id=end)
        self.head = nn.Linear(1, outputs)

    def forward(self, input_ids, attention_mask):
        self.seen = input_ids, attention_mask
        mean = (input_ids * attention_mask).sum(1) / attention_mask.sum(1)
        return SimpleNamespace(logits=self.head(mean.unsqueeze(1)))


class Words:
    """What transformers' tokenizers look like from outside: 0 starts a text, as RoBERTa's."""

    def __len__(self):
        return 100

    def __call__(self, texts, pairs, *, truncation, max_length, return_attention_mask):
        assert truncation
        assert not return_attention_mask
        both = [text.split() for text in texts]
        if pairs is not None:
            both = [one + other.split() for one, other in zip(both, pairs, strict=True)]
        return {"input_ids": [[0, *map(len, words)][:max_length] for words in both]}


@pytest.fixture
def transformers(monkeypatch):
    def from_pretrained(name, *, num_labels, ignore_mismatched_sizes, dtype, output_loading_info):
        assert dtype == torch.float32
        if name == "missing":
            raise OSError("missing is not a local folder\nand no model")
        return Network(num_labels, pad=1).eval(), {"missing_keys": {"head.weight"}}

    module = ModuleType("transformers")
    module.AutoModelForSequenceClassification = SimpleNamespace(from_pretrained=from_pretrained)
    module.AutoTokenizer = SimpleNamespace(from_pretrained=lambda name: Words())
    log = SimpleNamespace(
        get_verbosity=lambda: 30,
        is_progress_bar_enabled=lambda: True,
        set_verbosity=lambda level: None,
        set_verbosity_error=lambda: None,
        disable_progress_bar=lambda: None,
        enable_progress_bar=lambda: None,
    )
    module.utils = SimpleNamespace(logging=log)
    monkeypatch.setitem(sys.modules, "transformers", module)


def test_ids_of_a_tokenizer_come_to_its_model_as_they_were(transformers):
    tokenizer = tokenizer_for("some/model", 3)
    ids = tokenizer(["a bb ccc", "dd"])
    assert ids.tolist() == [[1, 2, 3], [1, 3, 0]]  # each one higher: 0 is for padding
    assert ids.dtype == torch.int64
    assert tokenizer(["a"], ["bb"]).tolist() == [[1, 2, 3]]
    assert tokenizer([]).shape[0] == 0
    assert tokenizer.tokens == 101
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    model = built("some/model", modality="text", shape=(3,), outputs=2)
    assert model(ids).shape == (2, 2)
    own, mask = model.network.seen
    assert own.tolist() == [[0, 1, 2], [0, 2, 1]]  # 1 is what this model pads with
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert model.training
    assert model.network.training


def test_heads_of_pretrained_models_depend_on_the_seed(transformers):
    state = torch.get_rng_state()
    one, again, other = (
        built("some/model", modality="text", shape=(3,), seed=seed).network.head.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_models_without_padding_pad_with_the_end():
    assert Pretrained(Network(2, end=7)).padding == 7
    assert Pretrained(Network(2)).network.config.pad_token_id == 0


def test_a_pretrained_model_that_cannot_be_loaded_costs_one_line(transformers):
    with pytest.raises(
        ValueError, match=r"Got 'missing'\. missing is not a local folder"
    ) as refused:
        built("missing", modality="text", shape=(3,))
    assert "\n" not in str(refused.value)


def test_missing_transformers_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install transformers"):
        built("some/model", modality="text", shape=(3,))
    with pytest.raises(ImportError, match="must have transformers installed"):
        Tokenizer("some/other", 3)(["a"])


@pytest.mark.parametrize("name", ["default", "own_models:words"])
def test_other_models_need_no_tokenizer(own, name):
    assert tokenizer_for(name, 8) is None
    with pytest.raises(ValueError, match="max_tokens must be a whole number, at least 1"):
        tokenizer_for(name, 0)


def test_a_real_transformer_made_from_a_configuration(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    config = transformers.BertConfig(
        vocab_size=7,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    ids = tokenizer_for(str(tmp_path), 8)(["good bad", "good"])
    assert ids.tolist() == [[3, 6, 7, 4], [3, 6, 4, 0]]
    model = built(str(tmp_path), modality="text", shape=(4,), outputs=3).eval()
    assert model(ids).shape == (2, 3)
    assert torch.allclose(model(ids)[1], model(ids[1:, :3])[0], atol=1e-5)


def test_text_networks_refuse_nothing_that_tokens_allow():
    assert TextNet(2, 1)(torch.tensor([[1, 0]])).shape == (1, 1)
