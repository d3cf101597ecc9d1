"""Pretrained transformers for texts, by name or from a folder."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gradatim.compare.data.texts import SEGMENT
from gradatim.validation import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Pretrained", "Tokenizer", "pretrained"]

# Our token ids are the tokenizer's plus 1, so that 0 is padding whatever the tokenizer calls it:
# RoBERTa's 0 starts a text, and GPT's has no padding at all. What belongs to a pair's second text
# is higher by SEGMENT, for models that are told so (BERT's token_type_ids).
SHIFT = 1


class Pretrained(nn.Module):
    """A transformer that reads ids as `Tokenizer` writes them and answers with plain logits.

    Args:
        network: a sequence classification model of transformers.
        segments: it is told which tokens are of a pair's second text.

    Attributes:
        dynamic_padding: batches may come cut to their longest text.

    Example:
        >>> from types import SimpleNamespace
        >>> class Mean(nn.Module):
        ...     config = SimpleNamespace(pad_token_id=9, eos_token_id=None)
        ...     def forward(self, input_ids, attention_mask):
        ...         return SimpleNamespace(logits=input_ids * attention_mask)
        >>> Pretrained(Mean())(torch.tensor([[5, 1, 0]]))
        tensor([[4, 0, 0]])
    """

    dynamic_padding = True

    def __init__(self, network: nn.Module, *, segments: bool = False) -> None:
        super().__init__()
        config: Any = network.config
        if config.pad_token_id is None:  # then a text's end is found by what stands here
            config.pad_token_id = 0 if config.eos_token_id is None else config.eos_token_id
        self.network = network
        self.padding = int(config.pad_token_id)
        self.segments = segments

    def forward(self, ids: torch.Tensor, *, hidden: bool = False) -> Any:
        """Map token ids int64 (B, L), 0 where there is none, to (B, outputs).

        With ``hidden`` to three: (B, outputs), the last hidden states (B, L, h), and their mask
        int64 (B, L).
        """
        real = ids != 0
        mask = real.long()
        own = torch.where(real, ids % SEGMENT - SHIFT, self.padding)
        more: dict[str, Any] = {"output_hidden_states": True} if hidden else {}
        if self.segments:
            more["token_type_ids"] = ids // SEGMENT
        answer = self.network(input_ids=own, attention_mask=mask, **more)
        if not hidden:
            return answer.logits
        states = getattr(answer, "hidden_states", None)
        if not states or states[-1].shape[:2] != ids.shape:
            got = f"{type(self.network).__name__}, which shows none for each token"
            raise refusal("model", "one with hidden states", got)
        return answer.logits, states[-1], mask


def pretrained(name: str, outputs: int, tokens: int = 1) -> Pretrained:
    """Load a transformer with a new head; the head is drawn from the process-wide generator.

    Args:
        name: of transformers' hub, or a folder.
        outputs: numbers per sample.
        tokens: the longest text that it must be able to read.

    Returns:
        The model in training mode, as it is trained from here on.

    Raises:
        ImportError: transformers is not installed.
        ValueError: it cannot be loaded, its weights are not there, or it reads shorter texts only.

    Example:
        >>> pretrained("a folder that is missing", 2)  # doctest: +SKIP
    """
    with _transformers(name) as transformers:
        network, found = transformers.AutoModelForSequenceClassification.from_pretrained(
            name,
            num_labels=outputs,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,  # whatever the file has: half precision does not train
            output_loading_info=True,
        )
    # The head is new and so, where it was not needed before, what pools for it; nothing else.
    prefix = f"{getattr(network, 'base_model_prefix', '')}."
    absent = [
        key
        for key in sorted(found["missing_keys"])
        if key.startswith(prefix) and "pooler" not in key
    ]
    if absent:
        got = f"{name!r}, which lacks {len(absent)}: {', '.join(absent[:3])}"
        raise refusal("model", "a transformers name or folder with the weights of its layers", got)
    _check_length(name, network.config, tokens)
    told = "token_type_ids" in getattr(_tokenizer(name), "model_input_names", ())
    takes = "token_type_ids" in inspect.signature(network.forward).parameters
    model = Pretrained(network, segments=told and takes)
    model.train()
    return model


def _check_length(name: str, config: Any, tokens: int) -> None:
    """Refuse texts that would run out of places in the midst of training."""
    places = getattr(config, "max_position_embeddings", None)
    if not isinstance(places, int) or places < 1:
        return
    if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
        places -= 1 + int(config.pad_token_id)  # they count from behind their padding
    if tokens > places:
        raise refusal("max_tokens", f"at most {places}, what {name!r} can read", tokens)


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
        )
        rows = [torch.tensor(row, dtype=torch.int64) + SHIFT for row in found["input_ids"]]
        if second is not None and "token_type_ids" in found:
            rows = [
                row + SEGMENT * torch.tensor(kinds, dtype=torch.int64)
                for row, kinds in zip(rows, found["token_type_ids"], strict=True)
            ]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)


@functools.lru_cache(maxsize=4)
def _tokenizer(name: str) -> Any:
    with _transformers(name) as transformers:
        return transformers.AutoTokenizer.from_pretrained(name)


@contextmanager
def _transformers(name: str) -> Iterator[Any]:
    """Import transformers; what it cannot load costs one line, and what it can none."""
    try:
        transformers = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"model {name!r} must have transformers installed. Got no module named "
            f"{error.name!r}. Try: pip install transformers",
            name=error.name,
        ) from error
    # For every run it would show a bar and say that the head is new.
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield transformers
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise refusal("model", "a transformers name or folder", repr(name), reason) from error
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
