"""What of a stage's config decides its result, as one hash."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NOT_HASHED = frozenset(
    {"trainer", "logger", "tags", "name", "experiment_name", "checkpoint_every_seconds", "pixel_baseline", "hash"}
)
"""Keys of a stage that change nothing about its weights and its own numbers."""
WHERE_IMAGES_LIE = frozenset({"root", "cache"})


def config_hash(stage: Mapping[str, Any]) -> str:
    """SHA-256 of what decides a stage's result: not where it runs, what it is called, or where its images lie."""
    counted = {key: value for key, value in stage.items() if key not in NOT_HASHED}
    unread = WHERE_IMAGES_LIE | (frozenset() if stage["reads_labels"] else {"labels_per_class"})
    counted["dataset"] = without(stage["dataset"], unread)
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def without(node: Any, keys: frozenset[str]) -> Any:
    """A copy of nested plain values without some keys, wherever they stand."""
    if isinstance(node, Mapping):
        return {key: without(value, keys) for key, value in node.items() if key not in keys}
    return [without(value, keys) for value in node] if isinstance(node, list) else node
