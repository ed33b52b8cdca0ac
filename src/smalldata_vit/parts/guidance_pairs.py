"""Which block of a student imitates which stage of its guide."""

import math
from collections.abc import Sequence

Pair = tuple[int, int]
"""A student's block and a guide's stage, both counted from 0."""


def by_depth(blocks: int, stages: int) -> list[Pair]:
    """A pair for each stage, with the block at the same relative depth: the first, …, the last, halves rounded up.

    For three stages these are the published 0, depth / 2 and depth - 1 of students with 7, 12 and 13 blocks.
    """
    if stages == 1:
        return [(blocks - 1, 0)]
    return [(math.floor((blocks - 1) * stage / (stages - 1) + 0.5), stage) for stage in range(stages)]


def settled(pairs: Sequence[Sequence[int]] | None, blocks: int, stages: int) -> list[Pair]:
    """The pairs that were asked for, None for those by relative depth; negative places count from the end.

    ValueError for none at all, for one that is no pair, and for a block or stage that there is not.
    """
    if pairs is None:
        return by_depth(blocks, stages)
    if not pairs:
        raise ValueError(
            "pairs=[] guides nothing: give [block, stage] pairs, null for those by depth, or guidance=none"
        )
    for pair in pairs:
        if len(pair) != 2 or not (-blocks <= pair[0] < blocks and -stages <= pair[1] < stages):
            raise ValueError(
                f"pairs: {list(pair)} is no [block, stage]: the student has blocks 0 to {blocks - 1}, the guide stages "
                f"0 to {stages - 1} (negative ones count from the end)"
            )
    return [(pair[0] % blocks, pair[1] % stages) for pair in pairs]
