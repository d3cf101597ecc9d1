"""Difficulty of texts: how long they are and how rare their words.

Texts are Python objects, so these two functions loop over them in Python, at about a second per
million words.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from gradatim.scores.checks import check_callable
from gradatim.validation import refusal

__all__ = ["length", "word_rarity"]


def length(
    texts: torch.Tensor | Sequence[str | Sequence[Hashable]],
    mask: torch.Tensor | None = None,
    *,
    special: Collection[Hashable] = (),
    tokenizer: Callable[[str], Iterable[Hashable]] = str.split,
) -> torch.Tensor:
    """Score each text by its number of tokens.

    The cheapest difficulty of text that is worth trying: longer sentences hold more structure to
    get wrong. Padding and special tokens say nothing about a text, so they do not count.

    Args:
        texts: either whole token ids (n, L), padded, with a mask or the padding id in
            ``special``; or n texts, each a string or a sequence of tokens.
        mask: (n, L) of 0 and 1 (or booleans), 1 where a token is real. Only for ids (n, L).
        special: ids or tokens that do not count, such as ids of padding, start and end.
        tokenizer: splits a string into tokens; texts that are split already pass by it.

    Returns:
        float64 (n,) whole numbers of tokens, at least 0, on the device of ``texts``.

    Raises:
        TypeError: ``texts`` is one string, or holds something that is no text.
        ValueError: ids that are no whole numbers (n, L), ids without mask or padding id, a mask
            of another shape or with values other than 0 and 1, a mask for texts.

    Warns:
        UserWarning: a text has no token; it scores 0.

    Example:
        >>> length(["a b a", "a c"])
        tensor([3., 2.], dtype=torch.float64)
        >>> ids = torch.tensor([[101, 7, 8, 102], [101, 9, 102, 0]])
        >>> length(ids, ids != 0, special=(101, 102))
        tensor([2., 1.], dtype=torch.float64)

    Differences from the paper:
        Platanios et al. count the words of the source sentence; what a token is, is your choice.

    References:
        Platanios et al., Competence-based Curriculum Learning for Neural Machine Translation,
        NAACL 2019, section 2.1 (`platanios2019`).
    """
    check_callable("tokenizer", tokenizer)
    if isinstance(special, str) or not isinstance(special, Collection):
        raise refusal("special", "a collection of tokens", repr(special), "Put it into a tuple?")
    if isinstance(texts, np.ndarray) and texts.ndim == 2:
        texts = torch.as_tensor(texts)
    if isinstance(texts, torch.Tensor):
        scores = _real(texts, mask, special).sum(1).to(torch.float64)
    elif mask is not None:
        got = type(texts).__name__
        raise refusal("mask", "None unless texts is a tensor of ids", f"texts of type {got}")
    else:
        unwanted = frozenset(special)
        counts = [
            sum(token not in unwanted for token in tokens) if unwanted else len(tokens)
            for tokens in _split(texts, tokenizer)
        ]
        scores = torch.tensor(counts, dtype=torch.float64)
    _warn_empty(int((scores == 0).sum()))
    return scores


def word_rarity(
    texts: Sequence[str | Sequence[Hashable]],
    corpus: Iterable[str | Sequence[Hashable]] | None = None,
    *,
    mean: bool = False,
    tokenizer: Callable[[str], Iterable[Hashable]] = str.split,
) -> torch.Tensor:
    """Score each text by how improbable its words are.

    The likelihood of a text under the simplest language model, so length and rarity both count::

        d = -sum_k log p(w_k),    p(w) = count(w) / T

    over the text's tokens w_k, where the corpus has T tokens, count(w) of them w. Should a text
    hold a word that a separate corpus lacks, every p is smoothed by adding one to each count and
    to the count 0 of one common unknown word: with V distinct words in the corpus,
    ``p(w) = (count(w) + 1) / (T + V + 1)``.

    Args:
        texts: n texts, each a string or a sequence of tokens.
        corpus: what words are counted in; None counts in ``texts`` themselves, where no word is
            unknown and nothing is smoothed.
        mean: divide by the number of tokens, which takes the effect of length out.
        tokenizer: splits a string into tokens; texts that are split already pass by it.

    Returns:
        float64 (n,) at least 0, in nats, on the CPU.

    Raises:
        TypeError: ``texts`` or ``corpus`` is one string, or holds something that is no text.
        ValueError: the corpus has no token.

    Warns:
        UserWarning: a text has no token; it scores 0.

    Example:
        Of two tokens "a" is one: log 2 for it, and for both 2 log 2.

        >>> word_rarity(["a", "a b"], corpus=["a b"])
        tensor([0.6931, 1.3863], dtype=torch.float64)
        >>> word_rarity(["a b"], corpus=["a b"], mean=True)
        tensor([0.6931], dtype=torch.float64)

        "c" is new: p = (0 + 1) / (2 + 2 + 1) = 1/5.

        >>> word_rarity(["c"], corpus=["a b"])
        tensor([1.6094], dtype=torch.float64)

    Differences from the paper:
        Smoothing and the mean are ours; the paper counts in the training corpus, where every word
        is known.

    Caveats:
        One unknown word in any text smooths the scores of all: compare scores of one call only.

    References:
        Platanios et al., Competence-based Curriculum Learning for Neural Machine Translation,
        NAACL 2019, section 2.1 (`platanios2019`).
    """
    check_callable("tokenizer", tokenizer)
    split = list(_split(texts, tokenizer))
    source = split if corpus is None else _split(corpus, tokenizer, name="corpus")
    counts = Counter(chain.from_iterable(source))
    if corpus is not None and not counts:
        raise refusal("corpus", "at least one token long", "none", "An exhausted iterator?")
    unknown = set(chain.from_iterable(split)) - counts.keys()
    added = 1 if unknown else 0
    total = counts.total() + added * (len(counts) + 1)
    cost = {token: math.log(total / (count + added)) for token, count in counts.items()}
    cost |= {token: math.log(total) for token in unknown}
    scores = [math.fsum(map(cost.__getitem__, tokens)) for tokens in split]
    _warn_empty(sum(not tokens for tokens in split))
    result = torch.tensor(scores, dtype=torch.float64)
    if mean:
        result /= torch.tensor([max(len(tokens), 1) for tokens in split], dtype=torch.float64)
    return result


def _split(
    texts: Iterable[str | Sequence[Hashable]],
    tokenizer: Callable[[str], Iterable[Hashable]],
    *,
    name: str = "texts",
) -> Iterable[list[Hashable]]:
    if isinstance(texts, str):
        rule = "several texts, not one string"
        raise TypeError(str(refusal(name, rule, repr(texts[:40]), "Put it into a list?")))
    if not isinstance(texts, Iterable):
        raise TypeError(str(refusal(name, "a sequence of texts", type(texts).__name__)))
    return (_tokens(text, tokenizer, name) for text in texts)


def _tokens(text: Any, tokenizer: Callable[[str], Iterable[Hashable]], name: str) -> list[Hashable]:
    if isinstance(text, str):
        return list(tokenizer(text))
    if not isinstance(text, Iterable):
        rule = "strings or sequences of tokens"
        cause = "Lengths you have already are a score: see human."
        raise TypeError(str(refusal(name, rule, type(text).__name__, cause)))
    return list(text)


def _real(
    ids: torch.Tensor, mask: torch.Tensor | None, special: Collection[Hashable]
) -> torch.Tensor:
    """Tell which of the padded ids (n, L) count."""
    if ids.ndim != 2 or ids.is_floating_point():
        cause = "Lengths you have already are a score: see human." if ids.ndim == 1 else ""
        raise refusal("texts", "token ids of shape (n, L)", ids, cause)
    if mask is None and not special:
        cause = "Without either, padding would count and all texts be equally long."
        raise refusal("mask", "given, or the padding id be in special", "neither", cause)
    real = torch.ones_like(ids, dtype=torch.bool)
    if mask is not None:
        given = torch.as_tensor(mask, device=ids.device)
        if given.shape != ids.shape:
            raise refusal("mask", f"of shape {tuple(ids.shape)}, as texts", given)
        if bool(((given != 0) & (given != 1)).any()):
            cause = "A mask to be added to attention scores? Give the one of 0 and 1."
            raise refusal("mask", "0 or 1 everywhere", "other values", cause)
        real = given == 1
    if special:
        if not all(isinstance(token, numbers.Integral) for token in special):
            raise refusal("special", "ids, as texts", repr(special))
        real = real & ~torch.isin(ids, torch.tensor(list(special), device=ids.device))
    return real


def _warn_empty(count: int) -> None:
    if count:
        noun = "text has" if count == 1 else "texts have"
        warnings.warn(f"{count} {noun} no token and score 0, the easiest.", stacklevel=3)
