"""What `gradatim compare` needs beyond torch and numpy, and the one line that says so."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["check_installed", "needs_extra"]

PACKAGES = ("jinja2", "joblib", "lightning_fabric", "matplotlib", "rich", "scipy", "sklearn")


@contextmanager
def needs_extra(purpose: str) -> Iterator[None]:
    """Turn a missing package into one sentence that names the extra to install.

    The core of gradatim stands on torch and numpy alone; scikit-learn, SciPy, joblib, matplotlib,
    Lightning Fabric and the others are imported where they are used, inside this context.

    Args:
        purpose: what the packages are for, completing "... must have ... installed".

    Raises:
        ImportError: a package inside the context is missing.

    Example:
        >>> with needs_extra("gradatim compare"):
        ...     import a_package_that_is_missing
        Traceback (most recent call last):
        ImportError: gradatim compare must have the extra 'compare' installed. Got no module ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{purpose} must have the extra 'compare' installed. "
            f"Got no module named {error.name!r}. Try: pip install 'gradatim[compare]'",
            name=error.name,
        ) from error


def check_installed() -> None:
    """Look for all packages of the extra without importing them, which would take seconds.

    Raises:
        ImportError: one of them is missing.

    Example:
        >>> check_installed()
    """
    with needs_extra("gradatim compare"):
        for name in PACKAGES:
            if importlib.util.find_spec(name) is None:
                raise ModuleNotFoundError(name=name)
