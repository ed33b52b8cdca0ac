"""The 1,797 digits that come with scikit-learn: real scans, 8 x 8 pixels, no download.

E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (1998), UCI Machine Learning Repository; the part that
the collection calls its test set.
"""

from pathlib import Path

import numpy as np

from smalldata_vit.data.sources import Opened, RawSplit
from smalldata_vit.data.split import stratified

TEST_IMAGES = 360
"""Set aside by us, stratified and always the same: the collection as it ships here has no split of its own."""


class Digits:
    """Train (1,437) and test (360)."""

    def splits(self, root: Path) -> dict[str, RawSplit]:
        """Nothing is read from `root`."""
        return {
            "train": RawSplit(None, lambda: _opened(test=False)),
            "test": RawSplit(None, lambda: _opened(test=True)),
        }


def _opened(test: bool) -> Opened:
    from sklearn.datasets import load_digits  # a second to import, which the other datasets need not wait for

    found = load_digits()
    pictures = np.rint(found.images * (255 / 16)).astype(np.uint8)
    files = [f"digit_{i:04d}" for i in range(len(pictures))]
    chosen = stratified(found.target, files, TEST_IMAGES, "digits test")
    places = np.flatnonzero(chosen if test else ~chosen)

    def item(place: int) -> tuple[np.ndarray, int]:
        i = places[place]
        return np.repeat(pictures[i][:, :, None], 3, axis=2), int(found.target[i])

    return Opened([str(d) for d in range(10)], [files[i] for i in places], item)
