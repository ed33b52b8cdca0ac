"""Which tables a command line of `python -m smalldata_vit.bench` asks for, and how large they are."""

from argparse import Namespace
from pathlib import Path

import torch

from smalldata_vit.bench import beside, command, curves, data, gpu, host, memory, methods, overhead, step
from smalldata_vit.bench.harness import Table
from smalldata_vit.bench.step import Settings

SMOKE = Settings(batch=2, steps=1, images=4)


def tables(given: Namespace, folder: Path) -> list[Table]:
    """The tables of one benchmark, made below `folder`."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    rounds = given.rounds or (1 if given.smoke else 3)
    of_step = SMOKE if given.smoke else Settings()
    if given.name == "all":
        return [*views(rounds), step.table(rounds, of_step, folder), whole(given.smoke, rounds, folder)]
    if given.name == "data":
        return views(rounds, given.compiled)
    if given.name == "step":
        return [step.table(rounds, of_step, folder)]
    if given.name == "command":
        return [whole(given.smoke, rounds, folder)]
    if given.name == "overhead":
        return [overhead.table(rounds, 20 if given.smoke else 500)]
    if given.name == "memory":
        return [memory.table(rounds, given.batch or (2 if given.smoke else 64), given.peers)]
    if given.name == "methods":
        return [methods.table(name, rounds, folder, given.smoke) for name in methods.CASES]
    if given.name == "host":
        return [host.table(rounds, folder, given.smoke)]
    if given.name == "curves":
        points = curves.POINTS[given.curve][: 2 if given.smoke else None]
        return [curves.table(given.curve, rounds, of_step, folder, points)]
    if given.name == "gpu":
        return gpu.tables(given.part, given.rung, rounds, folder, given.smoke)
    return beside.tables(given.folder, given.part or beside.PARTS, rounds, of_step, folder)


def views(rounds: int, compiled: bool = False) -> list[Table]:
    """The three recipes."""
    return [data.table(case, rounds, compiled=compiled) for case in data.CASES]


def whole(smoke: bool, rounds: int, folder: Path) -> Table:
    """End to end; two rounds, because each of them starts the command."""
    return command.table(min(rounds, 2), SMOKE if smoke else Settings(batch=16, steps=4, images=64), folder)
