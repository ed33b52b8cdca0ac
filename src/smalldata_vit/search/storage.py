"""Where trials are kept: a journal file that survives kill -9, or a database; and the study that searches share."""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from smalldata_vit.search.objectives import Objective
from smalldata_vit.search.space import Space
from smalldata_vit.words import ConfigError

SECONDS_TO_WAIT = 60.0
"""For a database that another process writes to."""
DIRECTIONS = {"higher": StudyDirection.MAXIMIZE, "lower": StudyDirection.MINIMIZE}


class KernelLock:
    """A lock on a journal that the kernel frees when its owner dies; Optuna's own is waited for 30 s after a kill.

    A line that a kill or a full disk cut off is removed before the next is written: behind it no reader would get on.

    Arguments:
        journal: the file that is locked; the lock is a file beside it.
    """

    def __init__(self, journal: Path) -> None:
        self.journal, self.handle = journal, -1

    def acquire(self) -> bool:
        """Wait for the lock."""
        self.handle = os.open(f"{self.journal}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self.handle, fcntl.LOCK_EX)
        self._mend()
        return True

    def release(self) -> None:
        """Give the lock back."""
        os.close(self.handle)

    def _mend(self) -> None:
        with self.journal.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            if end and file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)


def turn_of(address: str | None, folder: Path) -> Path:
    """A file beside the storage by which searches take turns.

    Of a database on a server it is in the folder: searches there share it, or may begin a trial too many.
    """
    if address is not None and "://" in address:
        kind, _, path = address.partition("///")
        beside = Path(path) if kind == "sqlite:" else folder / "search"
    else:
        beside = journal_of(address, folder)
    return beside.with_name(f"{beside.name}.turn")


def journal_of(address: str | None, folder: Path) -> Path:
    """The journal file that is meant by a path, or by nothing."""
    return Path(address) if address is not None else folder / "search.journal"


def opened(address: str | None, folder: Path) -> BaseStorage:
    """The storage: a path is that of a journal, what holds :// the URL of a database; None: a journal in the folder.

    To be called in turn, for a database that two make at the same time is refused to one. ConfigError if it cannot be.
    """
    if address is not None and "://" in address:
        wait = {"connect_args": {"timeout": SECONDS_TO_WAIT}} if address.startswith("sqlite:") else {}
        try:
            return RDBStorage(address, engine_kwargs=wait)
        except Exception as error:  # SQLAlchemy's and every driver's own
            raise ConfigError(f"hydra.sweeper.storage={address}: {str(error).splitlines()[0]}") from error
    journal = journal_of(address, folder)
    # What Optuna calls a lock has these two methods; its abstract class is not public.
    backend = JournalFileBackend(str(journal), lock_obj=KernelLock(journal))  # type: ignore[arg-type]
    return JournalStorage(backend)


def study_of(storage: BaseStorage, name: str, objectives: Sequence[Objective], space: Space, proof: str) -> Any:
    """The study of that name, new or continued; ConfigError if the one that is there searched for something else.

    `proof`: stands for everything that does not vary; trials of other settings cannot be compared.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [DIRECTIONS[one.better] for one in objectives]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    said = {"objectives": [one.name for one in objectives], "proof": proof}
    before = study.user_attrs
    if not before:
        for key, value in said.items():
            study.set_user_attr(key, value)
    elif before.get("objectives", said["objectives"]) != said["objectives"] or study.directions != directions:
        raise ConfigError(f"{other(name)} optimises {', '.join(before['objectives'])}. {REMEDY}")
    elif before.get("proof", proof) != proof:
        raise ConfigError(f"{other(name)} had other settings beside those that vary. {REMEDY}")
    refuse_other_space(study, space)
    return study


REMEDY = "Give another hydra.sweeper.study=, hydra.sweeper.storage= or output_dir="


def other(name: str) -> str:
    """The beginning of a sentence about the study that is there."""
    return f"the study {name} that this storage holds"


def refuse_other_space(study: Any, space: Space) -> None:
    """ConfigError where earlier trials varied other keys, or chose among other options."""
    for trial in study.get_trials(deepcopy=False):
        if "words" not in trial.user_attrs:
            continue  # a search died, or is, while it began this trial: not all of its values are written down
        if set(trial.params) != set(space.distributions):
            raise ConfigError(f"{other(study.study_name)} varies {', '.join(sorted(trial.params))}. {REMEDY}")
        for key, before in trial.distributions.items():
            try:
                check_distribution_compatibility(before, space.distributions[key])
            except ValueError as error:
                raise ConfigError(f"{other(study.study_name)} knows {key} as {before}. {REMEDY}") from error
