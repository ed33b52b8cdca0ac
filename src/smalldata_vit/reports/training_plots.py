"""A stage's numbers over its epochs, sorted into what a reader looks for; every number of metrics.csv is somewhere."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smalldata_vit import schedules
from smalldata_vit.reports.curves import Curve, thinned
from smalldata_vit.reports.drawing import Panel, lines

PACE = ("images_per_second", "waiting")
TIMES = ("seconds", "milliseconds")
"""What names of other times have in them."""
ENTROPIES = ("teacher_entropy", "entropy_of_mean", "uniform_entropy")
SET = ("learning_rate", "weight_decay", "guidance_weight", "relative_locations_weight")
"""What is set, or follows a rule, in contrast to what is measured."""
FRACTIONS = ("accuracy", "waiting", "guidance_share", "own_probability", "positive_first", "macro_f1", "top5")
TITLES = {
    "loss": "Loss",
    "gradient_norm": "Gradient norm, before clipping",
    "learning_rate": "Learning rate",
    "weight_decay": "Weight decay",
    "guidance_weight": "Weight of the guidance, β",
    "guidance_loss": "Distance to the guide",
    "guidance_share": "Guidance, share of the loss in %",
    "effective_rank": "Effective rank of the features",
    "feature_std": "Spread of the features (1: the whole sphere)",
    "images_per_second": "Images a second",
    "waiting": "Waiting for images, % of the time",
    "own_probability": "Probability of the own instance, %",
    "positive_first": "Positive pair first, % of images",
    "teacher_entropy": "entropy of an image's target",
    "entropy_of_mean": "entropy of the mean target",
    "uniform_entropy": "ln K, the most there can be",
}
POINTS = 400
"""Points to draw a configured schedule with."""


class Numbers:
    """A stage's curves, each handed out once, so that what nobody asked for is left over.

    Arguments:
        curves: by name, as metrics.csv has them (`train/loss`).
    """

    def __init__(self, curves: Mapping[str, Curve]) -> None:
        self.left = {name: thinned(curve) for name, curve in curves.items()}
        epochs = [epoch for curve in curves.values() for epoch in curve.epoch[-1:]]
        self.last_epoch = max(epochs, default=0.0)

    def take(self, name: str) -> Curve | None:
        """A curve by name; None if it is not there (any more)."""
        return self.left.pop(name, None)

    def several(self, names: Sequence[str], title: str, dashed: Sequence[str] = ()) -> list[Panel]:
        """One panel of several training numbers, if any of them is there."""
        found = {name: curve for name in names if (curve := self.take(f"train/{name}")) is not None}
        series = {TITLES.get(name, worded(name)): (curve.epoch, curve.value) for name, curve in found.items()}
        return [lines(title, series, "epoch", dashed=[TITLES.get(name, name) for name in dashed])] if series else []

    def single(self, name: str) -> list[Panel]:
        """One panel of one training number, if it is there."""
        curve = self.take(f"train/{name}")
        return [] if curve is None else [panel_of(name, curve)]


def panel_of(name: str, curve: Curve) -> Panel:
    """A panel of one number, fractions in percent."""
    fraction = any(name.endswith(ending) for ending in FRACTIONS)
    title = TITLES.get(name, worded(name) + (", %" if fraction else ""))
    return lines(title, {name: (curve.epoch, curve.value)}, "epoch", fractions=fraction)


def worded(name: str) -> str:
    """A metric's name as words: `knn_accuracy` is k-NN accuracy."""
    words = name.replace("knn", "k-NN").replace("linear_", "linear probe ").replace("_top5", ", top 5")
    words = words.replace("@all", ", all labels").replace("@", ", labels per class: ").replace("_", " ")
    return words[:1].upper() + words[1:] if not words.startswith("k-NN") else words


def learning(numbers: Numbers) -> list[Panel]:
    """The loss with its terms, accuracies on training and validation images, the gradient's norm."""
    loss = numbers.take("train/loss")
    drawn = []
    if loss is not None:
        for name, curve in list(numbers.left.items()):
            if curve.value == loss.value:  # the only term
                del numbers.left[name]
        drawn.append(lines("Loss", {"loss": (loss.epoch, loss.value)}, "epoch"))
    return drawn + validation(numbers) + numbers.single("gradient_norm")


def validation(numbers: Numbers) -> list[Panel]:
    """What was judged more than once; accuracy beside that on training images."""
    drawn = []
    for name in [name for name in numbers.left if name.startswith(("val/", "test/"))]:
        curve = numbers.take(name)
        kind = name.split("/", 1)[1]
        if curve is None or len(curve) < 2 or kind.startswith("per_class") or name.startswith("test/"):
            continue
        series = {"validation": (curve.epoch, curve.value)}
        beside = numbers.take(f"train/{kind}")
        if beside is not None:
            series["training, with its augmentation"] = (beside.epoch, beside.value)
        drawn.append(lines(worded(kind) + ", %", series, "epoch", fractions=True))
    return drawn


def collapse(numbers: Numbers) -> list[Panel]:
    """Signs of life: entropies between 0 and ln K, effective rank, spread."""
    drawn = numbers.several(ENTROPIES, "Entropies, nats", dashed=["uniform_entropy"])
    return drawn + numbers.single("effective_rank") + numbers.single("feature_std")


def settings_over_time(numbers: Numbers, config: Mapping[str, Any], steps: int) -> list[Panel]:
    """What was set at each step; then the schedules that the config names and no number records."""
    drawn = [panel for name in SET for panel in numbers.single(name)]
    each = steps / numbers.last_epoch if numbers.last_epoch > 0 else 0.0
    if each < 1:
        return drawn
    for group in ("method", "guidance"):
        for name, schedule in configured(config.get(group) or {}):
            places = [round(steps * place / POINTS) for place in range(POINTS + 1)]
            values = [schedule(schedules.Progress(step, steps, max(1, round(each)))) for step in places]
            series = {name: ([step / each for step in places], values)}
            drawn.append(lines(worded(name), series, "epoch", note="as configured"))
    return drawn


def configured(node: Mapping[str, Any]) -> Iterator[tuple[str, schedules.Schedule]]:
    """Every schedule of a config that is given whole and changes over time, by its key."""
    for name, value in node.items():
        if not isinstance(value, Mapping):
            continue
        home, _, kind = str(value.get("_target_", "")).rpartition(".")
        if home != schedules.__name__:
            yield from configured(value)
        elif "_partial_" not in value and kind != schedules.Constant.__name__:
            arguments = {key: given for key, given in value.items() if key != "_target_"}
            yield name, getattr(schedules, kind)(**arguments)


def pace(numbers: Numbers) -> list[Panel]:
    """Images a second, and the share of the time that training waited for them."""
    times = [name.removeprefix("train/") for name in numbers.left if any(unit in name for unit in TIMES)]
    return [panel for name in (*PACE, *times) for panel in numbers.single(name)]


def others(numbers: Numbers) -> list[Panel]:
    """Whatever is left of the training numbers: the terms of the loss, and what a method watches."""
    drawn = []
    for name in [name for name in numbers.left if name.startswith("train/")]:
        curve = numbers.take(name)
        if curve is not None:
            drawn.append(panel_of(name.removeprefix("train/"), curve))
    return drawn
