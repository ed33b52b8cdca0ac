"""The jobs of a sweep: each checked before the first starts, each in a folder that is named by what the job is.

So the same job is found again, whatever else a later command lists.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smalldata_vit.jobs import Job
from smalldata_vit.shares import Machine, Need, need_of
from smalldata_vit.stage_hash import NOT_HASHED, WHERE_IMAGES_LIE
from smalldata_vit.sweep_compose import Composed, Composer
from smalldata_vit.words import ConfigError, parts, quoted

LONGEST_NAME = 80
"""Characters of a job's folder name; file systems allow 255 bytes."""
DIGITS = 8
"""Of a job's hash in its folder name: of ten thousand jobs two are alike in one sweep out of a hundred."""
BESIDE = NOT_HASHED | WHERE_IMAGES_LIE
"""Keys, by their first or last name, that an experiment's hash leaves out."""
WRONG_SHOWN = 10
"""Jobs that cannot run, after which no more are looked at."""


@dataclass(eq=False)
class Planned:
    """A job and what the sweep knows about it before it runs.

    Arguments:
        hash: of its experiment; that in its results.json.
        shared: the key of every stage that goes to the store, in order.
        judged_by: of every stage the metric by which it is judged, in order.
    """

    job: Job
    hash: str
    shared: Mapping[str, str]
    judged_by: Mapping[str, str]
    need: Need


def plan(
    fixed: Sequence[str], overrides: Sequence[Sequence[str]], first: int, folder: Path, script: Path, machine: Machine
) -> list[Planned]:
    """The jobs with these words; ConfigError that names those that cannot run.

    Jobs that ask for one and the same are planned once.
    """
    composer, wrong = Composer(fixed), list[str]()
    found: dict[Path, Planned] = {}
    for number, words in enumerate(overrides, start=first):
        try:
            composed = composer(words)
        except ConfigError as error:
            wrong.append(f"job {number} ({' '.join(words) or 'no override of its own'}): {error}")
            if len(wrong) == WRONG_SHOWN:
                wrong.append("Jobs after these were not looked at.")
                break
            continue
        placed = composed.output_dir is not None and places_jobs(fixed, words)
        place = Path(str(composed.output_dir)) if placed else folder / job_folder(composed.hash, words)
        if place not in found:
            found[place] = planned(fixed, words, number, place, script, composed, machine)
        elif placed and list(found[place].job.words) != list(words):
            sentence = f"output_dir={place} is that of several jobs: leave it to the sweep, or name every swept value"
            wrong += [sentence] if sentence not in wrong else []
    if wrong:
        raise ConfigError("\n".join(wrong))
    return list(found.values())


def planned(
    fixed: Sequence[str],
    words: Sequence[str],
    number: int,
    place: Path,
    script: Path,
    composed: Composed,
    machine: Machine,
) -> Planned:
    """One job, to be started with all of its words and its folder."""
    own = [word for word in [*fixed, *words] if parts(word)[1] != "output_dir"]
    job = Job(number, words, [*own, f"output_dir={quoted(str(place))}"], place, script)
    judged_by = {name: str(stage["best_by"]) for name, stage in composed.stages.items()}
    trainer = next(iter(composed.stages.values()))["trainer"]
    return Planned(job, composed.hash, composed.shared(), judged_by, need_of(trainer, machine))


def places_jobs(fixed: Sequence[str], words: Sequence[str]) -> bool:
    """Whether `output_dir` holds a swept value, so that each job has a folder without our help."""
    if any(parts(word)[1] == "output_dir" for word in words):
        return True
    return any(parts(word)[1] == "output_dir" and "${" in word for word in fixed)


def job_folder(experiment: str, words: Sequence[str]) -> str:
    """A job's folder: its words, and the hash of what it is.

    `experiment`: its hash. It leaves out where a job runs, so words that say just that are counted beside it.
    """
    beside = sorted(word for word in words if {parts(word)[1].split(".")[0], parts(word)[1].split(".")[-1]} & BESIDE)
    digest = hashlib.sha256("\n".join([experiment, *beside]).encode()).hexdigest()[:DIGITS]
    return f"{readable(words)[: LONGEST_NAME - DIGITS - 1].rstrip('-_.')}-{digest}"


def folder_name(number: int, words: Sequence[str]) -> str:
    """The folder of one that is found again by its number, with its words behind it."""
    return f"{number:03d}_{readable(words)}"[:LONGEST_NAME].rstrip("-_.")


def readable(words: Sequence[str]) -> str:
    """Words in characters that no shell, file system or Hydra minds."""
    return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", word).strip("-.") for word in words) or "job"
