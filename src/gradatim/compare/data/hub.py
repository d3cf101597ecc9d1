"""Reading data sets from the Hugging Face hub, or from its cache where there is no network."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from gradatim.compare.data.rows import PARTS, Rows, part_name
from gradatim.validation import refusal

__all__ = ["read_hub"]

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")


def read_hub(name: str) -> Rows:
    """Download a data set of the hub, or take it from the hub's cache.

    What is downloaded stays in the hub's own cache (``HF_HOME``), so that the next process of the
    same comparison finds it there.

    Args:
        name: ``owner/name``, or ``owner/name:config`` where it has several configurations.

    Returns:
        Rows of the splits called train, validation and test. A validation or test split whose
        labels are all -1, the hub's sign for kept secret, is left out.

    Raises:
        ValueError: no such data set, or it cannot be reached.
        ImportError: the package ``datasets`` is missing.

    Example:
        >>> read_hub("no such name")
        Traceback (most recent call last):
        ValueError: data must be a bundled name, a file, a folder or a hub name. Got 'no such name'.
    """
    rule = "a bundled name, a file, a folder or a hub name"
    if not _NAME.fullmatch(name):
        raise refusal("data", rule, repr(name))
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ImportError(
            f"data {name!r} must have the package 'datasets' installed, as it is no file or folder"
            f" here. Got no module named {error.name!r}. Try: pip install datasets",
            name=error.name,
        ) from error
    path, _, config = name.partition(":")
    with _quiet(datasets):
        try:
            found = datasets.load_dataset(path, config or None)
        except Exception as error:  # one line instead of any of a dozen kinds of theirs
            reason = " ".join(str(error).split())[:200]
            cause = f"It is no file or folder here, and the hub says: {reason}"
            raise refusal("data", rule, repr(name), cause) from error
    if not isinstance(found, datasets.DatasetDict):
        raise refusal("data", "a hub data set with named splits", type(found).__name__)
    return rows_of(found)


def rows_of(splits: Any) -> Rows:
    """Turn a ``datasets.DatasetDict`` into rows; images and clips stay encoded.

    Example:
        >>> import datasets
        >>> split = datasets.Dataset.from_dict({"x": [1.0, 2.0], "label": [0, 1]})
        >>> rows_of(datasets.DatasetDict(train=split)).sizes
        {'training': 2}
    """
    import datasets
    import pandas as pd

    parts = {part_name(str(name)): split for name, split in splits.items()}
    unused = [str(name) for name in splits if part_name(str(name)) is None]
    if "training" not in parts:
        got = ", ".join(map(str, splits))
        raise refusal("data", "a hub data set with a split called train", got)
    notes: dict[str, Any] = {"splits_not_used": unused} if unused else {}
    columns = parts["training"].features
    names, media = {}, []
    for column, feature in columns.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel):
            names[column] = tuple(inner.names)
        if isinstance(feature, datasets.Image | datasets.Audio):
            media.append((column, "image" if isinstance(feature, datasets.Image) else "audio"))
    frames, sizes = [], {}
    for part in PARTS:
        split = parts.get(part)
        if split is None:
            continue
        for column, kind in media:
            encoded = datasets.Image if kind == "image" else datasets.Audio
            split = split.cast_column(column, encoded(decode=False))
        frame = split.to_pandas()
        secret = [c for c in names if c in frame and len(frame) and (frame[c] == -1).all()]
        if secret and part != "training":
            notes[f"{part}_without_labels"] = f"column {secret[0]!r} is -1 throughout: not used"
            continue
        if list(frame.columns) != list(columns):
            raise refusal(part, "a split with the columns of train", list(frame.columns))
        frames.append(frame)
        sizes[part] = len(frame)
    joined = pd.concat(frames, ignore_index=True)
    return Rows(joined, sizes, names=names, media=media[0] if media else None, notes=notes)


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Show no bars, and do not retry for half a minute where the hub's name does not resolve."""
    import huggingface_hub.constants as hub

    bars = datasets.are_progress_bars_disabled()
    offline = hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    datasets.disable_progress_bars()
    if not _resolves(hub.ENDPOINT):
        hub.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = offline
        if not bars:
            datasets.enable_progress_bars()


def _resolves(address: str) -> bool:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True  # the proxy resolves names
    try:
        socket.getaddrinfo(urlsplit(address).hostname, 443)
    except OSError:
        return False
    return True
