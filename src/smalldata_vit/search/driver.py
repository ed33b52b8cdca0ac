"""The search itself: takes trials, runs them as jobs, stops those that do badly, tells Optuna what came out."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from optuna.trial import TrialState

from smalldata_vit.config import stage_config
from smalldata_vit.jobs import Job, listening
from smalldata_vit.results import read_json
from smalldata_vit.search.claims import Claim, Claims
from smalldata_vit.search.display import Display
from smalldata_vit.search.outcome import Outcome
from smalldata_vit.search.planning import Plan, checked
from smalldata_vit.search.workers import Work, Workers
from smalldata_vit.words import ConfigError, quoted

SECONDS_TO_STOP = 120.0
"""A job that was told to stop saves and leaves; after that it is ended."""
STOPPED = 128
"""Exit statuses above this one say that a signal ended the job."""


@dataclass
class Running:
    """A trial's job, while it runs.

    Arguments:
        watched: the config of the stage by which trials are pruned.
        told: when it was told to stop, in seconds of the monotonic clock.
    """

    claim: Claim
    work: Work
    watched: Mapping[str, Any]
    told: float | None = None


class Driver:
    """Runs trials, so many at a time, until none is left or a signal came.

    Arguments:
        plan: the search.
        claims: its trials; entered already.
        workers: who run them.
        display: what people see of it.
    """

    def __init__(self, plan: Plan, claims: Claims, workers: Workers, display: Display) -> None:
        self.plan, self.claims, self.workers, self.display = plan, claims, workers, display
        self.outcome = Outcome(plan)
        self.running: list[Running] = []
        self.more = True
        self.received: int | None = None
        self.failed_alone = -1 if self.outcome.best() else 0
        self.stopped_by: str | None = None

    def run(self) -> int:
        """The exit status: 0, 1 where a trial failed, 128 + the signal that stopped the search."""
        print(self.plan.opening(self.workers.slots), flush=True)
        with listening(self._receive):
            while self.running or (self.more and self._goes_on()):
                while self.more and self._goes_on() and len(self.running) < self.workers.slots:
                    claim = self.claims.next()
                    self.more = claim is not None
                    if claim is not None:
                        self._start(claim)
                time.sleep(self.workers.seconds_between_looks)
                for one in list(self.running):
                    self._look(one)
                if self.received is not None and self.workers.outlive:
                    self._leave()
                self.display.look({one.claim.number: one.work.job for one in self.running})
        self.outcome.write("stopped" if self.received is not None else "finished")
        return self._status()

    def _goes_on(self) -> bool:
        return self.received is None and self.stopped_by is None

    def why(self) -> str:
        """Why there is no further trial, in a sentence."""
        if self.received is not None:
            return "stopped by a signal; the same command goes on from here"
        others = self.claims.elsewhere()
        rest = f"; {others} of them are at work elsewhere, or left to go on" if others else ""
        return f"{self.stopped_by or self.claims.why_no_more}{rest}"

    def _status(self) -> int:
        if self.received is not None:
            return 128 + self.received
        return int(self.stopped_by is not None or self.outcome.any_failed())

    def _start(self, claim: Claim) -> None:
        words, asked = self.plan.space.words(claim.params), self.plan.asked
        overrides = [*asked.shared, *words, f"output_dir={quoted(str(claim.folder))}"]
        job, watch = Job(claim.number, words, overrides, claim.folder, asked.script), self.plan.watch
        try:
            cfg = checked([*asked.shared, *words])
            settings = stage_config(cfg, str(watch.metric.stage)) if watch is not None else {}
            trainer = stage_config(cfg, next(iter(cfg.stages)))["trainer"]
        except ConfigError as error:
            self._failed(claim, str(error))
            return
        self.display.follow(job)
        try:
            work = self.workers.start(job, trainer)
        except RuntimeError as error:
            self.claims.give_back(claim, killed=False)
            self.stopped_by = f"trial {claim.number} could not be submitted: {error}"
            return
        self.running.append(Running(claim, work, settings))
        where = f" {work.where}" if work.where else ""
        self.display.tell(claim.number, f"{'goes on' if claim.continued else 'starts'}{where}: {' '.join(words)}")

    def _look(self, one: Running) -> None:
        if one.told is not None and time.monotonic() - one.told > SECONDS_TO_STOP:
            one.told = time.monotonic()
            one.work.kill()
        if one.work.ended():
            self.running.remove(one)
            self._settle(one)
        elif one.told is None:
            self._compare(one)

    def _leave(self) -> None:
        """Leave jobs that outlive the search to the one that goes on with it."""
        for one in self.running:
            self.claims.give_back(one.claim, killed=False)
            self.display.tell(one.claim.number, f"goes on without the search {one.work.where}")
        self.running = []

    def _compare(self, one: Running) -> None:
        """Report what the trial has reached by now, and stop it where the pruner says so, if there is time to save."""
        claim, watch = one.claim, self.plan.watch
        if watch is None or self.received is not None:
            return
        for budget, value in watch.reached(claim.folder, one.watched, claim.reported).items():
            claim.trial.report(value, step=budget)
            claim.reported.add(budget)
            if one.work.job.status is None and claim.trial.should_prune():
                self.display.tell(claim.number, f"is pruned: {watch.metric.name} {value:.4g} at {budget} %")
                self.claims.prune(claim)
                one.told = time.monotonic()
                one.work.stop()
                return

    def _settle(self, one: Running) -> None:
        """Tell Optuna how a job ended."""
        claim, job = one.claim, one.work.job
        claim.trial.set_user_attr("seconds", claim.trial.user_attrs.get("seconds", 0.0) + round(job.seconds, 3))
        if job.status == 0:
            self._compare(one)  # later trials are compared with what this one reached since the last look
            self._finished(claim)
        elif claim.pruned:
            self.plan.study.tell(claim.trial, state=TrialState.PRUNED)
            self.display.tell(claim.number, "has left: its slot is free")
        elif job.status is not None and job.status > STOPPED:
            self.claims.give_back(claim, killed=self.received is None)
            self.more = True
            why = f"{job.reason}; it" if job.reason else "it"
            self.display.tell(claim.number, f"was stopped: {why} is left to go on from its checkpoint", wrong=True)
        else:
            self._failed(claim, job.last_words())
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
        self.display.tell(claim.number, f"finished: {self.outcome.described(values)}")

    def _failed(self, claim: Claim, why: str) -> None:
        claim.trial.set_user_attr("error", why)
        self.plan.study.tell(claim.trial, state=TrialState.FAIL)
        self.display.tell(claim.number, f"failed: {why}", wrong=True)
        if self.failed_alone >= 0:
            self.failed_alone += 1
            if self.failed_alone >= self.plan.asked.failures:
                self.stopped_by = f"the first {self.failed_alone} trials failed, so the search ends"

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to the jobs of this machine: the first asks them to save and leave, a second ends them."""
        again, self.received = self.received is not None, number
        for job in Job.alive():
            job.tell(signal.SIGKILL if again else number)
