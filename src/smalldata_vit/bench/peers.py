"""`bench peers`: contenders from a folder outside this repository.

A peer is a file `name.py` in that folder with a function

    def contenders(table: str, given: dict) -> list[Contender]

from `smalldata_vit.bench.harness`. It is asked for each table and returns an empty list where it has nothing to show.
`table` is a title, `given` holds what the others work on: for `views, …` the keys groups, image_size, mean, std,
pictures (N, H, W, 3) uint8 and jpegs (a list of bytes, empty where the recipe has none); for `step, …` batch, side,
large and small (lists of views) and device. A turn is best made with `harness.timed(work, units)`. Say the peer's
commit in `Contender.note`. Files whose names begin with `_` are not read.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from smalldata_vit.bench import data, step
from smalldata_vit.bench.harness import Contender, Table
from smalldata_vit.bench.pictures import jpegs, photographs
from smalldata_vit.bench.plain import made_views
from smalldata_vit.composition import option

Peer = Callable[[str, dict[str, Any]], list[Contender]]


def found_in(folder: Path) -> dict[str, Peer]:
    """The peers of a folder by name; FileNotFoundError or AttributeError says what is missing."""
    files = sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no peer: a file name.py with a function contenders(table, given)")
    peers = {}
    for file in files:
        spec = importlib.util.spec_from_file_location(f"smalldata_vit_peer_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        peers[file.stem] = module.contenders
    return peers


def asked(peers: dict[str, Peer], table: str, given: dict[str, Any]) -> list[Contender]:
    """What the peers have for one table."""
    return [contender for peer in peers.values() for contender in peer(table, given)]


def tables(peers: dict[str, Peer], rounds: int, settings: step.Settings, folder: Path) -> list[Table]:
    """The tables of views and of the step with the peers in them."""
    found = []
    for case in data.CASES:
        pictures = photographs(case.count, case.height, case.width)
        given: dict[str, Any] = {
            "groups": option("views", case.views)["groups"],
            "image_size": case.image_size,
            "mean": data.MEAN,
            "std": data.STD,
            "pictures": pictures,
            "jpegs": jpegs(case.count, case.height, case.width) if case.coded else [],
        }
        found.append(data.table(case, rounds, asked(peers, case.title, given)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    large, small = made_views(settings.batch, settings.side, 2, 8, device)
    shape = {"batch": settings.batch, "side": settings.side, "large": large, "small": small, "device": device}
    return [*found, step.table(rounds, settings, folder, asked(peers, "step, DINO 2x32+8x16", shape))]
