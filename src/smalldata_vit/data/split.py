"""Which image goes where: stratified shares and labelling orders, as functions of a seed and the images' names.

Each image gets a number from (seed, purpose, its name), and the order of these numbers decides. So the choice is the
same on every machine, and an image that is added to a folder moves few of the others.
"""

from collections.abc import Sequence

import numpy as np

from smalldata_vit import randomness


def stratified(labels: np.ndarray, files: Sequence[str], count: int, *purpose: int | str) -> np.ndarray:
    """A mask (N,) of `count` images, each class represented by its share; a class always keeps one image outside.

    `purpose` starts with the seed where one is wanted. If the classes are too small, there are fewer than `count`.
    """
    taken = shares(np.bincount(labels), count)
    return places(labels, files, *purpose) < taken[labels]


def places(labels: np.ndarray, files: Sequence[str], *purpose: int | str) -> np.ndarray:
    """Each image's place 0, 1, … in a random order of its class, int64 (N,): the first n places are a nested subset."""
    drawn = np.array([randomness.key(*purpose, file) for file in files], dtype=np.int64)
    order = np.lexsort((drawn, labels))
    counts = np.bincount(labels)
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place


def shares(counts: np.ndarray, total: int) -> np.ndarray:
    """How many of each class make up `total`, by largest remainder; at most all but one of a class."""
    exact = counts * (total / max(counts.sum(), 1))
    most = np.maximum(counts - 1, 0)
    taken = np.minimum(np.floor(exact).astype(np.int64), most)
    for c in np.argsort(np.floor(exact) - exact, kind="stable"):
        if taken.sum() >= total:
            break
        taken[c] += taken[c] < most[c]
    return taken
