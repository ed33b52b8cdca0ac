"""What the stage `evaluate` judges is judged as it was trained: with the settings of the stage that made it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from smalldata_vit.inheritance import below, merged

GROUPS = ("dataset", "arch", "method")
"""Groups whose values are those of the stage that is judged, where `evaluate` has none of its own."""
VALUES = ("image_size", "evaluation_view", "reads_labels")
"""The same of single values."""


def written(start_from: Mapping[str, Any], output_dir: str | None, scheduled: Collection[str]) -> dict[str, Any] | None:
    """The config that the judged stage wrote when it ran; None if it is to run in this command, or is not known.

    A checkpoint of ours lies in a stage's folder, whose config is then meant.
    """
    stage, file = start_from.get("stage"), start_from.get("file")
    if file is not None:
        folder = Path(file).absolute().parent.parent
    elif stage is not None and output_dir is not None and stage not in scheduled:
        folder = Path(output_dir) / stage
    else:
        return None
    config = folder / "config.yaml"
    found = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    return found if isinstance(found, dict) and set(found) >= {*GROUPS, *VALUES, "seed"} else None


def settings(
    own: Mapping[str, Any],
    trained: Mapping[str, Any],
    options: Mapping[str, Any],
    said: Collection[str],
    chosen: Collection[str],
) -> dict[str, Any]:
    """The values of `evaluate` that are those of the trained stage, merged with what was said of `evaluate` itself.

    Arguments:
        own: the stage as it was composed.
        trained: the resolved config of the stage that is judged.
        options: of each group the values in the file of `evaluate`'s own option, and the default of `evaluation_view`.
        said: dotted paths below `evaluate` that were set for it.
        chosen: groups whose option was chosen for it: those are its own.
    """
    taken = {
        group: merged(options[group], trained[group], own[group], below(said, group))
        for group in GROUPS
        if group not in chosen
    }
    view = merged(
        options["evaluation_view"], trained["evaluation_view"], own["evaluation_view"], below(said, "evaluation_view")
    )
    taken |= {"evaluation_view": view, "reads_labels": trained["reads_labels"]}
    if "image_size" not in said:
        taken["image_size"] = trained["image_size"]
    return taken
