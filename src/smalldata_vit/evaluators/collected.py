"""Rows that evaluators keep of the images they were shown, brought into one order on all ranks."""

from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from smalldata_vit import distributed


@dataclass(frozen=True)
class Rows:
    """One row per image, by ascending index."""

    values: Shaped[Tensor, "N D"]
    label: Int[Tensor, " N"]
    place: Int[Tensor, " N"]
    """In the labelling order of the image's class; -1 for an image that is judged."""

    def __len__(self) -> int:
        return len(self.label)

    def first(self, labels_per_class: int) -> "Rows":
        """The subset with that many labels per class."""
        keep = self.place < labels_per_class
        return Rows(self.values[keep], self.label[keep], self.place[keep])


class Collected:
    """Rows of this rank as they come; `gathered` gives those of all ranks, whatever the batches and ranks were."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.values: list[Tensor] = []
        self.facts: list[Tensor] = []

    def clear(self) -> None:
        """Forget all rows."""
        self.values, self.facts = [], []

    def add(
        self,
        values: Shaped[Tensor, "B D"],
        label: Int[Tensor, " B"],
        index: Int[Tensor, " B"],
        place: Int[Tensor, " B"] | None,
    ) -> None:
        """Keep these rows."""
        place = torch.full_like(label, -1) if place is None else place
        facts = torch.stack([t.to(values.device, torch.int64) for t in (index, label, place)], dim=1)
        self.values.append(values.detach().to(self.dtype))
        self.facts.append(facts)

    def gathered(self, what: str) -> Rows:
        """The rows of all ranks by index; an image shown twice (a sampler's padding) counts once.

        ValueError: no rank was shown any, or a label is hidden (-1); `what` names the images in the message.
        """
        kinds = [kind for kind in distributed.objects(self._kind()) if isinstance(kind, tuple)]
        if not kinds:
            raise ValueError(f"the evaluator was shown no {what}; show it at least one before compute()")
        device, width = kinds[0]  # a rank that was shown none makes its zero rows like the others'
        values = distributed.rows(torch.cat([torch.empty(0, width, dtype=self.dtype, device=device), *self.values]))
        facts = distributed.rows(torch.cat([torch.empty(0, 3, dtype=torch.int64, device=device), *self.facts]))
        facts, order = _once(facts)
        if int((facts[:, 1] < 0).sum()):
            raise ValueError(
                f"{int((facts[:, 1] < 0).sum())} of {len(facts)} {what} have a hidden label (-1); "
                "an evaluator needs to be shown labels"
            )
        return Rows(values[order], facts[:, 1], facts[:, 2])

    def _kind(self) -> tuple[str, int] | None:
        """Device and width of the rows; None where this rank has none."""
        return (self.values[0].device.type, self.values[0].shape[1]) if self.values else None


def _once(facts: Int[Tensor, "G 3"]) -> tuple[Int[Tensor, "N 3"], Int[Tensor, " N"]]:
    """Facts by ascending index without repetitions, and which rows those are."""
    order = facts[:, 0].argsort(stable=True)
    index = facts[order, 0]
    new = torch.ones_like(index, dtype=torch.bool)
    new[1:] = index[1:] != index[:-1]
    return facts[order][new], order[new]
