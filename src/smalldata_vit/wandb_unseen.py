"""Keeps wandb out of the processes that train: only the one that talks to W&B is to load it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAME = "wandb"


@contextmanager
def without_wandb() -> Iterator[None]:
    """What is imported inside does not find wandb, as if it were not installed; afterwards it is found again.

    timm's logging loads it wherever it is installed. That costs every stage its import, and makes two folders in the
    system's temporary one, which a run that is killed leaves there. If it is loaded already, nothing changes.
    """
    if NAME in sys.modules:
        yield
        return
    sys.modules[NAME] = None  # type: ignore[assignment]  # so that an import of it fails
    try:
        yield
    finally:
        del sys.modules[NAME]
