"""What torch.compile's tracer makes of a stage: how often it gives up, and how often it begins anew."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import torch
from torch._dynamo.utils import counters

from smalldata_vit.assembly import Assembly
from smalldata_vit.bench.staged import Looking, look

BACKEND = "eager"
"""Runs what was traced as it stands: generating code takes minutes and changes nothing about graphs."""


@dataclass(frozen=True)
class Graphs:
    """What happened in a few steps."""

    made: int
    """Graphs in all."""
    breaks: int
    """Times that the tracer gave a function back to Python."""
    late: int
    """Frames compiled in the steps that were looked at, after the first epoch."""
    reasons: list[str]


def counted_graphs(build: Callable[[], Assembly], unseen: int, seen: int) -> Graphs:
    """Build a stage that compiles its networks, and train it for a few steps."""
    torch._dynamo.reset()
    counters.clear()
    before: list[int] = []

    def begin() -> None:
        if not before:
            before.append(counters["frames"]["total"])

    with patch.object(torch, "compile", partial(torch.compile, backend=BACKEND)):
        look(build(), Looking(unseen, seen, begin, lambda: None))
    found = Graphs(
        made=counters["stats"]["unique_graphs"],
        breaks=sum(counters["graph_break"].values()),
        late=counters["frames"]["total"] - before[0],
        reasons=list(counters["graph_break"]),
    )
    torch._dynamo.reset()
    if not found.made:
        raise RuntimeError("trainer.compile=true compiled nothing: no module of the method was traced")
    return found
