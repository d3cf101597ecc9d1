"""What users name as ``package.module:attribute``, imported."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

from gradatim.validation import refusal

__all__ = ["load"]


def load(reference: str, *, name: str) -> Any:
    """Import an attribute of a module; modules in the current folder are found as well.

    Args:
        reference: ``"package.module:attribute"``, the attribute with dots if it is nested.
        name: what the user passed it as, for messages.

    Returns:
        The attribute.

    Raises:
        ValueError: it is written otherwise, the module cannot be imported, or it lacks the
            attribute; one line in each case.

    Example:
        >>> load("math:sqrt", name="model")(9)
        3.0
        >>> load("math:sqr", name="model")
        Traceback (most recent call last):
        ValueError: model must be an attribute of math. Got 'sqr'. Did you mean 'sqrt'?
    """
    module_name, colon, attributes = reference.partition(":")
    if not (module_name and colon and attributes):
        raise refusal(name, "written as package.module:attribute", repr(reference))
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        # An installed program looks beside itself only. Last, so that a file here called as a
        # package cannot take its place; for good, since the module may import others later.
        sys.path.append(folder)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module does when it is run
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        rule = "package.module:attribute of a module that can be imported"
        raise refusal(name, rule, repr(reference), f"{reason}.".replace("..", ".")) from error
    path = module_name
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            near = difflib.get_close_matches(attribute, dir(found), n=1)
            cause = f"Did you mean {near[0]!r}?" if near else ""
            raise refusal(name, f"an attribute of {path}", repr(attribute), cause)
        found, path = getattr(found, attribute), f"{path}.{attribute}"
    return found
