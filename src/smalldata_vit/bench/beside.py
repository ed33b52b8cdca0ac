"""The tables of `bench peers`, part by part."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from smalldata_vit.bench import data, host, memory, methods, products, step
from smalldata_vit.bench.harness import Table
from smalldata_vit.bench.peers import Peer, asked, found_in
from smalldata_vit.bench.pictures import jpegs, photographs
from smalldata_vit.bench.plain import made_views
from smalldata_vit.composition import option

PARTS = ("views", "products", "step", "idmm", "guided", "host", "memory")


def tables(peers: Path, parts: Sequence[str], rounds: int, settings: step.Settings, folder: Path) -> list[Table]:
    """The asked parts, with the contenders of the folder `peers` in them; `settings`: of the DINO step."""
    found, made = found_in(peers), []
    ask, smoke = partial(asked, found), settings.batch < step.Settings().batch
    for part in parts:
        if part == "views":
            made += views(found, rounds)
        elif part == "products":
            made.append(products.table(rounds))
        elif part == "step":
            made.append(dino(found, rounds, settings, folder))
        elif part == "host":
            made.append(host.table(rounds, folder, smoke, ask))
        elif part == "memory":
            # A process for each contender and turn; what it adds hardly differs from turn to turn.
            made.append(memory.table(1, 2 if smoke else 64, peers))
        else:
            made.append(methods.table(part, rounds, folder, smoke, ask))
    return made


def views(peers: dict[str, Peer], rounds: int) -> list[Table]:
    """The tables of views."""
    found = []
    for case in data.CASES:
        given: dict[str, Any] = {
            "groups": option("views", case.views)["groups"],
            "image_size": case.image_size,
            "mean": data.MEAN,
            "std": data.STD,
            "pictures": photographs(case.count, case.height, case.width),
            "jpegs": jpegs(case.count, case.height, case.width) if case.coded else [],
        }
        found.append(data.table(case, rounds, asked(peers, case.title, given)))
    return found


def dino(peers: dict[str, Peer], rounds: int, settings: step.Settings, folder: Path) -> Table:
    """The table of the DINO step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    large, small = made_views(settings.batch, settings.side, 2, 8, device)
    shape = {"batch": settings.batch, "side": settings.side, "large": large, "small": small, "device": device}
    return step.table(rounds, settings, folder, asked(peers, step.TITLE, shape))
