"""What a person sees of a search that runs: on a terminal a table that moves, elsewhere plain lines."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from smalldata_vit.jobs import Job
from smalldata_vit.live_table import GAP, LINES_AROUND, LiveTable, framed
from smalldata_vit.search.outcome import STATES, Outcome
from smalldata_vit.search.planning import Plan
from smalldata_vit.sweep_cells import bar, how_far, time_left
from smalldata_vit.sweep_progress import Seen, Watch
from smalldata_vit.sweep_words import end_cut, shortened

if TYPE_CHECKING:
    from rich.table import Table

STATE, LEFT, VALUE = 10, 11, 16
"""Characters of the columns that tell the stage or the end, the time left, and each objective."""
BAR = 12
"""Characters of a full bar, where there is room for one."""
LEAST_WORDS = 24
"""Characters of the overrides, for which the bar makes room."""


class Display(LiveTable):
    """Tells how a search goes. Every sentence also goes to `search.log` in its folder, with the time.

    Arguments:
        plan: the search.
        slots: how many trials run at the same time.
        moves: whether a person watches: a table then takes the place of the sentences, but for what went wrong.
    """

    def __init__(self, plan: Plan, slots: int, moves: bool) -> None:
        super().__init__(plan.asked.place / "search.log", moves)
        self.plan, self.slots, self.outcome = plan, slots, Outcome(plan)
        self.watches: dict[int, Watch] = {}

    def tell(self, number: int, what: str, wrong: bool = False) -> None:
        """One line about one trial."""
        self.say(f"trial {number} {what}", wrong)

    def look(self, running: Mapping[int, Job]) -> None:
        """Let the table move on, or say how far trials are, once in a while; `running`: this search's jobs by trial."""
        if not self.may_look():
            return
        if self.live is not None:
            width, height = self.live.console.size
            self.live.update(self.table(running, width, height - LINES_AROUND), refresh=True)
        elif self.may_tell():
            for number in running:
                self.tell(number, how_far(self.watches[number].look()))

    def table(self, running: Mapping[int, Job], width: int, height: int) -> "Table":
        """The trials that run, and as many of those that ended last as there is room for."""
        from rich.text import Text

        trials, goals = self.outcome.trials(), [goal.metric for goal in self.plan.goals]
        room = width - len("trial") - STATE - LEFT - VALUE * len(goals) - GAP * (5 + len(goals))
        full = BAR if room - BAR - len(" 100 %") >= LEAST_WORDS else 0
        progress = max(len("progress"), full + len(" 100 %"))
        room = max(LEAST_WORDS, room - progress)
        heads = {"trial": len("trial"), "overrides": room, "state": STATE, "progress": progress, "left": LEFT}
        columns = [*heads.items(), *((goal, VALUE) for goal in goals)]
        names, widths = [name for name, _ in columns], [size for _, size in columns]
        table = framed(names, widths, self.foot(trials), right="trial")
        for trial in chosen(trials, running, max(1, height)):
            job = running.get(trial.number)
            seen = Seen() if job is None else self.watches[trial.number].look()
            state = STATES.get(trial.state, "elsewhere") if job is None else seen.stage or "starts"
            words = shortened(trial.user_attrs.get("words", []), room)
            cells = [str(trial.number), words, end_cut(state, STATE), bar(seen.share, full), time_left(seen)]
            style = "red" if trial.state == TrialState.FAIL else None
            table.add_row(*map(Text, [*cells, *self.values(trial, seen)]), style=style)
        return table

    def follow(self, job: Job) -> None:
        """Look at a job from now on, in place of what ran in its folder before; to be called before it starts.

        What is read of it is its steps, and the metric by which trials are pruned where more of that is better.
        """
        by, stages = self.plan.watch, dict.fromkeys(self.plan.stages, "")
        known = by is not None and by.metric.better == "higher"
        stages |= {str(by.metric.stage): by.metric.metric} if by is not None and known else {}
        self.watches[job.number] = Watch(job.folder, stages)

    def values(self, trial: FrozenTrial, seen: Seen) -> list[str]:
        """What a trial reached, for each objective; of one that runs the best of what it is pruned by so far."""
        if trial.state == TrialState.COMPLETE:
            return [f"{value:.4g}" for value in trial.values]
        so_far = "" if seen.best is None else f"{seen.best[1]:.4g} so far"
        return [so_far, *[""] * (len(self.plan.goals) - 1)]

    def foot(self, trials: Sequence[FrozenTrial]) -> str:
        """How many trials are where, how long the rest may take, and the best one."""
        from smalldata_vit.console import duration  # here, because it brings rich with it

        states = [STATES.get(trial.state, "running") for trial in trials]
        words = [f"{states.count(state)} {state}" for state in ("running", "complete", "pruned", "failed")]
        to_go = max(0, int(min(self.plan.asked.trials, self.plan.space.size)) - len(trials))
        timed = [trial.user_attrs.get("seconds", 0.0) for trial in trials if trial.state.is_finished()]
        words.append(f"{to_go} to go")
        if any(timed) and to_go:
            rest = sum(timed) / len(timed) * (to_go + states.count("running") / 2) / self.slots
            words.append(f"about {duration(rest)} left")
        words.append(f"{duration(time.monotonic() - self.began)} so far")
        best = [f"best: {self.outcome.described(one.values)} (trial {one.number})" for one in self.outcome.best()[:1]]
        return "\n".join([", ".join(words), *best])


def chosen(trials: Sequence[FrozenTrial], running: Mapping[int, Job], height: int) -> list[FrozenTrial]:
    """The trials that a table of so many lines shows, in their order: those that run, then the latest of the rest."""
    ours = [trial for trial in trials if trial.number in running]
    rest = [trial for trial in reversed(trials) if trial.number not in running]
    return sorted([*ours, *rest][:height], key=lambda trial: trial.number)
