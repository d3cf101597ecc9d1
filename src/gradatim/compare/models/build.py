"""From a model's name to a model."""

from __future__ import annotations

import difflib
import inspect
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gradatim.compare.loading import load
from gradatim.compare.models.networks import ConvNet, TextNet, perceptron
from gradatim.compare.models.pretrained import Tokenizer, pretrained
from gradatim.undisturbed import RandomStates, seed_numpy
from gradatim.validation import check_choice, check_count, refusal

__all__ = ["DEFAULT", "build_model", "seeded", "tokenizer_for"]

DEFAULT = "default"
DIMENSIONS = {"table": "F", "image": "CHW", "spectrogram": "1MT", "text": "L"}
# Places after the first convolution: rows and columns, bands and frames.
IMAGE_GRID, SPECTROGRAM_GRID = (14, 14), (16, 32)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from the global generators as if they were new and of this seed; then put them back.

    Args:
        seed: at least 0.

    Yields:
        None.

    Example:
        >>> with seeded(3):
        ...     first = torch.rand(2)
        >>> with seeded(3):
        ...     again = torch.rand(2)
        >>> torch.equal(first, again)
        True
    """
    states = RandomStates()
    try:
        random.seed(seed)
        seed_numpy(seed)  # a user's model may draw from it
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        yield
    finally:
        states.restore()


def build_model(
    spec: str,
    *,
    modality: str,
    shape: tuple[int, ...],
    outputs: int,
    tokens: int | None = None,
    seed: int,
) -> nn.Module:
    """Make a model whose initial weights depend on the seed alone.

    Args:
        spec: ``"default"``; ``"package.module:function"``, called as ``function(shape, outputs)``
            (and with ``tokens=`` if it has a parameter of that name) while the global generators
            stand at the seed; or a transformers name or folder, for texts. A function that has an
            attribute ``tokenizer``, a transformers name or folder, gets texts as `Pretrained`
            does.
        modality: table, image, spectrogram or text.
        shape: of one sample's features: (F,), (C, H, W), (1, M, T) or (L,).
        outputs: numbers per sample: classes, labels or targets.
        tokens: number of token ids of texts, padding included.
        seed: at least 0.

    Returns:
        A module on the CPU, in training mode, from (B, *shape) to (B, outputs).

    Raises:
        ValueError: a value out of range; a model that cannot be loaded, is none, or answers with
            another shape.
        ImportError: a transformers name, and transformers is not installed.

    Example:
        >>> model = build_model("default", modality="image", shape=(3, 32, 32), outputs=10, seed=0)
        >>> model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
        torch.Size([2, 10])
    """
    check_choice("modality", modality, DIMENSIONS)
    check_count("outputs", outputs, at_least=1)
    check_count("seed", seed)
    shape = tuple(check_count("shape", size, at_least=1) for size in shape)
    dimensions = DIMENSIONS[modality]
    if len(shape) != len(dimensions):
        written = f"({', '.join(dimensions)}{',' if len(dimensions) == 1 else ''})"
        raise refusal("shape", f"{written} for modality {modality!r}", shape)
    if spec != DEFAULT and not _is_function(spec):
        _check_pretrained(spec, modality)
        with seeded(seed):
            return pretrained(spec, outputs, shape[0])
    if modality == "text" and (tokens is not None or spec == DEFAULT):
        tokens = check_count("tokens", tokens, at_least=2)
    with seeded(seed):
        if _is_function(spec):
            return _own(spec, modality, shape, outputs, tokens)
        if modality == "table":
            return perceptron(shape[0], outputs, seed=seed)
        if modality == "text":
            assert tokens is not None, "checked above"
            return TextNet(tokens, outputs)
        channels, height, width = shape
        grid = SPECTROGRAM_GRID if modality == "spectrogram" else IMAGE_GRID
        return ConvNet(channels, height, width, outputs, grid=grid)


def tokenizer_for(spec: str, max_tokens: int) -> Tokenizer | None:
    """Find what turns texts into the token ids of a model.

    Args:
        spec: as for `build_model`.
        max_tokens: tokens kept of a text, at least 1.

    Returns:
        A callable from texts and second texts (or None) to int64 (N, L), for pretrained models
        and functions with an attribute ``tokenizer``; None where words by frequency will do.

    Raises:
        ValueError: ``max_tokens`` below 1, or a function's ``tokenizer`` is no name.

    Example:
        >>> tokenizer_for("default", 64) is None
        True
    """
    check_count("max_tokens", max_tokens, at_least=1)
    if spec == DEFAULT:
        return None
    if _is_function(spec):
        name = getattr(load(spec, name="model"), "tokenizer", None)
        if name is None:
            return None
        if not isinstance(name, str | os.PathLike) or not os.fspath(name):
            rule = "None or a transformers name or folder"
            raise refusal("tokenizer", rule, repr(name), f"It is an attribute of {spec}.")
        return Tokenizer(os.fspath(name), max_tokens)
    _check_pretrained(spec, "text")
    return Tokenizer(spec, max_tokens)


def _is_function(spec: str) -> bool:
    return ":" in spec and not os.path.isdir(spec)  # a folder may stand on a drive C:


def _check_pretrained(spec: str, modality: str) -> None:
    rule = "'default', package.module:function, or for texts a transformers name or folder"
    near = difflib.get_close_matches(spec.lower(), [DEFAULT], n=1)
    if near or not spec.strip():
        raise refusal("model", rule, repr(spec), f"Did you mean {DEFAULT!r}?")
    if modality != "text":
        raise refusal("model", rule, repr(spec), f"The data are of kind {modality!r}.")


def _own(
    spec: str, modality: str, shape: tuple[int, ...], outputs: int, tokens: int | None
) -> nn.Module:
    function = load(spec, name="model")
    if not callable(function):
        raise refusal("model", "a function (shape, outputs) that returns a torch.nn.Module", spec)
    model = _call(function, spec, shape, outputs, tokens)
    if not isinstance(model, nn.Module):
        got = f"{type(model).__name__} from {spec}"
        raise refusal("model", "a function (shape, outputs) that returns a torch.nn.Module", got)
    dtype = {"image": torch.uint8, "text": torch.int64}.get(modality, torch.float32)
    example = torch.ones(2, *shape, dtype=dtype)
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            answer = model.eval()(example)
    except Exception as error:  # whatever a user's model does
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        rule = f"a model of {dtype} (B, {', '.join(map(str, shape))})"
        raise refusal("model", rule, f"{spec}, which fails: {reason}") from error
    for module, training in modes:
        module.training = training
    found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    if found != (2, outputs) and not (outputs == 1 and found == (2,)):
        rule = f"a model that answers a batch of 2 with shape (2, {outputs})"
        raise refusal("model", rule, f"{found} from {spec}")
    return model


def _call(
    function: Callable[..., object],
    spec: str,
    shape: tuple[int, ...],
    outputs: int,
    tokens: int | None,
) -> object:
    try:
        takes_tokens = "tokens" in inspect.signature(function).parameters
    except (ValueError, TypeError):  # builtins have no signature
        takes_tokens = False
    try:
        if takes_tokens:
            return function(shape, outputs, tokens=tokens)
        return function(shape, outputs)
    except Exception as error:  # whatever a user's function does
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        rule = "a function (shape, outputs) that returns a torch.nn.Module"
        raise refusal("model", rule, f"{spec}, which fails: {reason}") from error
