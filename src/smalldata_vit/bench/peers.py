"""`bench peers`: contenders from a folder outside this repository.

A peer is a file `name.py` in that folder with a function

    def contenders(table: str, given: dict) -> list[Contender]

from `smalldata_vit.bench.harness`. It is asked for each table and returns an empty list where it has nothing to show.
`table` is a title, `given` holds what the others work on:

- `views, …`: groups, image_size, mean, std, pictures (N, H, W, 3) uint8 and jpegs (a list of bytes, empty where the
  recipe has none);
- `step, DINO …`, `host …` and `memory …`: batch, side, large and small (lists of views), device; the last two also
  width (of the network) and steps;
- `step, IDMM …`: batch, side, views (a list of six, the two of large parts first), index (each image's place),
  instances (their number), steps, device;
- `step, guided …`: batch, side, images, labels, classes, steps, device.

A turn is made with `harness.timed(work, units)` from one step, or with `loops.loop_contender` from a loop over a
loader, which also counts weights and FLOP: tables of steps refuse contenders that train another network. For `memory …`
build everything and take no step; the turn takes `steps`. `reference=True` shows everybody's ratio to this contender,
and goals against authors are judged by it. Say the peer's commit in `Contender.note`. Files whose names begin with `_`
are not read.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smalldata_vit.bench.harness import Contender

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
