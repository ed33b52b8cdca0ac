"""`bench curves`: how the rate changes with one thing: batch, crops, width, data, workers, threads."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from smalldata_vit.bench.command import bare
from smalldata_vit.bench.data import Case, built
from smalldata_vit.bench.harness import Contender, Table, Turn, compared, timed
from smalldata_vit.bench.machine import has_bf16
from smalldata_vit.bench.pictures import photographs
from smalldata_vit.bench.runs import BF16, dino_flops
from smalldata_vit.bench.step import DINO, Ours, Settings
from smalldata_vit.data.images import Images

POINTS: dict[str, Sequence[int]] = {
    "batch": (4, 8, 16, 32, 64),
    "crops": (0, 2, 4, 8, 12),
    "width": (96, 192, 384, 768),
    "data": (1_000, 10_000, 100_000),
    "workers": (0, 1, 2),
    "threads": (1, 2),
}
WORDS = {"crops": "pretrain.views.groups.local.count={}", "width": "arch.width={}"}


def precision() -> list[str]:
    """bf16 where the hardware multiplies it."""
    return [BF16] if torch.cuda.is_available() or has_bf16() else []


def steps_of(curve: str, settings: Settings, folder: Path, points: Sequence[int]) -> list[Contender]:
    """Our step at each point, with the GFLOP of an image in the note."""
    found = []
    for point in points:
        words = [WORDS[curve].format(point)] if curve in WORDS else []
        batch = point if curve == "batch" else settings.batch
        own = replace(settings, batch=batch, images=max(settings.images, batch))
        ours = Ours([*DINO, *precision(), *words], own, folder, prepared=True)
        note = f"{dino_flops(ours.config) / 1e9:.2f} GFLOP an image"
        found.append(Contender(f"{curve} {point}", ours.turn, note))
    return found


def resident(count: int) -> Images:
    """As many small pictures in memory as are asked for, a few of them different."""
    few = torch.from_numpy(photographs(32, 32, 32)).flatten(1)
    sizes, zeros = torch.full((count,), 32), torch.zeros(count, dtype=torch.int64)
    nothing = torch.zeros(count, 2, 3, dtype=torch.int64)
    pixels = few.repeat(-(-count // len(few)), 1)[:count].flatten()
    offsets = torch.arange(count) * few.shape[1]
    digests = torch.zeros(count, 16, dtype=torch.uint8)
    return Images(pixels, offsets, sizes, sizes, zeros, digests, nothing, ["picture"], [""] * count)


def taking(count: int, batch: int) -> Contender:
    """Taking random pictures out of `count` and making their views."""
    images, views = resident(count), built(Case("", "multicrop", 32, 32, 32, 0))
    steps, generator = iter(range(10**9)), torch.Generator().manual_seed(0)
    sizes = torch.full((batch,), 32)

    def work() -> None:
        index = torch.randint(0, count, (batch,), generator=generator)
        views(images.take(index), views.draw(0, next(steps), sizes, sizes))

    return Contender(f"{count:,} pictures in memory", timed(work, batch))


def on_threads(threads: int, turn: Callable[[], Turn]) -> Callable[[], Turn]:
    """A turn with another number of threads."""

    def wrapped() -> Turn:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return turn()
        finally:
            torch.set_num_threads(before)

    return wrapped


def table(curve: str, rounds: int, settings: Settings, folder: Path, points: Sequence[int]) -> Table:
    """One curve; ratios are against its first point."""
    if curve in ("batch", "crops", "width"):
        return compared(f"step by {curve}", steps_of(curve, settings, folder, points), rounds)
    if curve == "data":
        return compared("views by number of pictures", [taking(point, 64) for point in points], rounds)
    words = [*DINO, *precision()]
    ours = Ours(words, settings, folder, prepared=False, wall=True)
    if curve == "threads":
        turns = [Contender(f"ours, {point} threads", on_threads(point, ours.turn)) for point in points]
        return compared("step with views by threads", turns, rounds, wall=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = bool(precision())
    found = [bare(f"bare loop, {point} workers", settings, bf16, device, True, point) for point in points]
    ahead = Contender("ours, no workers", ours.turn)
    return compared("end to end by workers", [*found, ahead], rounds, wall=True)
