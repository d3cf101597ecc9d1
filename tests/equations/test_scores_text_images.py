"""Difficulty scores read off the data: texts and images."""

from __future__ import annotations

import math
import random
import re
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradatim import scores
from gradatim.scores import images as images_module

CORPUS = ["a b a", "a c", "b a d"]


def close(actual: torch.Tensor, expected: object, tolerance: float = 1e-6) -> bool:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    # Of one shape first, since `allclose` would broadcast. pytest shows what was compared.
    return actual.shape == expected.shape and torch.allclose(
        actual, expected, rtol=0, atol=tolerance
    )


# --- Texts ------------------------------------------------------------------------------------


def test_platanios2019_word_rarity_by_hand() -> None:
    # 8 tokens: p(a) = 1/2, p(b) = 1/4, p(c) = p(d) = 1/8.
    assert close(scores.word_rarity(CORPUS), [2.772589, 2.772589, 4.158883])
    assert close(scores.word_rarity(CORPUS, mean=True), [2.772589 / 3, 2.772589 / 2, 4.158883 / 3])


def test_word_rarity_is_not_smoothed_while_all_words_are_known() -> None:
    assert close(scores.word_rarity(["d", "a a"], CORPUS), [math.log(8), 2 * math.log(2)], 1e-12)


def test_word_rarity_adds_one_for_unknown_words_by_hand() -> None:
    # Counts 4, 2, 1, 1 and 0 for unknown, each plus one: 13 in all.
    expected = [math.log(13), math.log(13 / 5), math.log(13 / 2) + math.log(13)]
    assert close(scores.word_rarity(["new", "a", "c newer"], CORPUS), expected, 1e-12)


WORDS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6)
TEXTS = st.lists(WORDS, min_size=1, max_size=6)


@given(TEXTS, TEXTS, st.booleans())
def test_word_rarity_equals_a_slow_loop(
    texts: list[list[str]], corpus: list[list[str]], mean: bool
) -> None:
    pool = [word for text in corpus for word in text]
    unseen = any(word not in pool for text in texts for word in text)

    def cost(word: str) -> float:
        if unseen:
            return -math.log((pool.count(word) + 1) / (len(pool) + len(set(pool)) + 1))
        return -math.log(pool.count(word) / len(pool))

    expected = [sum(map(cost, text)) / (len(text) if mean else 1) for text in texts]
    assert close(scores.word_rarity(texts, corpus, mean=mean), expected, 1e-9)


@given(TEXTS)
def test_rarity_is_nonnegative_and_blind_to_word_order(texts: list[list[str]]) -> None:
    rarity = scores.word_rarity(texts)
    assert (rarity >= 0).all()
    assert close(scores.word_rarity([text[::-1] for text in texts]), rarity, 1e-12)


def test_word_rarity_takes_tokens_tokenizers_and_one_pass_corpora() -> None:
    by_letter = scores.word_rarity(["ab"], iter(["aabb"]), tokenizer=list)
    assert close(by_letter, [2 * math.log(2)], 1e-12)
    assert close(scores.word_rarity([("a", "b")], [["a", "b"]]), [2 * math.log(2)], 1e-12)
    assert close(scores.word_rarity([[5, 5, 6, 7]]), [6 * math.log(2)], 1e-12)


def test_length_counts_tokens() -> None:
    assert scores.length(["a b a", "a"]).tolist() == [3, 1]
    assert scores.length([["[CLS]", "a", "[SEP]"]], special=("[CLS]", "[SEP]")).tolist() == [1]
    assert scores.length(["abc"], tokenizer=list).tolist() == [3]
    assert scores.length(np.array(["a b", "a"])).tolist() == [2, 1]
    assert scores.length([]).shape == (0,)


def test_length_of_padded_ids_excludes_padding_and_special_tokens() -> None:
    ids = torch.tensor([[101, 7, 8, 102, 0], [101, 9, 102, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]])
    assert scores.length(ids, mask).tolist() == [4, 3]
    assert scores.length(ids, mask.bool()).tolist() == [4, 3]
    assert scores.length(ids, mask, special=(101, 102)).tolist() == [2, 1]
    assert scores.length(ids, special=(0,)).tolist() == [4, 3]
    assert scores.length(ids.numpy(), mask.numpy(), special={101, 102}).tolist() == [2, 1]
    assert scores.length(ids, mask).dtype == torch.float64


@given(TEXTS, st.randoms(use_true_random=False))
def test_shuffling_the_texts_shuffles_the_scores(
    texts: list[list[str]], shuffler: random.Random
) -> None:
    order = list(range(len(texts)))
    shuffler.shuffle(order)
    shuffled = [texts[i] for i in order]
    assert torch.equal(scores.length(shuffled), scores.length(texts)[order])
    assert torch.equal(scores.word_rarity(shuffled), scores.word_rarity(texts)[order])


def test_empty_texts_score_zero_and_warn() -> None:
    with pytest.warns(UserWarning, match="1 text has no token and score 0") as caught:
        assert scores.word_rarity(["a b", " "]).tolist()[1] == 0
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="2 texts have no token"):
        assert scores.word_rarity(["", []], mean=True).tolist() == [0, 0]
    with pytest.warns(UserWarning, match="1 text has no token") as caught:
        assert scores.length(["", "a"]).tolist() == [0, 1]
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="1 text has no token"):
        assert scores.length(torch.tensor([[0, 0], [1, 0]]), special=(0,)).tolist() == [0, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores.length(["a"])


IDS = torch.tensor([[1, 2], [3, 0]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: scores.length("a b"),
            TypeError,
            "texts must be several texts, not one string. Got 'a b'. Put it into a list?",
        ),
        (lambda: scores.word_rarity("a b"), TypeError, "texts must be several texts"),
        (lambda: scores.word_rarity(["a"], "a b"), TypeError, "corpus must be several texts"),
        (
            lambda: scores.length([3, 4]),
            TypeError,
            "texts must be strings or sequences of tokens. Got int. Lengths you have already",
        ),
        (lambda: scores.length(3), TypeError, "texts must be a sequence of texts. Got int."),
        (lambda: scores.length(["a"], tokenizer=" "), TypeError, "tokenizer must be callable."),
        (
            lambda: scores.word_rarity(["a"], tokenizer=" "),
            TypeError,
            "tokenizer must be callable. Got ' '.",
        ),
        (
            lambda: scores.length(["a"], special=0),
            ValueError,
            "special must be a collection of tokens. Got 0.",
        ),
        (
            lambda: scores.word_rarity(["a"], []),
            ValueError,
            "corpus must be at least one token long. Got none. An exhausted iterator?",
        ),
        (
            lambda: scores.length(IDS),
            ValueError,
            "mask must be given, or the padding id be in special. Got neither. Without either",
        ),
        (
            lambda: scores.length(torch.tensor([1, 2]), torch.tensor([1, 1])),
            ValueError,
            "texts must be token ids of shape (n, L). Got a tensor of shape (2,) and dtype int64.",
        ),
        (lambda: scores.length(torch.zeros(2, 2), IDS > 0), ValueError, "texts must be token ids"),
        (
            lambda: scores.length(IDS, torch.ones(2, 3)),
            ValueError,
            "mask must be of shape (2, 2), as texts. Got a tensor of shape (2, 3)",
        ),
        (
            lambda: scores.length(IDS, torch.tensor([[0.0, 0.0], [0.0, -1e9]])),
            ValueError,
            "mask must be 0 or 1 everywhere. Got other values. A mask to be added",
        ),
        (
            lambda: scores.length(["a"], torch.ones(1, 1)),
            ValueError,
            "mask must be None unless texts is a tensor of ids. Got texts of type list.",
        ),
        (
            lambda: scores.length(["a"], special="[PAD]"),
            ValueError,
            "special must be a collection of tokens. Got '[PAD]'. Put it into a tuple?",
        ),
        (
            lambda: scores.length(IDS, special=("[PAD]",)),
            ValueError,
            "special must be ids, as texts. Got ('[PAD]',).",
        ),
    ],
)
def test_bad_texts_are_refused_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


# --- Images -----------------------------------------------------------------------------------

IMAGE_SCORES = [scores.grey_entropy, scores.gradient_magnitude, scores.compressed_bits]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def test_constant_images_are_the_easiest() -> None:
    flat = torch.full((2, 64, 64), 37, dtype=torch.uint8)
    assert scores.grey_entropy(flat).tolist() == [0, 0]
    assert scores.gradient_magnitude(flat).tolist() == [0, 0]
    assert (scores.compressed_bits(flat) < 0.1).all()


def test_uniform_noise_is_the_hardest() -> None:
    random_images = noise(3, 64, 64)
    assert (scores.grey_entropy(random_images) > 7.9).all()
    assert (scores.compressed_bits(random_images) > 7.9).all()
    # The mean of |a - b| alone is 85 for independent uniform levels.
    assert (scores.gradient_magnitude(random_images) > 85).all()


def test_image_scores_by_hand() -> None:
    image = torch.tensor([[[0, 3, 3], [4, 4, 3], [4, 4, 4]]], dtype=torch.uint8)
    # Steps right and down as below. Level 0 stands once, 3 three times, 4 five times.
    corners = [(3, 4), (0, 1), (0, 0), (-1, 0)]
    assert close(
        scores.gradient_magnitude(image), [np.mean([math.hypot(*c) for c in corners])], 1e-6
    )
    assert close(scores.grey_entropy(image), [scipy.stats.entropy([1, 3, 5], base=2)], 1e-12)


def test_image_scores_equal_slow_loops() -> None:
    pictures = (noise(4, 9, 7) // 16) * 16
    for i, picture in enumerate(pictures.numpy()):
        counts = np.unique(picture, return_counts=True)[1]
        assert close(scores.grey_entropy(pictures)[i], scipy.stats.entropy(counts, base=2), 1e-12)
        grey = picture.astype(float)
        slopes = [
            math.hypot(grey[y, x + 1] - grey[y, x], grey[y + 1, x] - grey[y, x])
            for y in range(8)
            for x in range(6)
        ]
        assert close(scores.gradient_magnitude(pictures)[i], np.mean(slopes), 1e-4)
        # The zlib format wraps the raw stream in two bytes before and four after.
        size = len(zlib.compress(picture.tobytes(), 9)) - 6
        assert scores.compressed_bits(pictures)[i] == 8 * size / 63


def test_compression_is_at_the_highest_level() -> None:
    picture = (torch.arange(64 * 64) ** 2 // 7 % 23).to(torch.uint8).reshape(1, 64, 64)
    best, fastest = (len(zlib.compress(picture.numpy().tobytes(), level)) - 6 for level in (9, 1))
    assert best < fastest
    assert scores.compressed_bits(picture).tolist() == [8 * best / 4096]


@pytest.mark.parametrize("score", IMAGE_SCORES)
def test_colour_is_weighed_alike_in_both_layouts(score: Callable[..., torch.Tensor]) -> None:
    # Red varies most: as blue, which weighs less, it would leave fewer grey levels.
    colour = noise(3, 3, 16, 16) // torch.tensor([1, 8, 64], dtype=torch.uint8).reshape(3, 1, 1)
    red, green, blue = colour.double().unbind(1)
    grey = (0.299 * red + 0.587 * green + 0.114 * blue + 0.5 + 1e-9).floor().to(torch.uint8)
    expected = score(grey)
    assert torch.equal(score(colour, channels="first"), expected)
    assert torch.equal(score(colour.movedim(1, 3), channels="last"), expected)
    assert torch.equal(score(grey.unsqueeze(1), channels="first"), expected)
    assert torch.equal(score(grey.unsqueeze(3), channels="last"), expected)
    assert not torch.equal(score(colour.flip(1), channels="first"), expected)


def test_grey_pictures_stored_in_colour_score_as_grey() -> None:
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    tripled = grey.unsqueeze(1).expand(1, 3, 16, 16)
    for score in IMAGE_SCORES:
        assert torch.equal(score(tripled, channels="first"), score(grey))


@pytest.mark.parametrize("score", IMAGE_SCORES)
def test_images_are_scored_each_for_itself(
    score: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = noise(7, 8, 8)
    before = pictures.clone()
    together = score(pictures)
    assert together.dtype == torch.float64
    monkeypatch.setattr(images_module, "_PIXELS_AT_ONCE", 2 * 64)
    assert torch.equal(score(pictures), together)
    order = torch.tensor([3, 0, 6, 1, 2, 5, 4])
    assert torch.equal(score(pictures[order]), together[order])
    assert torch.equal(pictures, before)
    assert score(pictures[:0]).shape == (0,)


@pytest.mark.parametrize("score", IMAGE_SCORES)
def test_a_file_name_is_no_image(score: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(TypeError, match="images must be a uint8 tensor or array"):
        score("cat.png")


@pytest.mark.parametrize(
    ("images", "channels", "message"),
    [
        (
            torch.rand(2, 8, 8),
            "none",
            "images must be uint8. Got a tensor of shape (2, 8, 8) and dtype float32. Fractions",
        ),
        (torch.zeros(2, 8, 8, dtype=torch.int64), "none", "images must be uint8."),
        (
            noise(2, 8, 8, 3),
            "none",
            "images must be of shape (n, H, W) with channels='none'. Got a tensor of shape "
            "(2, 8, 8, 3) and dtype uint8. Name the layout by channels='first' or 'last'.",
        ),
        (noise(2, 8, 8), "first", "images must be of shape (n, C, H, W) with channels='first'."),
        (
            noise(2, 8, 8, 3),
            "first",
            "images must be of shape (n, C, H, W) with C 1 or 3. Got a tensor of shape (2, 8,",
        ),
        (noise(2, 8, 8, 4), "last", "images must be of shape (n, H, W, C) with C 1 or 3."),
        (noise(2, 8, 8), "frist", "channels must be one of 'none', 'first', 'last'."),
    ],
)
@pytest.mark.parametrize("score", IMAGE_SCORES)
def test_bad_images_are_refused_by_name(
    score: Callable[..., torch.Tensor], images: torch.Tensor, channels: str, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        score(images, channels=channels)


def test_images_without_pixels_or_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 pixels high and wide"):
        scores.gradient_magnitude(noise(2, 8, 1))
    with pytest.raises(ValueError, match="at least 1 pixels high and wide"):
        scores.grey_entropy(noise(2, 0, 8))


def test_soviany2021_annotation_complexity_by_hand() -> None:
    index = torch.tensor([2, 0, 2, 2])
    areas = torch.tensor([0.5, 0.1, 0.25, 0.25])
    count = scores.annotation_complexity(index, areas, size=4)
    assert count.tolist() == [1, 0, 3, 0]
    inverse = scores.annotation_complexity(index, areas, size=4, kind="inverse_area")
    assert close(inverse, [10, 0, 10 / 3, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": torch.tensor([4])}, "index must be int64 positions in [0, 4). Got 4."),
        ({"index": torch.tensor([0.0])}, "index must be int64 positions in [0, 4)."),
        ({"areas": torch.tensor([0.0])}, "areas must be above 0 everywhere. Got 0.0."),
        ({"areas": torch.tensor([1.0, 1.0])}, "areas must be one value per sample: 1 of them."),
        ({"size": 0}, "size must be a whole number, at least 1. Got 0."),
        ({"kind": "area"}, "kind must be one of 'count', 'inverse_area'. Got 'area'."),
    ],
)
def test_bad_annotations_are_refused_by_name(arguments: dict, message: str) -> None:
    good = {"index": torch.tensor([1]), "areas": torch.tensor([0.5]), "size": 4}
    with pytest.raises(ValueError, match=re.escape(message)):
        scores.annotation_complexity(**(good | arguments))
