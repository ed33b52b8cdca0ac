"""What W&B is told of a stage beside its rows: what it is at the start, how fast it goes, what came out at the end."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from smalldata_vit.results import read_json
from smalldata_vit.schema import EVALUATE, INHERITED, OWN

LONGEST_TAG = 64
"""Characters; W&B refuses longer ones."""
AT_ROOT = ("method", "experiment", "flavour")
"""Choices of the whole experiment: how the network got its start, and which published numbers it is compared with."""
COSTS = {"seconds": "seconds", "flops": "flops", "images": "images_seen"}
"""Names of what a stage costs, and where its outcome says it."""


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level, keys as they are typed (`optimization.lr`): W&B's tables, filters and axes take a value each."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
            value = {str(place): inner for place, inner in enumerate(value)}
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def labels(stage: str, config: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, str]:
    """What runs are grouped by: the stage's options by group, `method` as the whole experiment has it.

    A judgement takes its network from the run that it judges, so that only what was chosen for it is told. Empty where
    nothing was chosen.
    """
    if not chosen:
        return {}
    groups = () if stage == EVALUATE else (*INHERITED, *OWN)
    keys = {group: f"{group}@{stage}.{group}" for group in groups}
    found = {group: chosen[key] for group, key in keys.items() if key in chosen}
    at_root = AT_ROOT if stage != EVALUATE else AT_ROOT[1:]
    found |= {group: chosen[group].rpartition("/")[2] if group == "flavour" else chosen[group]
              for group in at_root if group in chosen}  # fmt: skip
    return found | {"dataset": config["dataset"]["name"]}


def described(
    stage: str, group: str, config: Mapping[str, Any], own_tags: Sequence[str], chosen: Mapping[str, str]
) -> dict[str, Any]:
    """Name, tags and flat config of a run; the labels that views group by stand in the config too."""
    labelled = labels(stage, config, chosen)
    told = flat({key: value for key, value in config.items() if key not in ("logger", "tags")})
    seed = f" seed {config['seed']}" if "seed" in config else ""
    return {"name": f"{group} {stage}{seed}", "tags": tags(own_tags, labelled), "config": told | labelled}


def tags(own: Sequence[str], labelled: Mapping[str, str]) -> list[str]:
    """The user's own tags, then the chosen options."""
    said = [f"{group}={option}" for group, option in labelled.items() if option != "none"]
    return list(dict.fromkeys(tag[:LONGEST_TAG] for tag in [*own, *said] if tag))


class Speed:
    """Numbers that follow from how many images a second go through, and what an image costs.

    Arguments:
        folder: of the stage; its begun.json says what an image costs.
        peak: FLOP/s that the devices can do together; None: not known.
    """

    def __init__(self, folder: Path, peak: float | None) -> None:
        self.file, self.peak = folder / "begun.json", peak
        self.costs: Mapping[str, float] | None = None

    def of(self, row: Mapping[str, Any]) -> dict[str, float]:
        """`train/flops_per_second`, and `train/share_of_peak` where the peak is known; empty for a row without pace."""
        if "train/images_per_second" not in row:
            return {}
        if self.costs is None:
            self.costs = read_json(self.file) if self.file.exists() else {}
        if "flops_per_image" not in self.costs:
            return {}
        whole, guided = self.costs["flops_per_image"], row.get("train/guidance_on", 1.0)
        each = whole - (1 - guided) * (whole - self.costs.get("flops_per_image_unguided", whole))
        rate = each * row["train/images_per_second"]
        return {"train/flops_per_second": rate} | (
            {} if self.peak is None else {"train/share_of_peak": rate / self.peak}
        )


def written(folder: Path) -> int | None:
    """When the stage's outcome was written, in nanoseconds; None if it was not."""
    file = folder / "stage.json"
    return file.stat().st_mtime_ns if file.exists() else None


def outcome_since(before: int | None, folder: Path) -> Mapping[str, Any]:
    """The outcome that was written after `before`; empty if there is none, or if it cannot be read."""
    if written(folder) in (None, before):
        return {}
    with suppress(OSError, ValueError):
        return read_json(folder / "stage.json")
    return {}


def exit_code(outcome: Mapping[str, Any], failed: bool) -> int:
    """0 for a stage that finished; else that of its process, so that W&B does not count it among the finished ones."""
    if not outcome:
        return int(failed)
    return 0 if outcome["status"] == "finished" else int(outcome.get("exit_status", 1))


def summary(outcome: Mapping[str, Any], output_dir: Path | None) -> dict[str, Any]:
    """The final numbers under the names of their rows, what they cost, and how the stage ended.

    `cost/…` is the stage's own, `cost/total_…` that of all stages whose weights it took over too.
    """
    told = {name: value for name, value in outcome.get("metrics", {}).items() if value is not None}
    told |= {
        f"untrained/{name}": value for name, value in (outcome.get("untrained") or {}).items() if value is not None
    }
    own = {name: outcome[key] for name, key in COSTS.items() if key in outcome}
    told |= {f"cost/{name}": value for name, value in own.items()}
    if own and outcome["status"] == "finished":
        stages = {outcome["key"]: outcome} | {before["key"]: before for before in earlier(outcome, output_dir)}
        told |= {f"cost/total_{name}": sum(one[COSTS[name]] for one in stages.values()) for name in own}
    for name in ("status", "error", "labels_per_class", "train_images", "from_scratch", "steps"):
        told |= {name: outcome[name]} if outcome.get(name) is not None else {}
    return told


def earlier(outcome: Mapping[str, Any], output_dir: Path | None) -> Iterator[Mapping[str, Any]]:
    """Outcomes of the stages whose weights a stage took over, and of theirs; as far as they still can be read."""
    for name in ("start_from", "guide"):
        source = (outcome.get(name) or {}).get("source")
        if source is None:
            continue
        beside = [] if output_dir is None else [output_dir / source]
        above = [Path(source).parent.parent] if Path(source).is_file() else []
        found = [file for folder in (*beside, *above) if (file := folder / "stage.json").exists()]
        if found and "key" in (before := read_json(found[0])):
            yield before
            yield from earlier(before, output_dir)
