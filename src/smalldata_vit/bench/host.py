"""`bench host`: what the host spends on a step when there is next to nothing to multiply (C7).

On a CPU the thread that launches an operation also computes it. So networks are shrunk to a width of 24 and a batch to
one image with all its views: what remains of the CPU seconds of a step is Python, torch's dispatch, autograd, and the
loop around. Depth, heads, views, the head's layers and the number of weight tensors are those of the real step. Views
are made beforehand. Ours runs under the Trainer with as many steps in a Lightning batch as conf/trainer/ has, with its
log written.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from smalldata_vit.bench.goals import judged
from smalldata_vit.bench.harness import SHARE, TIMES, Contender, Row, Table, compared
from smalldata_vit.bench.methods import precisions
from smalldata_vit.bench.overhead import STEPS_AT_ONCE
from smalldata_vit.bench.plain import PlainDINO, made_views
from smalldata_vit.bench.same_work import refuse_differences, same_each_time
from smalldata_vit.bench.step import DINO, Ours, Settings

WIDTH = 24
TITLE = "host time, DINO 2x32+8x16, ViT of 9 blocks of width 24, one image a step"
SIZES = Settings(batch=1, steps=STEPS_AT_ONCE, images=64, at_once=STEPS_AT_ONCE)


def table(
    rounds: int,
    folder: Path,
    smoke: bool = False,
    peers: Callable[[str, dict[str, Any]], list[Contender]] = lambda *_: [],
) -> Table:
    """Steps a second; against the plain loop in float32."""
    settings, device = replace(SIZES, steps=2, at_once=2) if smoke else SIZES, torch.device("cpu")
    large, small = made_views(1, settings.side, 2, 8, device)
    found: list[Contender] = []
    for precision, (bf16, word) in precisions(device).items():
        torch.manual_seed(0)
        dino = PlainDINO(bf16, not bf16, device, WIDTH)
        step, weights = _step(dino, large, small), dino.student.parameters()
        name = f"plain torch + timm, {precision}"
        found.append(same_each_time(name, step, weights, 1, reference=not bf16))
        stage = Ours([*DINO, word, f"arch.width={WIDTH}", "trainer=cpu"], settings, folder, prepared=True)
        found.append(Contender(f"ours, {precision}", stage.turn, facts=stage.facts()))
    given = {"batch": 1, "side": 32, "large": large, "small": small, "width": WIDTH, "steps": settings.steps}
    found += peers(TITLE, given | {"device": device})
    refuse_differences(TITLE, found)
    made = compared(TITLE, found, rounds, unit="steps/s")
    return judged(replace(made, rows=[shares(row) for row in made.rows]))


def _step(dino: PlainDINO, large: list[torch.Tensor], small: list[torch.Tensor]) -> Callable[[], object]:
    return lambda: dino.step(large, small)


def shares(row: Row) -> Row:
    """Milliseconds a step, and times as shares of the references' instead of rates as multiples."""
    kept = {name: number for name, number in row.more.items() if not name.startswith(TIMES)}
    turned = {SHARE + n.removeprefix(TIMES): 1 / x for n, x in row.more.items() if n.startswith(TIMES)}
    return replace(row, more={"ms a step": 1e3 / row.rate, **kept, **turned})
