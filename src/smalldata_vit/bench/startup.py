"""How long the command takes before, and beside, training: `python -m smalldata_vit.bench.startup`.

Every case is a process of its own, as a person starts it; cases take turns, so that other jobs disturb all alike.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from smalldata_vit.bench.harness import spread
from smalldata_vit.bench.machine import machine, machine_line
from smalldata_vit.composition import CONF
from smalldata_vit.results import write_json

SCHEMA = 1
SCRIPT = CONF.parent / "run.py"
ONE_STAGE = ("method=supervised", "trainer=cpu", "finetune.steps=8", "store=null")
TWO_STAGES = ("trainer=cpu", "pretrain.steps=8", "finetune.steps=8", "store=null")


@dataclass(frozen=True)
class Case:
    """One command.

    Arguments:
        name: in the table.
        words: what follows `python`; `{fresh}` is a folder that nobody used, `{done}` one of finished stages.
        goal: most CPU seconds, None where there is no goal.
        status: how it must end.
        environment: what it finds there besides.
    """

    name: str
    words: Sequence[str]
    goal: float | None = None
    status: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Medians over the rounds; the spread is half the interquartile range of CPU seconds over their median."""

    name: str
    cpu: float
    wall: float
    spread: float
    first: float
    """CPU seconds of the first round, which found less in the system's caches."""
    goal: float | None
    to_first_step: float | None
    """Seconds on the wall until training began."""


def cases() -> list[Case]:
    """Everything that is timed."""
    run = str(SCRIPT)
    completion = {"COMP_LINE": "python run.py dataset=", "COMP_POINT": "22"}
    deep = {"COMP_LINE": "python run.py pretrain.optimization.", "COMP_POINT": "36"}
    return [
        Case("--help", (run, "--help"), 1.5),
        Case("-m --help", (run, "-m", "--help"), 1.5),
        Case("wrong option", (run, "dataset=cifr10"), 1.5, 2),
        Case("wrong key", (run, "pretrain.epoch=3"), 1.5, 2),
        Case("wrong argument", (run, "method.student_temperature=hot"), 1.5, 2),
        Case("--cfg job", (run, "--cfg", "job"), 1.5),
        Case("completion: options of a group", (run, "-sc", "query=bash"), 0.5, 0, completion),
        Case("completion: keys of a stage", (run, "-sc", "query=bash"), 0.5, 0, deep),
        Case("one finished stage, skipped", (run, *ONE_STAGE, "output_dir={done}/one"), 1.5),
        Case("two finished stages, skipped", (run, *TWO_STAGES, "output_dir={done}/two"), 1.5),
        Case("import torch, lightning, timm", ("-c", "import torch, lightning, timm")),
        Case("one stage of 8 steps", (run, *ONE_STAGE, "output_dir={fresh}")),
    ]


def timed(case: Case, folder: Path, number: int) -> tuple[float, float, float | None]:
    """CPU seconds, seconds, and seconds until training began (None without training) of a case's turn."""
    fresh = folder / f"{case.name.replace(' ', '-')}-{number}"
    words = [word.format(fresh=fresh, done=folder / "done") for word in case.words]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COMP_")} | dict(case.environment)
    environment |= {"SMALLDATA_VIT_CACHE": str(folder / "cache")}
    at, begun = time.time(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, waited, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(waited)
    if process.returncode != case.status:
        raise RuntimeError(f"{case.name}: {' '.join(words)} ended with {process.returncode}, not {case.status}")
    steps = [file.stat().st_mtime - at for file in fresh.glob("*/begun.json")]
    return used.ru_utime + used.ru_stime, seconds, steps[0] if steps else None


def measured(chosen: Sequence[Case], rounds: int, folder: Path) -> list[Row]:
    """All cases' numbers; every round begins with another case."""
    if any("{done}" in word for case in chosen for word in case.words):
        for name, words in (("one", ONE_STAGE), ("two", TWO_STAGES)):
            timed(Case(name, (str(SCRIPT), *words, f"output_dir={{done}}/{name}")), folder, 0)
    found: dict[str, list[tuple[float, float, float | None]]] = {case.name: [] for case in chosen}
    for number in range(rounds):
        first = number % len(chosen)
        for case in [*chosen[first:], *chosen[:first]]:
            found[case.name].append(timed(case, folder, number))
    return [row(case, found[case.name]) for case in chosen]


def row(case: Case, turns: Sequence[tuple[float, float, float | None]]) -> Row:
    """The medians of a case's turns."""
    cpu = [turn[0] for turn in turns]
    steps = [turn[2] for turn in turns if turn[2] is not None]
    wall = statistics.median(turn[1] for turn in turns)
    to_step = statistics.median(steps) if steps else None
    return Row(case.name, statistics.median(cpu), wall, spread(cpu), cpu[0], case.goal, to_step)


def shown(rows: Sequence[Row], rounds: int) -> str:
    """The table as text."""
    width = max(len(row.name) for row in rows) + 2
    lines = [f"seconds, medians of {rounds} rounds; the goal is of CPU seconds"]
    lines.append(f"  {'':{width}}{'CPU':>6} {'':5} {'wall':>6} {'first':>6} {'goal':>6}")
    for row in rows:
        goal = f"{'-':>6}" if row.goal is None else f"{row.goal:6.1f}  {'met' if row.cpu <= row.goal else 'MISSED'}"
        step = "" if row.to_first_step is None else f"  training begins after {row.to_first_step:.1f} s"
        lines.append(
            f"  {row.name:{width}}{row.cpu:6.2f} ±{row.spread:4.0%} {row.wall:6.2f} {row.first:6.2f} {goal}{step}"
        )
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Measure, print the table, write it down; returns 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m smalldata_vit.bench.startup", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each case")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    given = parser.parse_args(words)
    chosen = [case for case in cases() if given.only in case.name]
    if not chosen or given.rounds < 1:
        parser.error(f"--only {given.only} --rounds {given.rounds}: nothing to measure; cases: "
                     f"{', '.join(case.name for case in cases())}")  # fmt: skip
    facts = machine()
    print(machine_line(facts), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(chosen, given.rounds, Path(folder))
    print(shown(rows, given.rounds))
    if given.json is not None:
        plain = {"schema": SCHEMA, "machine": facts, "rounds": given.rounds, "rows": [asdict(row) for row in rows]}
        write_json(given.json, plain)
    return int(any(row.goal is not None and row.cpu > row.goal for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
