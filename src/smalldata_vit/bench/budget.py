"""`bench budget`: goals that need no clock, counted in steady steps of stages as `run.py` puts them together.

D1 host reads · D2 operations · D3 graph breaks and recompilations · D4 calls of `self.log` · D5 FLOP per image · D6
bytes per image · D7 files opened and pictures decoded after the first epoch. D8, equal results, is held by the tests of
views, methods and backbones.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from smalldata_vit.bench.counting import Counting, Counts, counting, not_views
from smalldata_vit.bench.machine import machine, machine_line
from smalldata_vit.bench.opened import Opened
from smalldata_vit.bench.pictures import write_class_folders
from smalldata_vit.bench.recompiling import Graphs, counted_graphs
from smalldata_vit.bench.runs import ONE_BY_ONE, RUNS, Config, Run
from smalldata_vit.bench.staged import CountedViews, Looking, look, stage_config, staged
from smalldata_vit.bench.unreadable import needs_values
from smalldata_vit.results import write_json

SMALL, LARGE = 4, 8
"""Images in a batch: what grows with it is per image, the rest is per step."""
UNSEEN, SEEN = 3, 2
"""Steps before those that are counted (an epoch has two), and those."""


@dataclass(frozen=True)
class Goal:
    """One number that was counted, and the most that it may be (None: it is only shown)."""

    run: str
    goal: str
    what: str
    value: float
    limit: float | None

    @property
    def held(self) -> bool:
        """Whether the number is within its limit."""
        return self.limit is None or self.value <= self.limit


def words_for(run: Run, root: Path, batch: int) -> list[str]:
    """The whole command line of a run on class folders below `root`."""
    data = [f"dataset.root={root}", f"dataset.cache={root}/cache", "dataset.validation=none"]
    length = [f"{run.stage}.batch_size={batch}", f"{run.stage}.steps=5000", f"{run.stage}.pass_size=null"]
    here = [
        "dataset=folder",
        f"dataset.image_size={run.side}",
        *data,
        f"stages=[{run.stage}]",
        "trainer=cpu",
        ONE_BY_ONE,
    ]
    return [*here, *length, f"{run.stage}.start_from=null", *run.words]


@dataclass(frozen=True)
class Steady:
    """What was counted in `SEEN` steady steps."""

    counts: Counts
    logged: int
    opened: Sequence[str]
    needed: Sequence[str]
    """What the views had to read in the form that an accelerator runs."""
    config: Config

    def per_step(self, kind: str, parts: Callable[[str], bool] = not_views) -> float:
        """The mean over the counted steps."""
        return self.counts.total(kind, parts) / SEEN


def counted(run: Run, batch: int, folder: Path) -> Steady:
    """Train a little and count; two batches make an epoch."""
    root = write_class_folders(folder / "images", 2 * batch, run.side)
    config = stage_config(words_for(run, root, batch), run.stage)
    stage = staged(config, folder / "out")
    mode, opened, stack, logged = Counting(), Opened(), ExitStack(), []
    images, some = stage.learner.images, torch.arange(SMALL)
    needed = needs_values(stage.learner.views, images.take(some), images.heights[some], images.widths[some])
    stage.learner.passage.views = CountedViews(stage.learner.views, mode)
    for name in ("log", "log_dict"):
        setattr(stage.learner, name, lambda *values: logged.append(values))

    def begin() -> None:
        stack.enter_context(opened)
        stack.enter_context(counting(mode))

    look(stage, Looking(UNSEEN, SEEN, begin, lambda: stack.pop_all().close()))
    return Steady(mode.counts, len(logged), opened.files, needed, config)


def graphs_of(run: Run, folder: Path) -> Graphs:
    """Train a little with `trainer.compile=true`, without a code generator behind the tracer."""
    root = write_class_folders(folder / "images", 2 * SMALL, run.side)
    config = stage_config([*words_for(run, root, SMALL), "trainer.compile=true", "arch.depth=3"], run.stage)
    return counted_graphs(lambda: staged(config, folder / "out"), UNSEEN, SEEN)


def goals(run: Run, small: Steady, large: Steady, graphs: Graphs) -> list[Goal]:
    """The table's rows of one run."""

    def goal(name: str, what: str, value: float, limit: float | None) -> Goal:
        return Goal(run.name, name, what, value, limit)

    def per_image(kind: str) -> float:
        return (large.per_step(kind) - small.per_step(kind)) / (LARGE - SMALL)

    formula = None if run.flops is None else run.flops(small.config)
    return [
        goal("D1", "host reads a step", large.per_step("reads"), 0),
        goal("D1", "values that views need on a device", len(large.needed), 0),
        goal("D2", "operations a step", large.per_step("operations"), run.operations),
        goal("D3", "graph breaks", graphs.breaks, 0),
        goal("D3", "recompilations after the first epoch", graphs.late, 0),
        goal("D4", "calls of self.log", large.logged, 0),
        goal("D5", "MFLOP an image", per_image("flops") / 1e6, None if formula is None else 1.001 * formula / 1e6),
        goal("D6", "MB an image", per_image("traffic") / 1e6, None if run.traffic is None else run.traffic / 1e6),
        goal("D6", "MB a step besides", (2 * small.per_step("traffic") - large.per_step("traffic")) / 1e6, None),
        goal("D7", "files opened after the first epoch", len(large.opened), 0),
    ]


def measured(run: Run, verbose: bool = False) -> list[Goal]:
    """Count everything of one run; `verbose` prints where the operations and reads come from."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = (counted(run, batch, folder / str(batch)) for batch in (SMALL, LARGE))
        rows = goals(run, small, large, graphs_of(run, folder / "compiled"))
    if verbose:
        for kind in ("operations", "reads", "traffic"):
            print(f"{run.name}: {kind} of {SEEN} steps, by place")
            for place, number in large.counts.top(kind, 25):
                print(f"  {number:>12,}  {place}")
        print("".join(f"  opened {file}\n" for file in large.opened), end="")
        print("".join(f"  views need: {what}\n" for what in large.needed), end="")
    return rows


def table(rows: Sequence[Goal]) -> str:
    """All goals as text."""
    lines = [f"{'run':22}{'goal':6}{'what':40}{'counted':>12}{'at most':>12}"]
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:,.1f}"
        verdict = "" if row.held else "   MISSED"
        lines.append(f"{row.run:22}{row.goal:6}{row.what:40}{row.value:>12,.1f}{limit:>12}{verdict}")
    return "\n".join(lines)


def main(chosen: str | None, verbose: bool, write: Path | None, command: str) -> int:
    """Print the table; 1 if a goal is missed. `chosen`: only runs whose name holds this."""
    rows = [row for run in RUNS if chosen is None or chosen in run.name for row in measured(run, verbose)]
    facts = machine()
    print(machine_line(facts))
    print(table(rows))
    if write is not None:
        listed = [vars(row) | {"held": row.held} for row in rows]
        write_json(write, json.loads(json.dumps({"command": command, "machine": facts, "goals": listed})))
    return 0 if all(row.held for row in rows) else 1
