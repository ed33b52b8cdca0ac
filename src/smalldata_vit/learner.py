"""What the LightningModules share: the step, the position, what happens between steps. No arithmetic of any paper."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning
import torch

from smalldata_vit import distributed
from smalldata_vit.contracts import Classifier, ImageSet, Method, Views
from smalldata_vit.data.ahead import Steps
from smalldata_vit.data.course import Course
from smalldata_vit.data.passes import Step
from smalldata_vit.journal import Journal
from smalldata_vit.judging import Judge
from smalldata_vit.optimization import Optimization
from smalldata_vit.parts.running_statistics import RunningStatistics
from smalldata_vit.passage import Passage
from smalldata_vit.schedules import Progress
from smalldata_vit.signals import Signals
from smalldata_vit.tally import Combined, Pace, Tally


class NonFiniteLoss(RuntimeError):
    """The loss or a gradient is not a finite number any more; training on would only spoil the checkpoint."""


class StrangerError(RuntimeError):
    """A rank of another run has joined this one."""


class Learner(lightning.LightningModule, ABC):
    """One stage's training: cuts each global batch into passes, steps, keeps its own position, saves, asks the judge.

    Arguments:
        method: what is minimised.
        images: the training images of this stage, on the device that they are kept on.
        views: how a picture becomes what training sees.
        optimization: the rule by which weights move.
        course: the stage's length and batches.
        judge: the stage's evaluators; asked every `judge_every` steps (None: only at the end, by the stage).
        journal: takes numbers and messages.
        seed: of everything random in this stage.
        proof: what all ranks must have in common (settings, data, source), compared before the first step.
        save: called with the learner when a checkpoint is due, at least every `save_every_seconds`.
        save_best: called with the learner when the validation number called `best_by` is the best so far.
        is_compiled: whether parts of the method were compiled, for passes of one size.
        reads_labels: whether the stage reads the labels of its images; else they are hidden from the method.
    """

    def __init__(
        self,
        method: Method,
        images: ImageSet,
        views: Views,
        optimization: Optimization,
        course: Course,
        judge: Judge,
        journal: Journal,
        seed: int,
        proof: str,
        save: Callable[["Learner"], None],
        save_every_seconds: float,
        judge_every: int | None = None,
        best_by: str | None = None,
        save_best: Callable[["Learner"], None] | None = None,
        is_compiled: bool = False,
        reads_labels: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.check_method(method)
        refuse_other_labels(method, reads_labels)
        judge.refuse_misfits(method)
        self.method, self.images, self.views, self.optimization = method, images, views, optimization
        self.course, self.judge, self.journal, self.seed = course, judge, journal, seed
        self.save, self.save_every_seconds, self.judge_every = save, save_every_seconds, judge_every
        self.best_by, self.save_best, self.best = best_by, save_best, (-math.inf, -1)
        self.step, self.signals, self.interrupted, self.proof = 0, Signals(), False, proof
        self.agreement, self.pace = distributed.Agreement(), Pace()
        self.passage = Passage(method, images, views, reads_labels, is_compiled)
        self.statistics = RunningStatistics(method)
        self.log_every = max(1, min(50, course.total_steps // 100))
        self.tally, self.saved_at = Tally(), time.monotonic()
        self.seconds_before, self.started_at = 0.0, time.monotonic()

    @abstractmethod
    def check_method(self, method: Method) -> None:
        """TypeError if this learner cannot train such a method."""

    @abstractmethod
    def watch(self, numbers: Mapping[str, float]) -> None:
        """Look at the numbers of the last steps and say in words when something is wrong."""

    @property
    def seconds(self) -> float:
        """Spent on training this stage, interrupted runs up to their checkpoints included."""
        return self.seconds_before + time.monotonic() - self.started_at

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimizer over what trains."""
        return self.optimization.build(self.method, self.course.batch_size)

    def on_train_start(self) -> None:
        """Ranks prove that they belong together; then our signal flags, over Lightning's handlers."""
        proofs = distributed.objects(self.proof)
        if len(set(proofs)) > 1:
            strangers = [rank for rank, proof in enumerate(proofs) if proof != proofs[0]]
            raise StrangerError(
                f"ranks {strangers} run another experiment or see other data than rank 0: is a port shared?"
            )
        # Only rank 0 has read what the stage starts from, and DDP shares parameters but not buffers.
        distributed.from_first(self.method.buffers())
        self.signals.install()
        self.started_at = self.saved_at = time.monotonic()

    def on_train_end(self) -> None:
        """Give the handlers back, so that a signal after training ends the process as usual."""
        self.agreement.forget()
        self.signals.restore()

    def training_step(self, steps: Steps, batch_idx: int) -> None:
        """A few optimizer steps, each followed by whatever is due between steps."""
        for step in steps:
            self.pace.begin(step.images)
            self.optimizer_step_on(step)
            if self.interrupted:
                break
        self.pace.waited += steps.waited

    def optimizer_step_on(self, step: Step) -> None:
        """One optimizer step on one global batch."""
        progress = self.course.progress(step.number)
        optimizer: Any = self.optimizers()
        set_to = self.optimization.set(optimizer, progress, self.course.batch_size)
        self.statistics.start_step()
        seen = Combined(step.shares)
        for number, one in enumerate(step.passes):
            form, last = self.passage.compiled_if_regular(one, progress), number + 1 == len(step.passes)
            with form, self.passage.at(one), self._gradients_stay_local(not last):
                loss = self.passage(one, progress)
                self.manual_backward(loss.total * (one.weight * distributed.world_size()))
            self.statistics.end_pass(one.weight)
            self.tally.add_pass(loss, one.weight)
            seen.add(loss.seen, one.weight, len(one.index))
        self.statistics.end_step()
        if self._move(optimizer, progress):
            self.method.after_step(progress, seen.everything())
        self.step = step.number + 1
        self.tally.end_step()
        self._between_steps(set_to)

    def _gradients_stay_local(self, wanted: bool) -> AbstractContextManager[None]:
        if not wanted or distributed.world_size() == 1:
            return nullcontext()
        wrapped: Any = self.trainer.model
        return wrapped.no_sync()

    def _move(self, optimizer: Any, progress: Progress) -> bool:
        """Clip, step and clear the gradients; False if the gradient scaler skipped the step."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        before = 1.0 if scaler is None else scaler.get_scale()
        self.method.before_step(progress)
        norm = self.optimization.clip(self.method.parameters(), scale=before)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # Steps that the gradient scaler skips are its way of finding a scale, no reason to stop.
        self.tally.add_step({"gradient_norm": norm if scaler is None else norm.nan_to_num(0.0, 0.0, 0.0)})
        return scaler is None or scaler.get_scale() >= before

    def _between_steps(self, set_to: Mapping[str, float]) -> None:
        last = self.step == self.course.total_steps
        wishes = self.signals.received is not None, time.monotonic() - self.saved_at >= self.save_every_seconds
        signalled, due = self.agreement(wishes, self.device)
        if self.step % self.log_every == 0 or last or due or signalled:
            self._write(set_to)
        if self.judge_every and not last and self.step % self.judge_every == 0 and "val" in self.judge.splits:
            self._judge()
        if due or signalled or last:
            self.agreement.forget()
            self.save(self)
            self.saved_at = time.monotonic()
        if signalled and not last:
            self.interrupted = True
            self.trainer.should_stop = True

    def _write(self, set_to: Mapping[str, float]) -> None:
        """Write the tally down, and stop on a number that is none."""
        numbers = {f"train/{name}": value for name, value in (self.tally.read() | self.pace.read()).items()}
        self.log_numbers(numbers | {f"train/{name}": value for name, value in set_to.items()})
        if not (math.isfinite(numbers["train/loss"]) and math.isfinite(numbers["train/gradient_norm"])):
            named = [name for name, value in numbers.items() if not math.isfinite(value)]
            raise NonFiniteLoss(
                f"step {self.step}: {', '.join(named)} is not finite. The last checkpoint before it is kept; "
                f"try a lower learning rate, a longer warm-up or trainer.precision=32-true."
            )
        self.watch(numbers)
        self.journal.advance(self.step, self.course.total_steps, numbers)

    def log_numbers(self, numbers: Mapping[str, float]) -> None:
        """Numbers of the present step to the journal and to every logger."""
        progress = self.course.progress(self.step)
        self.journal.write(progress.step, progress.epoch, self.seconds, numbers)
        for logger in self.loggers:
            logger.log_metrics(dict(numbers), progress.step)

    def _judge(self) -> None:
        numbers = self.judge(self.method, "val", periodic=True)
        self.log_numbers(numbers)
        if self.best_by is None or self.save_best is None:
            return
        if self.best_by not in numbers:
            raise ValueError(f"select=best looks at {self.best_by}, but the evaluators give {', '.join(numbers)}")
        if numbers[self.best_by] > self.best[0]:
            self.best = (numbers[self.best_by], self.step)
            self.save_best(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Our own counters instead of Lightning's, and the weights to hand on."""
        checkpoint.pop("loops", None)
        checkpoint["epoch"], checkpoint["global_step"] = 0, self.step
        checkpoint["position"] = {
            "step": self.step,
            "total_steps": self.course.total_steps,
            "batch_size": self.course.batch_size,
            "images": self.course.images,
            "best": list(self.best),
            "seconds": self.seconds,
        }
        checkpoint.update(handed_on(self.method))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the position; refuse a checkpoint of another course."""
        position = checkpoint["position"]
        for name in ("batch_size", "images"):
            if position[name] != getattr(self.course, name):
                raise ValueError(
                    f"the checkpoint was made with {name}={position[name]}, this stage has {getattr(self.course, name)}"
                )
        self.step, self.seconds_before = position["step"], position["seconds"]
        self.best = (position["best"][0], position["best"][1])


def refuse_other_labels(method: Method, reads_labels: bool) -> None:
    """TypeError unless a method learns from labels exactly where the stage reads them."""
    name = type(method).__name__
    if method.reads_labels and not reads_labels:
        raise TypeError(
            f"{name} learns from labels, and this stage hides them: set its reads_labels=true if labels may be used, "
            f"as pretrain.reads_labels=true does, or choose another method"
        )
    if reads_labels and not method.reads_labels:
        raise TypeError(
            f"{name} learns from no labels, and reads_labels=true would only keep images without one from it: set it "
            f"to false (dataset.fraction is how a stage trains on fewer images), or choose another method"
        )


def handed_on(method: Method) -> dict[str, dict[str, Any]]:
    """Weights that a later stage may start from, by source; they share memory, and so the file, with the method's."""
    weights = {name: network.state_dict() for name, network in method.sources().items()}
    return weights | ({"head": method.head.state_dict()} if isinstance(method, Classifier) else {})
