"""What Hydra makes of a folder of option files: the files that it would merge, and its errors in our words."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.defaults_list import DefaultsList
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from smalldata_vit.words import ConfigError

ERRORS = (HydraException, OmegaConfBaseException, YAMLError)
"""What reading and merging option files may raise."""


@contextmanager
def hydra_at(folder: Path) -> Iterator[None]:
    """Hydra's compose API on a folder, also inside a sweep, where Hydra already runs."""
    outer = GlobalHydra.instance()
    running = outer.hydra
    outer.clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
            yield
    finally:
        GlobalHydra.instance().hydra = running


def defaults_of(folder: Path, words: Sequence[str]) -> DefaultsList:
    """The files that Hydra would merge for these words, in order, and who chose each; ConfigError if it cannot."""
    try:
        with hydra_at(folder):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None, "hydra_at sets it"
            return hydra.config_loader.compute_defaults_list("config", list(words), RunMode.RUN)
    except ERRORS as error:
        raise ConfigError(in_words(error)) from error


def read_yaml(file: Path) -> dict[str, Any]:
    """A file as it is written, by OmegaConf's rules of what a number is; empty if it holds comments alone."""
    return copy.deepcopy(_as_read(file, file.stat().st_mtime_ns))


@lru_cache(maxsize=512)
def _as_read(file: Path, changed: int) -> dict[str, Any]:
    """Kept, because one experiment asks for the same option again and again; `changed`: the file's time."""
    found = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def in_words(error: Exception) -> str:
    """The lines of an error of Hydra's or OmegaConf's that a reader can use."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [
        line
        for line in lines
        if not line.startswith(("Config search path", "provider=", "reference_type", "object_type"))
    ]
    cause = error.__cause__
    return "; ".join([*lines, *([str(cause).splitlines()[0]] if isinstance(cause, OmegaConfBaseException) else [])])
