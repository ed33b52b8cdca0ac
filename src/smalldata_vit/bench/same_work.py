"""Whether contenders do the same: a ratio of two steps says nothing if one of them trains a smaller network."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from smalldata_vit.bench.counting import Counting
from smalldata_vit.bench.harness import Contender, timed

MILLIONS, GFLOP = "M weights", "GFLOP an image"
APART = {MILLIONS: 0.005, GFLOP: 0.12}
"""By how much contenders may differ, as a share. In weights by the few that one form of a layer has more than another;
in FLOP by what is saved without another result: the last block for the class token alone."""


def million(weights: Iterable[Tensor]) -> dict[str, float]:
    """How many numbers are trained."""
    return {MILLIONS: sum(weight.numel() for weight in weights if weight.requires_grad) / 1e6}


def facts(step: Callable[[], object], weights: Iterable[Tensor], images: int) -> dict[str, float]:
    """Weights that train, and FLOP of matrix products, convolutions and attention in one step on so many images."""
    mode = Counting()
    with mode:
        step()
    return million(weights) | {GFLOP: mode.counts.total("flops") / 1e9 / images}


def same_each_time(
    name: str,
    step: Callable[[], object],
    weights: Iterable[Tensor],
    images: int,
    note: str = "",
    reference: bool = False,
) -> Contender:
    """A contender whose every step does the same; one is taken here, to be counted."""
    return Contender(name, timed(step, images), note, facts=facts(step, weights, images), reference=reference)


def differences(contenders: Sequence[Contender]) -> list[str]:
    """A sentence for each fact of a contender that is not that of the first that has any; some say nothing."""
    said, found = [contender for contender in contenders if contender.facts], []
    for contender in said[1:]:
        for fact, most in APART.items():
            first, own = said[0].facts.get(fact, 0.0), contender.facts.get(fact, 0.0)
            if not abs(own - first) <= most * first:
                found.append(
                    f"{contender.name} has {own:,.4g} {fact}, {said[0].name} {first:,.4g}; they have to agree within "
                    f"{most:.1%}, or a ratio of their rates says nothing"
                )
    return found


def refuse_differences(title: str, contenders: Sequence[Contender]) -> None:
    """ValueError where contenders do not do the same."""
    if found := differences(contenders):
        raise ValueError(f"{title}: {'; '.join(found)}")
