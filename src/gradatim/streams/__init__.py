"""Streams: what a curriculum can do without a global ranking.

On a stream nobody knows all samples beforehand. A score can be taken on the fly: `DifficultyGate`
lets a sample pass when it is easy enough for now, `SortBuffer` sorts block by block, and
`gradatim.mixing.interleave` mixes streams. Each takes a stream and is one, so they can be put one
upon another; each goes on exactly where a state was taken, divides a stream among workers and
ranks, and leaves samples as they are. Methods that decide within a batch take a stream as data set:
``curriculum.loader(stream, batch_size, steps_per_epoch=...)``.

Example:
    >>> import torch
    >>> from gradatim.streams import DifficultyGate, SortBuffer
    >>> class Words(torch.utils.data.IterableDataset):
    ...     def __iter__(self):
    ...         return iter("to be or not to be that is the question".split())
    >>> short = DifficultyGate(Words(), len, threshold=(2, 8), items=16)
    >>> list(SortBuffer(short, len, size=4))
    ['to', 'be', 'or', 'not', 'to', 'be', 'is', 'that', 'the']
"""

from gradatim.streams.buffer import SortBuffer
from gradatim.streams.gate import DifficultyGate

__all__ = ["DifficultyGate", "SortBuffer"]
