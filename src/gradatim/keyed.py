"""Generators that depend on a key alone, so that a resumed run needs no random state."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["keyed_generator", "keyed_seed"]


def keyed_seed(*key: object) -> int:
    """A seed of 63 bits that depends on the key alone.

    Args:
        key: ints and strings.

    Example:
        >>> keyed_seed(0, "permutation", 1) == keyed_seed(0, "permutation", 1)
        True
        >>> keyed_seed(0, "permutation", 1) == keyed_seed(0, "permutation", 2)
        False
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def keyed_generator(*key: object) -> torch.Generator:
    """A generator on the CPU whose draws depend on the key alone.

    Args:
        key: ints and strings.

    Example:
        >>> torch.randperm(4, generator=keyed_generator(0, "permutation", 1)).tolist()
        [1, 3, 0, 2]
    """
    return torch.Generator().manual_seed(keyed_seed(*key))
