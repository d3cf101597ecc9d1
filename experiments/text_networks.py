"""The network of the experiments on texts: a frozen encoder, a trainable adapter, a new head.

Fine-tuning all of MiniLM-L6 takes a second of a core per step; for this, what the frozen lower
layers say of a text is computed once in a process and looked up from then on. `prepare.py` writes
them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from gradatim.compare.models.pretrained import Pretrained

ENCODER = Path(__file__).parent / "data" / "minilm4"
WIDTH, HEADS, DROPOUT = 64, 4, 0.1
ROWS = 64  # texts that are encoded together


@functools.lru_cache(maxsize=1)
def encoder() -> nn.Module:
    """Load the frozen lower layers, once in a process."""
    from transformers import AutoModel

    # Nothing of it is drawn: prepare.py keeps no pooler.
    return AutoModel.from_pretrained(ENCODER, add_pooling_layer=False).eval().requires_grad_(False)


_states: dict[bytes, torch.Tensor] = {}


def frozen_states(ids: torch.Tensor, mask: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """Say what the frozen layers make of texts: ids, mask and kinds (B, L) to float32 (B, L, 384).

    A text's states do not depend on its padding, so they are kept by its own tokens.
    """
    lengths = mask.sum(1).tolist()
    both = torch.stack([ids, kinds], 1).to(torch.int32).numpy()
    keys = [row[:, :length].tobytes() for row, length in zip(both, lengths, strict=True)]
    unknown = list({key: at for at, key in enumerate(keys) if key not in _states}.values())
    unknown.sort(key=lengths.__getitem__)
    for start in range(0, len(unknown), ROWS):
        rows = unknown[start : start + ROWS]
        longest = lengths[rows[-1]]
        with torch.no_grad():
            found = encoder()(
                input_ids=ids[rows, :longest],
                attention_mask=mask[rows, :longest],
                token_type_ids=kinds[rows, :longest],
            ).last_hidden_state
        for row, states in zip(rows, found, strict=True):
            _states[keys[row]] = states[: lengths[row]].clone()
    answer = torch.zeros(*ids.shape, encoder().config.hidden_size)
    for row, key in enumerate(keys):
        answer[row, : lengths[row]] = _states[key]
    return answer


class AdaptedEncoder(nn.Module):
    """Frozen states, plus what an adapter adds to them, pooled by mean and maximum, and a head.

    The adapter is a transformer layer of width 64 between two projections, the last of which starts
    at 0: the first hidden states are those of the pretrained model, and training moves them.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        width = encoder().config.hidden_size
        self.config: Any = SimpleNamespace(pad_token_id=encoder().config.pad_token_id)
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, WIDTH)
        self.layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, DROPOUT, "gelu", batch_first=True, norm_first=True
        )
        self.up = nn.Linear(WIDTH, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(2 * width, outputs)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        output_hidden_states: bool = False,
    ) -> SimpleNamespace:
        """Ids, mask and kinds int64 (B, L) to logits (B, outputs) and the last hidden states."""
        states = frozen_states(input_ids, attention_mask, token_type_ids)
        padding = attention_mask == 0
        # As a float mask: the layer's fast path in evaluation would cut the padding off.
        bias = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)
        hidden = states + self.up(
            self.layer(self.down(self.norm(states)), src_key_padding_mask=bias)
        )
        real = attention_mask[..., None]
        mean = (hidden * real).sum(1) / real.sum(1)
        largest = hidden.masked_fill(padding[..., None], -torch.inf).amax(1)
        logits = self.head(self.dropout(torch.cat([mean, largest], 1)))
        return SimpleNamespace(
            logits=logits, hidden_states=(hidden,) if output_hidden_states else None
        )


def adapted(shape: tuple[int], outputs: int) -> Pretrained:
    """Build it for texts of any length."""
    del shape
    return Pretrained(AdaptedEncoder(outputs), segments=True)


adapted.tokenizer = ENCODER
