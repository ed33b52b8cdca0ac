"""How a stage asks its evaluators: the same numbers for any batch size and any number of ranks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit import distributed
from smalldata_vit.contracts import Classifier, Evaluator, ImageSet, Method, Pictures, Shown
from smalldata_vit.data.passes import on
from smalldata_vit.exactness import exact_float32

IMAGES_AT_ONCE = 256


class Judge:
    """Shows images to evaluators.

    Arguments:
        splits: images by split name (`val`, `test`), each with all its labels.
        memory: training images that k-NN and probes may learn from.
        place: of each of them in the seeded labelling order of its class, (N,).
        view: decoded pictures to the network's input, (B, 3, S, S).
        evaluators: by name.
    """

    def __init__(
        self,
        splits: Mapping[str, ImageSet],
        memory: ImageSet,
        place: Int[Tensor, " N"],
        view: Callable[[Pictures], Float[Tensor, "B 3 S S"]],
        evaluators: Mapping[str, Evaluator],
    ) -> None:
        self.splits, self.memory, self.place, self.view, self.evaluators = splits, memory, place, view, evaluators

    def refuse_misfits(self, method: Method) -> None:
        """ValueError naming each evaluator that cannot judge this kind of method."""
        unfit = [name for name, evaluator in self.evaluators.items() if not evaluator.can_judge(method)]
        if unfit:
            raise ValueError(
                f"evaluator {', '.join(unfit)} cannot judge {type(method).__name__}: choose others with evaluator=[…]"
            )

    def __call__(self, method: Method, split: str, periodic: bool = False) -> dict[str, float]:
        """`<split>/<name>` to number, by all evaluators or only by those meant for every few epochs."""
        device = next(method.parameters()).device
        numbers: dict[str, float] = {}
        asked = [e for e in self.evaluators.values() if e.periodic or not periodic]
        with judged(method), exact_float32(device):
            for evaluator in asked:
                evaluator.to(device).reset()
                evaluator.choose = split == "val"
            learners = [e for e in asked if e.needs_memory]
            for shown in self._show(self.memory, self.place, device) if learners else ():
                for evaluator in learners:
                    evaluator.update(method, shown)
            says = method if isinstance(method, Classifier) and any(e.reads_logits for e in asked) else None
            for shown in self._show(self.splits[split], None, device, says):
                for evaluator in asked:
                    evaluator.update(method, shown)
            for evaluator in asked:
                numbers |= {f"{split}/{name}": value for name, value in evaluator.compute().items()}
        return numbers

    def _show(
        self, images: ImageSet, place: Tensor | None, device: torch.device, says: Classifier | None = None
    ) -> Iterator[Shown]:
        """This rank's share of the images, in chunks of a size that depends on nothing; with what a classifier says."""
        chunks = range(0, len(images), IMAGES_AT_ONCE)
        for first in list(chunks)[distributed.rank() :: distributed.world_size()]:
            index = torch.arange(first, min(first + IMAGES_AT_ONCE, len(images)))
            pictures = on(device, images.take(index.to(images.device)))
            memory = None if place is None else place[index].to(device)
            label = images.labels[index.to(images.device)].to(device)
            view = self.view(pictures)
            logits = None if says is None else says.classify(view).float()
            yield Shown(view, label, index.to(device), memory, logits)


@contextmanager
def judged(method: Method) -> Iterator[None]:
    """Evaluation mode without gradients, uncompiled; every module's own mode comes back afterwards.

    A compiled network would be compiled anew for the sizes that only evaluators use.
    """
    modes = {module: module.training for module in method.modules()}
    method.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
