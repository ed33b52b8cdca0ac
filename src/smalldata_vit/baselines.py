"""What is reached without any network, from the same splits and at the same numbers of labels."""

from typing import Any

import torch

from smalldata_vit.data.dataset import Splits

MOST_IMAGES = 3_000
"""That the support vector machine is fitted to: its cost grows with their square."""


def pixels_alone(splits: Splits) -> dict[str, float]:
    """`test/accuracy@n` of a support vector machine on raw pixels; empty without a test split."""
    if splits.test is None:
        return {}
    # scikit-learn is a second to import, and most stages do without it.
    from smalldata_vit.evaluators.pixels import flat, svm_on_pixels

    def arrays(images: Any) -> tuple[Any, Any]:
        return flat(images.take(torch.arange(len(images)))), images.labels.numpy()

    validation = None if splits.val is None else arrays(splits.val)
    found = svm_on_pixels(
        arrays(splits.train), splits.place.numpy(), validation, arrays(splits.test), (1, 2, 5, 10), MOST_IMAGES
    )
    return {f"test/{name}": value for name, value in found.metrics.items()}
