"""Pretrained transformers for texts, by name or from a folder."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gradatim.validation import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Pretrained", "Tokenizer", "pretrained"]

# Our token ids are the tokenizer's plus 1, so that 0 is padding whatever the tokenizer calls it:
# RoBERTa's 0 starts a text, and GPT's has no padding at all.
SHIFT = 1


class Pretrained(nn.Module):
    """A transformer that reads ids as `Tokenizer` writes them and answers with plain logits.

    Args:
        network: a sequence classification model of transformers.

    Example:
        >>> from types import SimpleNamespace
        >>> class Mean(nn.Module):
        ...     config = SimpleNamespace(pad_token_id=9, eos_token_id=None)
        ...     def forward(self, input_ids, attention_mask):
        ...         return SimpleNamespace(logits=input_ids * attention_mask)
        >>> Pretrained(Mean())(torch.tensor([[5, 1, 0]]))
        tensor([[4, 0, 0]])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        config: Any = network.config
        if config.pad_token_id is None:  # then a text's end is found by what stands here
            config.pad_token_id = 0 if config.eos_token_id is None else config.eos_token_id
        self.network = network
        self.padding = int(config.pad_token_id)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map token ids int64 (B, L), 0 where there is none, to (B, outputs)."""
        real = ids != 0
        own = torch.where(real, ids - SHIFT, self.padding)
        return self.network(input_ids=own, attention_mask=real.long()).logits


def pretrained(name: str, outputs: int) -> Pretrained:
    """Load a transformer with a new head; the head is drawn from the process-wide generator.

    Args:
        name: of transformers' hub, or a folder.
        outputs: numbers per sample.

    Returns:
        The model in training mode, as it is trained from here on.

    Raises:
        ImportError: transformers is not installed.
        ValueError: it cannot be loaded.

    Example:
        >>> pretrained("a folder that is missing", 2)  # doctest: +SKIP
    """
    with _transformers(name) as transformers:
        network = transformers.AutoModelForSequenceClassification.from_pretrained(
            name, num_labels=outputs, ignore_mismatched_sizes=True
        )
    model = Pretrained(network)
    model.train()
    return model


@dataclass(frozen=True)
class Tokenizer:
    """Turns texts into the ids that `Pretrained` reads.

    Attributes:
        name: of transformers' hub, or a folder.
        max_tokens: kept of a text, or of a pair of texts; those that mark its ends count.

    Raises:
        ImportError: at the first call, if transformers is not installed.
        ValueError: at the first call, if the tokenizer cannot be loaded.

    Example:
        >>> Tokenizer("distilbert-base-uncased", 64).max_tokens
        64
    """

    name: str
    max_tokens: int

    @property
    def tokens(self) -> int:
        """How many ids there are, padding included."""
        return len(_tokenizer(self.name)) + SHIFT

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> torch.Tensor:
        """Write texts, or pairs of them, as int64 (N, L), 0 where a text has ended."""
        if not len(texts):
            return torch.zeros(0, 1, dtype=torch.int64)
        second = None if pairs is None else list(pairs)
        found = _tokenizer(self.name)(
            list(texts),
            second,
            truncation=True,
            max_length=self.max_tokens,
            return_attention_mask=False,
        )["input_ids"]
        rows = [torch.tensor(row, dtype=torch.int64) + SHIFT for row in found]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)


@functools.lru_cache(maxsize=4)
def _tokenizer(name: str) -> Any:
    with _transformers(name) as transformers:
        return transformers.AutoTokenizer.from_pretrained(name)


@contextmanager
def _transformers(name: str) -> Iterator[Any]:
    """Import transformers; what it cannot load costs one line."""
    try:
        transformers = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"model {name!r} must have transformers installed. Got no module named "
            f"{error.name!r}. Try: pip install transformers",
            name=error.name,
        ) from error
    try:
        yield transformers
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise refusal("model", "a transformers name or folder", repr(name), reason) from error
