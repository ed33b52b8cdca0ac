"""`-m … --dry-run`: the jobs of a sweep, how many were finished before, and about how long the others would take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from smalldata_vit import config
from smalldata_vit.composition import CONF
from smalldata_vit.hydra_files import ERRORS, hydra_at, in_words
from smalldata_vit.shares import at_once, this_machine
from smalldata_vit.sweep_plan import Planned, plan
from smalldata_vit.sweep_progress import status_of
from smalldata_vit.sweeps import sweep_folder
from smalldata_vit.words import ConfigError, parts, rewrite

if TYPE_CHECKING:
    from smalldata_vit.dry_run.outlook import Outlook

OURS = "smalldata_vit"
TRIED = 3
"""Jobs that are looked at for one of which every stage is still to be run."""
LEFT = {"finished": "finished before", "running": "goes on", "interrupted": "goes on", "failed": "tried again"}
"""What happens to a job that an earlier command left with a status; any other is new."""


@dataclass(frozen=True)
class Swept:
    """The jobs of a sweep with what would happen to each, and how many run at the same time."""

    jobs: Sequence[Planned]
    fates: Sequence[str]
    at_once: int
    doubles: int
    """Jobs that ask for the same as another."""

    @property
    def todo(self) -> list[Planned]:
        """The jobs that have something left to do."""
        return [job for job, fate in zip(self.jobs, self.fates, strict=True) if fate != LEFT["finished"]]

    def stage_runs(self) -> list[str]:
        """The stages that these would run, by name; one that several share through the store counts once."""
        runs = {(job.shared.get(stage, str(job.job.folder)), stage) for job in self.todo for stage in job.judged_by}
        return [stage for _, stage in runs]


def dry_sweep(words: Sequence[str]) -> int:
    """Print what the words would do with `-m`; returns the exit status. ConfigError names jobs that cannot run."""
    hydras = {parts(w)[1]: parts(w)[2] for w in words if parts(w)[1].startswith(("hydra.", "hydra/"))}
    sweeper = hydras.get("hydra/sweeper", OURS)
    if sweeper != OURS:
        raise ConfigError(
            f"--dry-run hydra/sweeper={sweeper}: what runs is decided while it runs. Without hydra/sweeper= the jobs "
            f"of listed values are looked at, without -m a single one"
        )
    typed = rewrite(word for word in words if parts(word)[1] not in hydras)
    found = swept(typed, hydras.get("hydra.launcher.jobs") or "1")
    for job, fate in zip(found.jobs, found.fates, strict=True):
        print(f"{job.job.number:4d}  {fate:16}{job.job.described}")
    print(headline(found))
    if found.todo:
        one = representative(found.todo)
        print(f"\njob {one[0].job.number}, measured as one of them:")
        print("\n".join(estimate(found, one[1])))
    return 0


def swept(typed: Sequence[str], jobs: str) -> Swept:
    """The jobs of rewritten words, so many at a time or `auto`; nothing is written."""
    fixed = [word for word in typed if not config.is_sweep(word)]
    machine, folder = this_machine(), sweep_folder(typed)
    listed = combinations([word for word in typed if config.is_sweep(word)])
    planned = plan(fixed, listed, 0, folder, CONF.parent / "run.py", machine)
    fates = [LEFT.get(str(status_of(one.job.folder, one.hash)), "new") for one in planned]
    try:
        slots = at_once(int(jobs) if jobs.isdigit() else jobs, [one.need for one in planned], machine)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return Swept(planned, fates, slots, len(listed) - len(planned))


def combinations(words: Sequence[str]) -> list[list[str]]:
    """Every combination of the values that words list, as Hydra's own sweeper makes them."""
    try:
        with hydra_at(CONF):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            [jobs] = BasicSweeper.split_arguments(parser.parse_overrides(list(words)), None)
    except ERRORS as error:
        raise ConfigError(in_words(error)) from error
    return jobs


def headline(found: Swept) -> str:
    """How many jobs there are of what."""
    counts = {fate: found.fates.count(fate) for fate in dict.fromkeys(found.fates)}
    twice = f"; {found.doubles} more ask for the same as one of them" if found.doubles else ""
    said = ", ".join(f"{count} {fate}" for fate, count in counts.items())
    return f"{len(found.jobs)} jobs ({said}{twice}), {found.at_once} at a time"


def representative(todo: Sequence[Planned]) -> "tuple[Planned, Outlook]":
    """A job that stands for the others: one of the first whose stages all have something left to do, else the first."""
    from smalldata_vit.dry_run.outlook import outlook  # brings torch, which jobs that are all finished do not need

    tried: list[tuple[Planned, Outlook]] = []
    for one in todo[:TRIED]:
        cfg = config.compose(one.job.overrides)
        config.check(cfg)
        tried.append((one, outlook(cfg)))
        if all(stage.outlook != "skipped" for stage in tried[-1][1].stages):
            return tried[-1]
    return tried[0]


def estimate(found: Swept, one: "Outlook") -> list[str]:
    """What one job takes, and from it all."""
    from smalldata_vit.console import duration
    from smalldata_vit.dry_run.outlook import lines_of

    lines = [f"  {stage.stage}: {name} {text}" for stage in one.stages for name, text in lines_of(stage)]
    seconds = {stage.stage: stage.seconds for stage in one.stages}
    runs = found.stage_runs()
    total = sum(seconds.get(stage, 0.0) for stage in runs)
    stages = ", ".join(f"{runs.count(stage)} x {stage}" for stage in dict.fromkeys(sorted(runs)))
    lines.append(f"\n{len(found.todo)} jobs have {stages} to run, stages that they share counted once: about")
    lines.append(f"{duration(total)} of work at most, {duration(total / found.at_once)} at {found.at_once} at a time")
    return lines
