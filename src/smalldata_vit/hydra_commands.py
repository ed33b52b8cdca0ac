"""What is typed with flags: sweeps (`-m`), the composed config (`--cfg job`), and Hydra's own questions."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from omegaconf import OmegaConf

from smalldata_vit import cluster, config
from smalldata_vit.sweeps import Sweep, sweep_folder
from smalldata_vit.words import ConfigError, parts, quoted, rewrite


def run_hydra(words: Sequence[str]) -> int:
    """Do what the flags ask for; returns the exit status."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-p", "--package")
    asked, others = parser.parse_known_args(list(words))
    if asked.multirun and asked.cfg is None:
        if cluster.place(os.environ) is not None:
            raise ConfigError("-m starts its jobs itself; hydra/launcher=slurm is its way onto a cluster")
        return sweep(others)
    if asked.cfg == "job" and not any(word.startswith("-") for word in others):
        return show(others, asked.resolve, asked.package)
    return through_hydra(refuse_to_run, with_plan(words))


def sweep(words: Sequence[str]) -> int:
    """Every combination of the values that words list, a job each.

    Hydra is told of the words that differ between jobs and of its own settings alone: the others may name keys that
    only the plan of each job brings in.
    """
    flags = [word for word in words if word.startswith("-")]
    hydras = [word for word in words if parts(word)[1].startswith(("hydra.", "hydra/"))]
    typed = rewrite(word for word in words if word not in {*flags, *hydras})
    swept = [word for word in typed if config.is_sweep(word)]
    folder = sweep_folder(typed)
    task = Sweep([word for word in typed if word not in swept], folder)
    try:
        through_hydra(task, ["--multirun", *flags, *hydras, *swept, f"hydra.sweep.dir={quoted(str(folder))}"])
    except SystemExit:
        if task.refused is None:
            raise
        raise task.refused from None
    return task.status


def show(words: Sequence[str], resolve: bool, package: str | None) -> int:
    """Print the composed config, or a subtree of it."""
    cfg = config.compose(words)
    node = cfg if package is None else OmegaConf.select(cfg, package)
    if node is None:
        raise ConfigError(f"--package {package}: there is no such key")
    print(OmegaConf.to_yaml(node, resolve=resolve) if OmegaConf.is_config(node) else node)
    return 0


def with_plan(words: Sequence[str]) -> list[str]:
    """The words as Hydra takes them, with the plan that our composition would choose."""
    places = [p for p, word in enumerate(words) if not word.startswith(("-", "hydra.", "hydra/")) and "=" in word]
    typed = rewrite(words[place] for place in places)
    rest = [word for place, word in enumerate(words) if place not in places]
    if any(parts(word)[1] == "plan" for word in typed):
        return [*rest, *typed]
    return [*rest, *typed, f"plan={config.compose(typed).chosen['plan']}"]


def through_hydra(task: Callable[[Any], Any], words: Sequence[str]) -> int:
    """Let Hydra's own command line do it."""
    before, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        hydra.main(version_base="1.3", config_path=str(config.CONF), config_name="config")(task)()
    finally:
        sys.argv = before
    return 0


def refuse_to_run(cfg: Any) -> None:
    """Stages are run by our own command line, whose flags are another matter."""
    raise ConfigError("stages run without flags: python run.py --help lists what there is")
