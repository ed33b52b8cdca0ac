"""What came out of a search: lines while it runs, a table and the best command at its end, and search.json.

`search.json`, schema 1, for scripts and reports; replaced whole whenever a trial ends.

    schema       1
    status       running, finished, or stopped by a signal
    study, storage folder and numbers as asked: study, trials_asked, seed
    objectives   [{name, better: higher | lower}]
    pruning      {metric, budgets: percent of its stage}, or null
    space        {key: {kind: choice, choices} | {kind: int | float, low, high, step, log}}
    trials       [{number, state: complete | pruned | failed | running, params: {key: value}, words, values (one for
                 each objective; null unless complete), reached: {percent: watched metric}, seconds, folder, command,
                 error}]
    best         [{number, values, command}]: the best trial, or with several objectives all that none beats
    importances  {objective: {key: share of 1}}, empty while the search runs, and where Optuna cannot tell
    why_no_importances   {objective: sentence} for those

No number of a test image is in it.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from smalldata_vit.results import write_json
from smalldata_vit.search.planning import Plan

SCHEMA = 1
FEWEST = 4
"""Finished trials below which nothing is said of which parameters matter."""
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class Outcome:
    """Tells people and files how a search goes.

    Arguments:
        plan: the search.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.study = plan, plan.study

    def described(self, values: Sequence[float]) -> str:
        """What a trial reached."""
        return ", ".join(f"{goal.name} {value:.4g}" for goal, value in zip(self.plan.goals, values, strict=True))

    def trials(self) -> list[FrozenTrial]:
        """Every trial that was begun, by any search on the storage."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]

    def any_failed(self) -> bool:
        """Whether a trial failed."""
        return any(trial.state == TrialState.FAIL for trial in self.trials())

    def best(self) -> list[FrozenTrial]:
        """The best trial, or with several objectives all that none beats; the earlier of equal ones."""
        best: list[FrozenTrial] = sorted(self.study.best_trials, key=lambda trial: trial.number)
        return best[:1] if len(self.plan.goals) == 1 else best

    def command(self, trial: FrozenTrial) -> str:
        """What to type for that trial alone."""
        words = trial.user_attrs.get("words")  # missing while another search is about to begin the trial
        return "" if words is None else self.plan.asked.command(words)

    def importances(self) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
        """The share of each parameter in how an objective varies, by Optuna; and why there is none."""
        shares, reasons = {}, {}
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        for place, goal in enumerate(self.plan.goals):
            values = [trial.values[place] for trial in complete]
            if len(complete) < FEWEST:
                reasons[goal.name] = f"{len(complete)} finished trials are too few; {FEWEST} are the least"
            elif len(set(values)) == 1:
                reasons[goal.name] = "all finished trials have the same value"
            else:
                shares[goal.name] = shares_of(self.study, place, 1 if goal.better == "lower" else -1)
        return shares, reasons

    def write(self, status: str) -> None:
        """Replace search.json."""
        plan, watch = self.plan, self.plan.watch
        shares, reasons = ({}, {}) if status == "running" else self.importances()
        best = [{"number": t.number, "values": t.values, "command": self.command(t)} for t in self.best()]
        data = {
            "schema": SCHEMA,
            "status": status,
            "study": self.study.study_name,
            "trials_asked": plan.asked.trials,
            "seed": plan.asked.seed,
            "objectives": [{"name": goal.name, "better": goal.better} for goal in plan.goals],
            "pruning": None if watch is None else {"metric": watch.metric.name, "budgets": list(watch.budgets)},
            "space": {key: told(one) for key, one in plan.space.distributions.items()},
            "trials": [self.record(trial) for trial in self.trials()],
            "best": best,
            "importances": shares,
            "why_no_importances": reasons,
        }
        plan.asked.place.mkdir(parents=True, exist_ok=True)
        write_json(plan.asked.place / "search.json", data)

    def record(self, trial: FrozenTrial) -> dict[str, Any]:
        """One trial as search.json has it."""
        said = trial.user_attrs
        reached = {str(budget): value for budget, value in sorted(trial.intermediate_values.items())}
        return {
            "number": trial.number,
            "state": STATES.get(trial.state, "running"),
            "params": dict(trial.params),
            "words": said.get("words"),
            "values": trial.values if trial.state == TrialState.COMPLETE else None,
            "reached": {budget: value for budget, value in reached.items() if math.isfinite(value)},
            "seconds": said.get("seconds"),
            "folder": said.get("folder"),
            "command": self.command(trial),
            "error": said.get("error"),
        }

    def summary(self, why: str) -> str:
        """The table of trials, which parameters matter, and what to type for the best."""
        rows = [("trial", "state", *(goal.name for goal in self.plan.goals), "seconds", "overrides")]
        for trial in self.trials():
            complete = trial.state == TrialState.COMPLETE
            values = [f"{value:.4g}" for value in trial.values] if complete else ["-"] * len(self.plan.goals)
            seconds, state = trial.user_attrs.get("seconds"), STATES.get(trial.state, "running")
            spent = "-" if seconds is None else f"{seconds:.0f}"
            rows.append((str(trial.number), state, *values, spent, " ".join(trial.user_attrs.get("words", ()))))
        lines = ["", *aligned(rows), "", f"{why}.", *self.failures()]
        shares, reasons = self.importances()
        for goal, found in shares.items():
            lines.append(
                f"what mattered for {goal}: " + ", ".join(f"{key} {share:.0%}" for key, share in found.items())
            )
        lines += [f"what mattered for {goal} cannot be said: {reason}" for goal, reason in reasons.items()]
        best = self.best()
        lines += [] if len(best) < 2 else [f"{len(best)} trials are best, for none beats any of them in everything:"]
        lines += [
            f"{'best: ' * (len(best) == 1)}{self.described(t.values)} (trial {t.number}):\n  {self.command(t)}"
            for t in best
        ]
        lines += [] if best else ["no trial finished"]
        return "\n".join([*lines, f"everything is in {self.plan.asked.place} (search.json is for scripts)"])

    def failures(self) -> list[str]:
        """Of every trial that failed its error and its command; an error that many share is told once."""
        by_error: dict[str, list[FrozenTrial]] = {}
        for trial in self.trials():
            if trial.state == TrialState.FAIL:
                by_error.setdefault(str(trial.user_attrs.get("error")), []).append(trial)
        lines = []
        for error, hit in by_error.items():
            lines.append(f"trial{'s' * (len(hit) > 1)} {', '.join(str(t.number) for t in hit)} failed: {error}")
            lines += [f"  to repeat it: {self.command(t)}; its log: {t.user_attrs.get('folder')}/job.log" for t in hit]
        return lines


def shares_of(study: Any, place: int, sign: int) -> dict[str, float]:
    """The share of each parameter in what makes one objective, times a sign, low."""
    from optuna.importance import get_param_importances  # here: it loads scikit-learn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's reminder that low is sought: the sign sees to that
        return get_param_importances(study, target=lambda trial: sign * trial.values[place])


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of texts as lines, the columns below each other."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def told(one: BaseDistribution) -> dict[str, Any]:
    """What a key may be, as search.json has it."""
    if isinstance(one, CategoricalDistribution):
        return {"kind": "choice", "choices": list(one.choices)}
    assert isinstance(one, IntDistribution | FloatDistribution)
    kind = "int" if isinstance(one, IntDistribution) else "float"
    return {"kind": kind, "low": one.low, "high": one.high, "step": one.step, "log": one.log}
