"""Whether decoded images are kept, or made anew each time they are needed."""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from smalldata_vit.console import console
from smalldata_vit.data.cache import Found, in_memory, streamed
from smalldata_vit.data.resolution import Resolution
from smalldata_vit.data.room import Room
from smalldata_vit.data.sources import RawSplit
from smalldata_vit.data.workers import Workers

log = logging.getLogger(__name__)

MOST_BY_ITSELF = 16
"""Workers that `auto` starts at most."""


class Keeping:
    """Brings splits to where training can ask for their images.

    Arguments:
        decoded: `cache` keeps pixels in a file that is mapped; `stream` has processes decode what is asked for.
        folder: for such files.
        room: that they may take.
        workers: processes for `stream`, or `auto`.
    """

    def __init__(self, decoded: Literal["cache", "stream"], folder: Path, room: Room, workers: int | str) -> None:
        self.decoded, self.folder, self.room = decoded, folder, room
        self.workers, self.fewer = number_of_workers(workers)

    def found(self, raw: Mapping[str, RawSplit], name: str, resolution: Resolution) -> dict[str, Found]:
        """By split its images, and what could not be read."""
        if self.decoded == "cache" or all(split.stamp is None for split in raw.values()):
            return {s: in_memory(one, f"{name}-{s}", self.folder, resolution, self.room) for s, one in raw.items()}
        if self.fewer is not None:
            log.warning("%s", self.fewer)
        workers = Workers(self.workers)
        told = f"dataset {name}: images are decoded when they are needed, by {self.workers} process(es)"
        console().print(told, markup=False)
        return {s: streamed(one, f"{name}-{s}", self.folder, resolution, workers) for s, one in raw.items()}


def number_of_workers(asked: int | str) -> tuple[int, str | None]:
    """How many processes decode, and a sentence if they are fewer than was asked for.

    `auto`: one for each core that this process may use, or its share of them where several processes train here.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else os.cpu_count() or 1
    if asked == "auto":
        share = cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return min(max(share, 1), MOST_BY_ITSELF), None
    if isinstance(asked, str) or asked < 1:
        raise ValueError(f"dataset.workers={asked}: it is a number of processes, at least 1, or auto")
    if asked > cores:
        return cores, f"dataset.workers={asked} is more than the {cores} cores that this process may use: {cores} start"
    return asked, None
