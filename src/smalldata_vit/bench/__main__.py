"""Benchmarks: `python -m smalldata_vit.bench NAME …`."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from smalldata_vit.bench.environment import start_again


def main(words: Sequence[str]) -> int:
    """Run one benchmark; returns the exit status."""
    given = parser().parse_args(words)
    command = shlex.join(["python", "-m", "smalldata_vit.bench", *words])
    if given.name == "budget":
        from smalldata_vit.bench import budget

        return budget.main(given.run, given.verbose, given.write, command)
    if given.name == "compare":
        from smalldata_vit.bench.record import fallen

        lines, worse = fallen(given.before, given.after)
        print("\n".join(lines))
        return int(worse)
    start_again(words, one_thread=True)
    if given.name == "memory" and given.only is not None:
        from smalldata_vit.bench import memory

        print(memory.added(given.only, given.batch or 64, given.peers))
        return 0
    from smalldata_vit.bench.record import keep
    from smalldata_vit.bench.tables import tables

    with tempfile.TemporaryDirectory() as folder:
        keep(tables(given, Path(folder)), command, given.write)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m smalldata_vit.bench", description=__doc__)
    names = made.add_subparsers(dest="name", required=True, metavar="NAME")
    budget = names.add_parser("budget", help="goals that need no clock; fails if one is missed")
    budget.add_argument("--run", help="only runs whose name holds this")
    budget.add_argument("--verbose", action="store_true", help="where operations and reads come from")
    budget.add_argument("--write", type=Path, help="JSON file")
    compare = names.add_parser("compare", help="fails if a ratio fell by more than the two spreads")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    timed = {
        "all": "data, step and command: about three minutes",
        "data": "views of images a second",
        "step": "the training step",
        "command": "the real command, end to end",
        "overhead": "the Trainer's loop",
        "memory": "what steps add to the resident set",
        "curves": "the rate by one thing",
        "gpu": "ceilings of the chip, views, ladder of steps",
        "methods": "steps of IDMM and of guided fine-tuning",
        "host": "what the host spends on a step",
        "peers": "data, steps, host time and memory with contenders from a folder",
    }
    for name, text in timed.items():
        one = names.add_parser(name, help=text)
        one.add_argument("--write", type=Path, help="JSON file")
        one.add_argument("--rounds", type=int, help="turns of each contender")
        one.add_argument("--smoke", action="store_true", help="tiny sizes: only whether everything runs")
        add_own(name, one)
    return made


def add_own(name: str, one: argparse.ArgumentParser) -> None:
    """The options that only one benchmark has."""
    if name == "data":
        one.add_argument("--compiled", action="store_true", help="our compiled views too: minutes more")
    if name == "memory":
        one.add_argument("--only", help="one contender, in this process")
        one.add_argument("--batch", type=int, help="images in a step (64)")
        one.add_argument("--peers", type=Path, help="folder with a file name.py for each peer")
    if name == "curves":
        one.add_argument("curve", choices=("batch", "crops", "width", "data", "workers", "threads"))
    if name == "gpu":
        one.add_argument("--part", choices=("ceilings", "views", "step"), help="one part, to stay below ten minutes")
        one.add_argument("--rung", help="only rungs of the ladder whose name holds this")
    if name == "peers":
        one.add_argument("folder", type=Path, help="with a file name.py for each peer")
        parts = ("views", "products", "step", "idmm", "guided", "host", "memory")
        one.add_argument("--part", nargs="+", choices=parts, help="only these tables")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
