"""Runs grouped into arms: everything but the seed is the same within one; and what an arm is called."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from smalldata_vit.reports.intervals import Interval, Paired, interval, paired
from smalldata_vit.reports.records import Run

NO_SETTING = ("seed", "hash", "name", "tags", "experiment_name", "logger", "checkpoint_every_seconds")
"""Keys of a stage's config that make no other arm."""
LABELS = "labels_per_class"
OPTIONS = ("method", "plan", "arch", "dataset", "guidance", "experiment", "flavour")
"""Keys by which an arm is called in any case where there are too many words to name all."""
LONGEST = 120
"""Letters of words up to which all of them are named."""
Namer = Callable[[Run], str]


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone.

    Arguments:
        label: what tells it from the others, without the number of labels.
        labels: labels per class that its last stage may read; None: all, or it reads none.
    """

    label: str
    labels: int | None
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The label with the number of labels."""
        count = "" if self.labels is None else f"{self.labels} label{'s' if self.labels > 1 else ''} per class"
        return ", ".join(filter(None, [self.label, count]))

    @property
    def many_labels(self) -> float:
        """Labels per class, all of them being the most."""
        return float("inf") if self.labels is None else self.labels

    @property
    def finished(self) -> list[Run]:
        """Its runs that have an outcome."""
        return [run for run in self.runs if run.status == "finished"]

    def by_seed(self, name: str) -> dict[int, float]:
        """A number of every finished run that has it."""
        found = {run.seed: run.number(name) for run in self.finished}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, name: str) -> Interval | None:
        """Mean over seeds with its interval; None where no run has the number."""
        values = list(self.by_seed(name).values())
        return interval(values) if values else None

    def cost(self, name: str) -> Interval | None:
        """Mean of seconds, flops or joules over finished runs; None where a stage of one has no such number."""
        if not self.finished or not all(run.knows(name) for run in self.finished):
            return None
        return interval([run.total(name) for run in self.finished])


def arms_of(runs: Sequence[Run], named: Namer | None = None) -> list[Arm]:
    """The arms in the order of their first run. `named` says which arm a run belongs to where its settings do not.

    A run that did not finish left no whole settings: it belongs to the finished ones that were typed alike.
    """
    whole = {run.folder: (settings(run) if named is None else named(run)) for run in runs}
    finished = {tuple(sorted(run.words)): (whole[run.folder], run.labels) for run in runs if run.status == "finished"}
    groups: dict[tuple[str, int | None], list[Run]] = {}
    for run in runs:
        own = whole[run.folder], run.labels
        kind = own if run.status == "finished" else finished.get(tuple(sorted(run.words)), own)
        groups.setdefault(kind, []).append(run)
    kinds = {kind: group[0] for (kind, _), group in reversed(groups.items())}
    labels = labels_of(kinds) if named is None else {kind: kind for kind in kinds}
    return [Arm(labels[kind], count, tuple(group)) for (kind, count), group in groups.items()]


def labels_of(kinds: Mapping[str, Run]) -> dict[str, str]:
    """For each kind of run the words that were typed for it and not for all; its name where that says nothing."""
    typed = {kind: [word for word in run.words if LABELS not in word] for kind, run in kinds.items()}
    shared = set.intersection(*(set(words) for words in typed.values())) if typed else set()
    own = {kind: [word for word in words if word not in shared] for kind, words in typed.items()}
    if max((len(" ".join(words)) for words in own.values()), default=0) > LONGEST:
        own = telling(own)
    brief = brief_keys({word.split("=", 1)[0] for words in own.values() for word in words})
    found = {kind: " ".join(f"{brief[k]}={v}" for k, v in map(split, words)) for kind, words in own.items()}
    if len(found) == 1:
        found = {kind: str(kinds[kind].results.get("name", kinds[kind].folder.name)) for kind in found}
    twice = {label for label, count in Counter(found.values()).items() if count > 1}
    numbers = Counter[str]()
    for kind, label in found.items():
        if label in twice:  # the same words, but files of conf/ have changed between the runs
            numbers[label] += 1
            found[kind] = f"{label or 'as it is'} (settings {numbers[label]})"
    return {kind: label or "as it is" for kind, label in found.items()}


def telling(own: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of each kind's many words the options that were chosen, and what else is needed to tell all kinds apart."""
    values = {kind: dict(map(split, words)) for kind, words in own.items()}
    names = list(dict.fromkeys(name for words in values.values() for name in words))
    kept = [name for name in names if name in OPTIONS]

    def apart(chosen: Sequence[str]) -> int:
        return len({tuple(words.get(name) for name in chosen) for words in values.values()})

    while apart(kept) < apart(names):
        kept.append(max((name for name in names if name not in kept), key=lambda name: apart([*kept, name])))
    return {kind: [word for word in words if split(word)[0] in kept] for kind, words in own.items()}


def split(word: str) -> tuple[str, str]:
    """Key and value of a typed word."""
    key, _, value = word.partition("=")
    return key, value


def brief_keys(names: Collection[str]) -> dict[str, str]:
    """Each key without the parts before its last ones that no other key needs: finetune.optimization.lr is lr."""
    ends = {
        name: [".".join(name.split(".")[place:]) for place in range(name.count(".") - vague(name), -1, -1)]
        for name in names
    }
    counts = Counter(end for each in ends.values() for end in each)
    return {name: next((end for end in each if counts[end] == 1), name) for name, each in ends.items()}


def vague(name: str) -> bool:
    """Whether a key's last part says nothing without the one before it, as in weight_decay.value."""
    return "." in name and name.rpartition(".")[2] in ("value", "start", "end")


def settings(run: Run) -> str:
    """What a run was, but for its seed and the number of labels, as text that is equal for equal runs."""
    files = [run.stage_folder(stage) / "config.yaml" for stage in run.stages]
    if run.status == "finished" and files and all(file.exists() for file in files):
        return "\n".join(settings_in(os.path.realpath(file)) for file in files)
    return "\n".join(word for word in run.words if LABELS not in word)


@cache
def settings_in(file: str) -> str:
    """A stage's config without what makes no other arm. Read as lines: to parse a thousand files takes a minute."""
    kept, dropped = [], False
    for line in Path(file).read_text().splitlines():
        if not line.startswith((" ", "-")):
            dropped = line.partition(":")[0] in NO_SETTING
        if not dropped and not re.match(rf"\s+{LABELS}:", line):
            kept.append(line)
    return "\n".join(kept)


def baseline_of(arms: Sequence[Arm], asked: str | None, name: str) -> str | None:
    """The label of the arm that others are compared with; None where there is just one.

    Without one asked for it is the best by `name` of those that start from nothing while others do not, else the first.
    ValueError if no label, or more than one, has the words that were asked for.
    """
    labels = list(dict.fromkeys(arm.label for arm in arms))
    if asked is not None:
        words = {arm.label: " ".join(arm.runs[0].words) for arm in arms}
        fitting = [label for label in labels if asked == label]
        fitting = fitting or [label for label in labels if asked in label or asked in words[label]]
        if len(fitting) != 1:
            raise ValueError(f"baseline {asked!r} fits {len(fitting)} arms; there are: {'; '.join(labels)}")
        return fitting[0]
    if len(labels) < 2:
        return None
    means = [(arm, mean.mean) for arm in arms if (mean := arm.mean(name)) is not None]
    scratch = [pair for pair in means if "pretrain" not in pair[0].finished[0].stages]
    return max(scratch, key=lambda pair: pair[1])[0].label if 0 < len(scratch) < len(means) else labels[0]


def against(arm: Arm, arms: Sequence[Arm], baseline: str | None, name: str) -> Paired | None:
    """An arm less the baseline with as many labels, paired over seeds; None for the baseline itself."""
    rivals = [one for one in arms if one.label == baseline and one.labels == arm.labels]
    if arm.label == baseline or not rivals:
        return None
    return paired(arm.by_seed(name), rivals[0].by_seed(name))
