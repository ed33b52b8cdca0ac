"""What one command asks of a search, and the folder that this makes its own."""

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from smalldata_vit.words import ConfigError, parts

SEARCHES = Path("outputs/searches")


@dataclass(frozen=True)
class Asked:
    """What was typed.

    Arguments:
        fixed: words that are the same for every trial.
        swept: words that list or span values, in Hydra's grammar.
        folder: where a sweep of these words would go.
        script: what every trial starts.
        space: an option of conf/search/, or None.
        objective: metrics as typed; None: the space's, else what the last stage is judged by.
        trials: in all, those of earlier and other searches on the same storage included.
        jobs: at the same time, a number or `auto`.
        storage: a journal file or the URL of a database; None: a journal in the search's folder.
        study: its name in the storage.
        watch: the metric that trials are pruned by; None: the objective, if there is just one.
        budgets: percent of its stage at which trials are compared.
        seed: of the proposals.
        failures: so many failed trials, without one that finished, end the search.
    """

    fixed: list[str]
    swept: list[str]
    folder: Path
    script: Path
    space: str | None
    objective: list[str] | None
    trials: int
    jobs: int | str
    storage: str | None
    study: str
    watch: str | None
    budgets: list[int]
    seed: int
    failures: int

    def refuse_numbers(self) -> None:
        """ConfigError for a number that can mean nothing."""
        for name, value in (("trials", self.trials), ("failures", self.failures)):
            if value < 1:
                raise ConfigError(f"hydra.sweeper.{name}={value}: it is 1 or more")
        if self.jobs != "auto" and (not isinstance(self.jobs, int) or self.jobs < 1):
            raise ConfigError(f"hydra.sweeper.jobs={self.jobs}: it is auto, or 1 or more")
        if any(not 1 <= budget <= 99 for budget in self.budgets):
            raise ConfigError(f"hydra.sweeper.budgets={self.budgets}: each is a percentage of a stage, from 1 to 99")

    @property
    def place(self) -> Path:
        """The folder that was typed, else one named by what is sought, so that the same command goes on there."""
        if any(parts(word)[1] == "output_dir" for word in self.fixed):
            return self.folder
        said = [*self.fixed, *self.swept, f"space={self.space}", f"objective={self.objective}", f"study={self.study}"]
        typed = (str(parts(word)[2]) for word in self.fixed if parts(word)[1] == "name")
        name = next(typed, self.space or "search")
        return (
            SEARCHES / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}-{hashlib.sha256(repr(said).encode()).hexdigest()[:10]}"
        )

    @property
    def shared(self) -> list[str]:
        """The words of every trial, without the folder that each gets for itself."""
        return [word for word in self.fixed if parts(word)[1] != "output_dir"]

    def command(self, words: list[str]) -> str:
        """What to type for one trial alone."""
        return shlex.join(["python", self.script.name, *self.shared, *words])
