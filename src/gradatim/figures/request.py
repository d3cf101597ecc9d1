"""What a figure is drawn from: recordings, and which of their tables and epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradatim.analysis.recording import Recording
from gradatim.validation import refusal

__all__ = ["Request"]

PAPER_LENGTH = 300  # epochs of the runs in the DIHCL paper's figures


@dataclass(frozen=True)
class Request:
    """What a figure is drawn from.

    Attributes:
        runs: one recording, or two.
        names: of the runs, for legends.
        epochs: asked for, or None.
        hardness: key of the table that tells hardness, or None for the figure's own.
    """

    runs: Sequence[Recording]
    names: Sequence[str]
    epochs: Sequence[int] | None
    hardness: str | None

    def table(self, key: str, run: int = 0) -> np.ndarray:
        """A recorded table, or a refusal that says what would record it."""
        found = self.runs[run]
        if key not in found:
            owner = key.partition(".")[0]
            cause = f"Was gr.{owner}() in the curriculum?"
            had = ", ".join(map(repr, found.keys())) or "none"
            raise refusal(f"recording {self.names[run]!r}", f"one with table {key!r}", had, cause)
        return found[key]

    def dih(self, key: str, run: int = 0) -> np.ndarray:
        """The hardness asked for, or ``key``."""
        return self.table(self.hardness or key, run)

    def rows(self, wanted: Sequence[int], *, first: int = 0) -> list[int]:
        """Rows of the epochs asked for; else of those that lie where the paper's lie."""
        known = self.runs[0].epochs.tolist()
        if len(known) <= first:
            raise refusal("recording", f"of at least {first + 1} epochs", len(known))
        if self.epochs is None:
            places = (round(len(known) * epoch / PAPER_LENGTH) - 1 for epoch in wanted)
            return sorted({min(max(place, first), len(known) - 1) for place in places})
        for epoch in self.epochs:
            if epoch not in known[first:]:
                raise refusal("epoch", f"recorded: {known[first]} to {known[-1]}", epoch)
        return [known.index(epoch) for epoch in self.epochs]
