"""Turns of a training loop that somebody else wrote: it is given a loader, and the loader notes the time."""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from smalldata_vit.bench.harness import Contender, Turn, clock
from smalldata_vit.bench.same_work import facts


class Batches:
    """A loader that costs nothing: the same batch again and again.

    `asked` has the time of each request; the last is the one that it answered with the end of the epoch.
    """

    def __init__(self, batch: Any, count: int, wall: bool = False) -> None:
        self.batch, self.count, self.asked = batch, count, list[float]()
        self.now, _ = clock(wall)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.count):
            self.asked.append(self.now())
            yield self.batch
        self.asked.append(self.now())


def looped(loop: Callable[[Batches], object], batch: Any, images: int, steps: int) -> Callable[[], Turn]:
    """A turn of `steps` steps of one epoch of a loop; one step before them, and what frames the epoch, do not count.

    What the loop prints is swallowed.
    """

    def turn() -> Turn:
        batches = Batches(batch, steps + 1)
        with contextlib.redirect_stdout(io.StringIO()):
            loop(batches)
        if len(batches.asked) != steps + 2:
            raise RuntimeError(f"the loop asked for {len(batches.asked)} batches, not to the end of {steps + 1}")
        return Turn(steps * images, batches.asked[-1] - batches.asked[1])

    return turn


def loop_contender(
    name: str,
    loop: Callable[[Batches], object],
    batch: Any,
    weights: Iterable[Tensor],
    images: int,
    steps: int,
    note: str = "",
) -> Contender:
    """A loop as a reference, with its facts; one step is taken here, to be counted."""

    def once() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            loop(Batches(batch, 1))

    return Contender(name, looped(loop, batch, images, steps), note, facts=facts(once, weights, images), reference=True)
