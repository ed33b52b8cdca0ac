"""What `reports.compare` was asked for: which seeds, which numbers of labels, and words that hold for every job."""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smalldata_vit import config
from smalldata_vit.reports.comparison import COUNTS
from smalldata_vit.reports.listed import numbers
from smalldata_vit.sweep_plan import readable
from smalldata_vit.words import parts

SEEDS = (0, 1, 2)
EQUAL_COMPUTE = ("1", "10", "all")
"""Numbers of labels at which scratch gets as many FLOPs: each of these runs is as long as a pretraining."""
OUT = Path("outputs/compare")
LONGEST = 80
"""Characters of what a folder is called after."""
METHODS = ("dino", "supervised")
TAKEN = {
    "method": "the arms are DINO and training from scratch",
    "plan": "each arm has its method's plan",
    "experiment": "each arm is an experiment of its own",
    "stages": "each arm has its method's stages",
    "seed": "--seeds 0,1 says it",
    "dataset.labels_per_class": "--labels 1,10 says it",
    "finetune.dataset.labels_per_class": "--labels 1,10 says it",
    "output_dir": "a comparison that was asked for otherwise gets a folder of its own",
    "debug": "pretrain.steps=2 finetune.steps=2 is as short, and equal FLOPs can be computed from it",
}
"""Keys that the arms set, and what there is to say instead."""
COMPUTED = "finetune.steps"
"""Of the arm of equal FLOPs it is computed, whatever was typed for the others."""


@dataclass(frozen=True)
class Asked:
    """A comparison.

    Arguments:
        counts: labels per class, of `comparison.COUNTS` and in their order.
        words: of run.py, for every job.
    """

    seeds: Sequence[int] = SEEDS
    counts: Sequence[str] = COUNTS
    words: Sequence[str] = ()

    @property
    def out(self) -> Path:
        """Its folder: no two that were asked for differently share one."""
        if (tuple(self.seeds), tuple(self.counts), tuple(self.words)) == (SEEDS, COUNTS, ()):
            return OUT
        seeds = [] if tuple(self.seeds) == SEEDS else [f"seeds {' '.join(map(str, self.seeds))}"]
        labels = [] if tuple(self.counts) == COUNTS else [f"labels {' '.join(self.counts)}"]
        digest = hashlib.sha256(repr((self.seeds, self.counts, self.words)).encode()).hexdigest()[:8]
        return OUT.with_name(f"{OUT.name}_{readable([*seeds, *labels, *self.words])[:LONGEST].rstrip('-_.')}-{digest}")

    @property
    def equal_compute(self) -> list[str]:
        """The numbers of labels at which scratch gets as many FLOPs."""
        return [count for count in self.counts if count in EQUAL_COMPUTE]

    @property
    def words_of_equal_compute(self) -> list[str]:
        """The words without what is computed."""
        return [word for word in self.words if parts(word)[1] != COMPUTED]


def read(words: Sequence[str] | None) -> Asked:
    """The command line, looked through before anything runs; ConfigError in words for the person who typed it."""
    parser = argparse.ArgumentParser(
        prog="python -m smalldata_vit.reports.compare",
        description="What pretraining is worth: DINO against training from scratch at equal steps and at equal FLOPs. "
        "With options or words the comparison gets a folder of its own beside that of the whole one.",
    )
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="0,1,2 when left out")
    parser.add_argument("--labels", default=",".join(COUNTS), help=f"labels per class, of {','.join(COUNTS)}")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="words of run.py, for all jobs")
    given = parser.parse_intermixed_args(words)
    asked = Asked(seeds_of(given.seeds), counts_of(given.labels), tuple(given.words))
    refuse_misfits(asked.words)
    for stage in ("pretrain", "finetune"):
        configured_steps(stage, asked.words)
    return asked


def seeds_of(text: str) -> tuple[int, ...]:
    """The different seeds of a list with commas."""
    try:
        return tuple(numbers("--seeds", text, int))
    except ValueError as error:
        raise config.ConfigError(str(error)) from None


def counts_of(text: str) -> tuple[str, ...]:
    """The numbers of labels of a list with commas, in their order; the probe is fitted to no others."""
    chosen = text.split(",")
    if unknown := [one for one in chosen if one not in COUNTS]:
        raise config.ConfigError(f"--labels {text}: {unknown[0]!r} is none of {', '.join(COUNTS)}")
    return tuple(count for count in COUNTS if count in chosen)


def refuse_misfits(words: Sequence[str]) -> None:
    """ConfigError for words that the arms set themselves, that list several values, or that an arm cannot have."""
    for word in words:
        key = parts(word)[1]
        if key in TAKEN:
            raise config.ConfigError(f"{word}: {key} is for the comparison to say; {TAKEN[key]}")
        if config.is_sweep(word):
            raise config.ConfigError(f"{word}: one value for all jobs; several would make arms that have no name")
    for method in METHODS:
        try:
            config.check(config.compose([f"method={method}", *words]))
        except config.ConfigError as error:
            raise config.ConfigError(f"the arms with method={method} cannot run: {error}") from error


def configured_steps(stage: str, words: Sequence[str] = ()) -> int:
    """Steps that a stage of DINO's arm takes; ConfigError where its length is given in epochs."""
    steps = config.compose(["method=dino", *words])[stage].steps
    if steps is None:
        raise config.ConfigError(f"arms are compared at equal steps: {stage}.epochs=null {stage}.steps=<number>")
    return int(steps)
