"""Who runs which trial: a trial belongs to one search at a time, and to the next one when that search is dead."""

import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from smalldata_vit.output import InUseError, Lock
from smalldata_vit.search.sampler import all_tried
from smalldata_vit.search.space import Space

LONGEST_NAME = 80
"""Characters of a trial's folder name; file systems allow 255 bytes."""
MOST_KILLS = 3
"""A trial whose job is killed again and again (it needs more memory than there is) is not begun for ever. Only deaths
that its search saw count: a search may be stopped and continued as often as one likes."""


@dataclass
class Claim:
    """A trial that this search runs now."""

    trial: Trial
    number: int
    params: Mapping[str, Any]
    folder: Path
    continued: bool
    reported: set[int] = field(default_factory=set)  # budgets at which it was compared
    pruned: bool = False


class Claims:
    """Takes trials for one search: first those that a dead search left running, then new ones, up to a number in all.

    A trial that is running names a lock file of its search, which the kernel frees when the search dies. Its successor
    runs the same words in the same folder, where the job goes on from its checkpoint; so a search that was killed and
    continued, by itself or by another on the same storage, has exactly the trials that were asked for.

    Arguments:
        study: shared with other searches.
        space: what varies.
        folder: of this search; new trials go below it.
        trials: in all.
        turn: a lock file that all searches on the storage share.
        free: whether nothing works in the folder of a trial whose search is dead.
    """

    def __init__(
        self, study: Study, space: Space, folder: Path, trials: int, turn: Path, free: Callable[[Path], bool]
    ) -> None:
        self.study, self.space, self.folder, self.trials, self.turn = study, space, folder.resolve(), trials, turn
        self.free = free
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.lock"
        self.alive = Lock(self.folder / "searching" / name)
        self.why_no_more = ""

    def __enter__(self) -> "Claims":
        self.alive.__enter__()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.alive.path.unlink(missing_ok=True)
        self.alive.release()

    def next(self) -> Claim | None:
        """A trial to run, None if there is no more; `why_no_more` says why."""
        with Lock(self.turn, what=f"the turn to take a trial ({self.turn})", waits=True):
            for left in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if not running(left) and self._free(left):
                    claim = self._continue(left)
                    if claim is not None:
                        return claim
            begun = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
            if len(begun) >= self.trials:
                self.why_no_more = f"{len(begun)} of {self.trials} trials were begun"
                return None
            if all_tried(self.study, self.space):
                self.why_no_more = f"all {self.space.size:.0f} combinations were tried"
                return None
            return self._claim(self.study.ask(), starts=1, folder=None)

    def _free(self, left: FrozenTrial) -> bool:
        folder = left.user_attrs.get("folder")
        return folder is None or self.free(Path(folder))

    def _continue(self, left: FrozenTrial) -> Claim | None:
        """What a dead search left; None if its end was decided already, or it was killed too often."""
        trial = Trial(self.study, left._trial_id)
        if left.user_attrs.get("pruned"):
            self.study.tell(left.number, state=TrialState.PRUNED)
            return None
        if left.user_attrs.get("kills", 0) >= MOST_KILLS:
            trial.set_user_attr("error", f"its job was killed {MOST_KILLS} times")
            self.study.tell(left.number, state=TrialState.FAIL)
            return None
        return self._claim(trial, left.user_attrs.get("starts", 0) + 1, left.user_attrs.get("folder"))

    def _claim(self, trial: Trial, starts: int, folder: str | None) -> Claim:
        params = proposed(trial, self.space)
        words = self.space.words(params)
        place = Path(folder) if folder is not None else self.folder / folder_name(trial.number, words)
        said = {"folder": str(place), "words": words, "starts": starts}
        for key, value in (said | {"owner": {"host": socket.gethostname(), "lock": str(self.alive.path)}}).items():
            trial.set_user_attr(key, value)
        done = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        return Claim(trial, trial.number, params, place, continued=starts > 1, reported=set(done))

    def elsewhere(self) -> int:
        """How many trials others still have to finish."""
        left = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return sum((one.user_attrs.get("owner") or {}).get("lock") != str(self.alive.path) for one in left)

    def give_back(self, claim: Claim, killed: bool) -> None:
        """Leave a trial to whoever comes next: its job was stopped, or `killed`, and goes on from its checkpoint."""
        if killed:
            claim.trial.set_user_attr("kills", claim.trial.user_attrs.get("kills", 0) + 1)
        claim.trial.set_user_attr("owner", None)

    def prune(self, claim: Claim) -> None:
        """Decide that a trial ends here. Its job still has to leave; a search that dies meanwhile changes nothing."""
        claim.trial.set_user_attr("pruned", True)
        claim.pruned = True


def folder_name(number: int, words: Sequence[str]) -> str:
    """A trial's folder: its number and its words, in characters that no shell, file system or Hydra minds."""
    readable = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", word).strip("-.") for word in words)
    return f"{number:04d}_{readable}"[:LONGEST_NAME].rstrip("-_.")


def running(trial: FrozenTrial) -> bool:
    """Whether the search that a trial belongs to is alive; taken for granted on a machine whose files we do not see."""
    owner = trial.user_attrs.get("owner")
    if owner is None:
        return False
    lock = Path(owner["lock"])
    if not lock.exists():
        return bool(owner["host"] != socket.gethostname() and not lock.parent.exists())
    try:
        with Lock(lock):
            return False
    except InUseError:
        return True


def proposed(trial: Trial, space: Space) -> dict[str, Any]:
    """The trial's values, those that it has and those that it is still to get."""
    found: dict[str, Any] = {}
    for key, one in space.distributions.items():
        if isinstance(one, CategoricalDistribution):
            found[key] = trial.suggest_categorical(key, one.choices)
        elif isinstance(one, IntDistribution):
            found[key] = trial.suggest_int(key, one.low, one.high, step=one.step, log=one.log)
        elif isinstance(one, FloatDistribution):
            found[key] = trial.suggest_float(key, one.low, one.high, step=one.step, log=one.log)
    return found
