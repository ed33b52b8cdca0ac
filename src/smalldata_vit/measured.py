"""What a config leaves to be measured on the training images, filled in once they are known."""

from collections.abc import Mapping
from typing import Any

from smalldata_vit.data.dataset import Splits
from smalldata_vit.predictions import normalisation_of

STATISTICS = frozenset({"mean", "std"})


def with_statistics(config: Mapping[str, Any], splits: Splits) -> dict[str, Any]:
    """A stage's config whose evaluators know what normalises the images that they are shown.

    An evaluator that undoes the normalisation (`evaluator=corruptions`) has `mean` and `std` of the dataset; where the
    dataset leaves both null, they are what was measured, or the evaluation view's own.
    """
    mean, std = normalisation_of(config["evaluation_view"], splits)
    known = {"mean": list(mean), "std": list(std)}
    return {**config, "evaluator": _filled(config["evaluator"], known)}


def _filled(node: Any, known: Mapping[str, list[float]]) -> Any:
    """A copy of nested plain values, those mappings completed in which both statistics are null."""
    if isinstance(node, list):
        return [_filled(inner, known) for inner in node]
    if not isinstance(node, Mapping):
        return node
    inside = {key: _filled(inner, known) for key, inner in node.items()}
    unknown = set(inside) >= STATISTICS and all(inside[name] is None for name in STATISTICS)
    return {**inside, **known} if unknown else inside
