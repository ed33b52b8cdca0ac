"""The search itself: takes trials, runs them as jobs, stops those that do badly, tells Optuna what came out."""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from smalldata_vit.config import stage_config
from smalldata_vit.jobs import Job, listening
from smalldata_vit.results import read_json
from smalldata_vit.search.asked import Asked
from smalldata_vit.search.claims import Claim, Claims
from smalldata_vit.search.outcome import Outcome
from smalldata_vit.search.planning import Plan, checked, plan
from smalldata_vit.shares import Machine, Share, Shares, at_once, need_of, this_machine
from smalldata_vit.words import ConfigError, quoted

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_STOP = 120.0
"""A job that was told to stop saves and leaves; after that it is ended."""
STOPPED = 128
"""Exit statuses above this one say that a signal ended the job."""


def search(asked: Asked, sampler: Callable[..., BaseSampler], pruner: BasePruner) -> int:
    """Run what was asked for; returns the exit status. ConfigError for what cannot be right, before anything runs."""
    planned = plan(asked, sampler, pruner)
    machine = this_machine()
    with Claims(planned.study, planned.space, asked.place, asked.trials, planned.turn) as claims:
        return Driver(planned, claims, machine).run()


@dataclass
class Running:
    """A trial's job, while it runs.

    Arguments:
        watched: the config of the stage by which trials are pruned.
        told: when it was told to stop, in seconds of the monotonic clock.
    """

    claim: Claim
    job: Job
    share: Share
    watched: Mapping[str, Any]
    told: float | None = None


class Driver:
    """Runs trials, so many at a time, until none is left or a signal came.

    Arguments:
        plan: the search.
        claims: its trials; entered already.
        machine: what the jobs share.
    """

    def __init__(self, plan: Plan, claims: Claims, machine: Machine) -> None:
        self.plan, self.claims, self.machine = plan, claims, machine
        self.outcome = Outcome(plan)
        self.running: list[Running] = []
        self.received: int | None = None
        self.failed_alone = -1 if self.outcome.best() else 0
        self.stopped_by: str | None = None

    def run(self) -> int:
        """The exit status: 0, 1 where a trial failed, 128 + the signal that stopped the search."""
        first = checked([*self.plan.asked.shared, *self.plan.space.words(self.plan.space.first())])
        self.need = need_of(stage_config(first, next(iter(first.stages)))["trainer"], self.machine)
        slots = at_once(self.plan.asked.jobs, [self.need] * self.plan.asked.trials, self.machine)
        self.shares = Shares(self.machine, slots)
        print(self.plan.opening(slots), flush=True)
        more = True
        with listening(self._receive):
            while self.running or (more and self._goes_on()):
                while more and self._goes_on() and len(self.running) < slots:
                    claim = self.claims.next()
                    more = claim is not None
                    if claim is not None:
                        self._start(claim)
                time.sleep(SECONDS_BETWEEN_LOOKS)
                for one in list(self.running):
                    self._look(one)
        self.outcome.write("stopped" if self.received is not None else "finished")
        why = self.stopped_by or self.claims.why_no_more
        print(self.outcome.summary(f"{why}." if why and self.received is None else ""), flush=True)
        return self._status()

    def _goes_on(self) -> bool:
        return self.received is None and self.stopped_by is None

    def _status(self) -> int:
        if self.received is not None:
            return 128 + self.received
        return int(self.stopped_by is not None or self.outcome.any_failed())

    def _start(self, claim: Claim) -> None:
        words, asked = self.plan.space.words(claim.params), self.plan.asked
        job = Job(
            claim.number, words, [*asked.shared, *words, f"output_dir={quoted(str(claim.folder))}"], claim.folder,
            asked.script,
        )  # fmt: skip
        watch = self.plan.watch
        try:
            cfg = checked([*asked.shared, *words])
            settings = stage_config(cfg, str(watch.metric.stage)) if watch is not None else {}
        except ConfigError as error:
            self._failed(claim, str(error))
            return
        share = self.shares.take(self.need)
        job.start(shown=False, threads=share.threads, gpus=share.gpus)
        self.running.append(Running(claim, job, share, settings))
        self.outcome.say(claim, "goes on" if claim.continued else "starts", " ".join(words))

    def _look(self, one: Running) -> None:
        if one.told is not None and time.monotonic() - one.told > SECONDS_TO_STOP:
            one.job.tell(signal.SIGKILL)
        if one.job.ended():
            self.running.remove(one)
            self.shares.give_back(one.share)
            self._settle(one)
        elif one.told is None:
            self._compare(one)

    def _compare(self, one: Running) -> None:
        """Report what the trial has reached by now, and stop it where the pruner says so, if there is time to save."""
        claim, watch = one.claim, self.plan.watch
        if watch is None or self.received is not None:
            return
        for budget, value in watch.reached(claim.folder, one.watched, claim.reported).items():
            claim.trial.report(value, step=budget)
            claim.reported.add(budget)
            if one.job.status is None and claim.trial.should_prune():
                self.outcome.say(claim, "is pruned", f"{watch.metric.name} {value:.4g} at {budget} %")
                claim.pruned, one.told = True, time.monotonic()
                one.job.tell(signal.SIGTERM)
                return

    def _settle(self, one: Running) -> None:
        """Tell Optuna how a job ended."""
        claim, status = one.claim, one.job.status
        claim.trial.set_user_attr("seconds", claim.trial.user_attrs.get("seconds", 0.0) + round(one.job.seconds, 3))
        if status == 0:
            self._compare(one)  # later trials are compared with what this one reached since the last look
            self._finished(claim)
        elif claim.pruned:
            self.plan.study.tell(claim.trial, state=TrialState.PRUNED)
            self.outcome.say(claim, "has left", "its slot is free")
        elif status is not None and status > STOPPED:
            self.claims.give_back(claim)
            self.outcome.say(claim, "was stopped", "and is left to go on from its checkpoint")
        else:
            self._failed(claim, one.job.last_words())
        self.outcome.write("running")

    def _finished(self, claim: Claim) -> None:
        try:
            results = read_json(claim.folder / "results.json")
            values = [goal.of(results) for goal in self.plan.goals]
        except (OSError, KeyError, ValueError) as error:
            self._failed(claim, str(error))
            return
        self.failed_alone = -1
        self.plan.study.tell(claim.trial, values)
        self.outcome.say(claim, "finished", self.outcome.described(values))

    def _failed(self, claim: Claim, why: str) -> None:
        claim.trial.set_user_attr("error", why)
        self.plan.study.tell(claim.trial, state=TrialState.FAIL)
        self.outcome.say(claim, "failed", why)
        if self.failed_alone >= 0:
            self.failed_alone += 1
            if self.failed_alone >= self.plan.asked.failures:
                self.stopped_by = f"the first {self.failed_alone} trials failed, so the search ends"

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to the jobs: the first asks them to save and leave, a second ends them."""
        again, self.received = self.received is not None, number
        for job in Job.alive():
            job.tell(signal.SIGKILL if again else number)
