"""`bench gpu`: what the chip reaches, then how near our views and steps get to it; each part under ten minutes.

The device is the GPU if there is one. Without one everything still runs, tiny, to be tried out (`--smoke`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from smalldata_vit.bench import data
from smalldata_vit.bench.floors import Chip, Transformer, least_traffic
from smalldata_vit.bench.harness import Contender, Row, Table, Turn, clock, compared, synchronised
from smalldata_vit.bench.pictures import photographs
from smalldata_vit.bench.runs import BF16, dino_flops
from smalldata_vit.bench.step import DINO, Ours, Settings, plain

PARTS = ("ceilings", "views", "step")
TINY = ("arch.width=24", "arch.depth=2", "method.hidden=32", "method.prototypes=64")


def ceilings(smoke: bool) -> tuple[Chip, Table]:
    """Rates of a large bf16 product and a large copy; microseconds of one small operation and of one host read."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side, cells = (256, 2**18) if smoke else (8192, 2**29)
    left = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    source = torch.zeros(cells, device=device, dtype=torch.bfloat16)
    target, one = torch.empty_like(source), torch.zeros((), device=device)
    product = rate(lambda: left @ left, 20) * 2 * side**3
    copy = rate(lambda: target.copy_(source), 20) * 2 * 2 * cells
    operation, read = rate(lambda: one.add_(1), 2000), rate(lambda: one.item(), 2000)
    rows = [
        Row("product in bf16, TFLOP", product / 1e12, 0, 1, 0),
        Row("copy, TB read and written", copy / 1e12, 0, 1, 0),
        Row("small operations", operation, 0, 1, 0, more={"us each": 1e6 / operation}),
        Row("host reads", read, 0, 1, 0, more={"us each": 1e6 / read}),
    ]
    return Chip(product, copy), Table("ceilings", "/s", clock(wall=True)[1], 1, rows)


def rate(work: Callable[[], object], times: int) -> float:
    """How often a second something can be done, the best of three turns."""
    now = synchronised if torch.cuda.is_available() else time.perf_counter
    best = 0.0
    for _ in range(4):
        begun = now()
        for _ in range(times):
            work()
        best = max(best, times / (now() - begun))
    return best


@dataclass(frozen=True)
class Rung:
    """One form of the step: what is typed, how float32 products are rounded, whether views are made beforehand."""

    name: str
    words: Sequence[str]
    products: str = "highest"
    prepared: bool = True
    compiles: bool = False


LADDER = (
    Rung("float32", ["trainer.precision=32-true", "+arch.attention=sdpa", "trainer.tf32=false"]),
    Rung("TF32", ["trainer.precision=32-true", "+arch.attention=sdpa"], products="high"),
    Rung("bf16, explicit attention", [BF16, "+arch.attention=explicit"]),
    Rung("bf16, fused attention", [BF16, "+arch.attention=sdpa"]),
    Rung("+ compiled", [BF16, "+arch.attention=sdpa", "trainer.compile=true"], compiles=True),
    Rung("+ views", [BF16, "+arch.attention=sdpa", "trainer.compile=true"], prepared=False, compiles=True),
)
"""From the published form of the step to ours. A new switch of the trainer is another line."""


@contextmanager
def rounding(products: str) -> Iterator[None]:
    """How products of float32 are rounded inside."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(products)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def ladder(rungs: Sequence[Rung], settings: Settings, folder: Path, rounds: int, chip: Chip, smoke: bool) -> Table:
    """The plain loop, then every rung, with its share of the arithmetic and of the traffic floor."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found, needs = [plain("plain torch + timm, bf16", settings, True, True, device, smoke)], [(0.0, 0.0)]
    for rung in rungs:
        ours = Ours([*DINO, *rung.words, *(TINY if smoke else ())], settings, folder, rung.prepared)
        arch = ours.config["arch"]
        network = Transformer(arch["width"], arch["depth"], arch["mlp_ratio"], arch["patch_size"], short=True)
        side = settings.side
        views = [(2, side), (8, side // 2)]
        needs.append((dino_flops(ours.config, recomputes=False), least_traffic(network, views, views[:1])))
        found.append(Contender(rung.name, with_rounding(rung.products, ours.turn)))
    if not smoke:
        needs[0] = needs[-1]
    made = compared(f"step ladder, batch {settings.batch}", found, rounds)
    rows = [replace(row, more=shares(chip, row.rate, *need)) for row, need in zip(made.rows, needs, strict=True)]
    return replace(made, rows=rows)


def shares(chip: Chip, images: float, flops: float, bytes_: float) -> dict[str, float]:
    """The two numbers that say how far there is to go; nothing where the network was not counted."""
    if flops == 0:
        return {}
    return {"MFU": chip.utilisation(images, flops), "of the traffic floor": chip.share_of_floor(images, bytes_)}


def with_rounding(products: str, turn: Callable[[], Turn]) -> Callable[[], Turn]:
    """A turn with another rounding of float32 products."""

    def wrapped() -> Turn:
        with rounding(products):
            return turn()

    return wrapped


def views_tables(rounds: int, smoke: bool) -> list[Table]:
    """Our views on the device, for each recipe."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tables = []
    for case in data.CASES:
        few = replace(case, count=4 if smoke else (512 if case.image_size <= 64 else 64))
        pictures = photographs(few.count, few.height, few.width)
        tables.append(
            compared(
                case.title,
                [data.ours(few, pictures, device, c) for c in ((False,) if smoke else (False, True))],
                rounds,
            )
        )
    return tables


def tables(part: str | None, names: str | None, rounds: int, folder: Path, smoke: bool) -> list[Table]:
    """The asked part, or all; `names`: only rungs whose name holds this."""
    chip, first = ceilings(smoke)
    found = [first]
    if part in (None, "views"):
        found += views_tables(rounds, smoke)
    if part in (None, "step"):
        settings = Settings(4, 1, images=8) if smoke else Settings(256, 20, images=2048)
        rungs = [r for r in LADDER if (names is None or names in r.name) and not (smoke and r.compiles)]
        found.append(ladder(rungs, settings, folder, rounds, chip, smoke))
    return found
