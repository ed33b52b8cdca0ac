"""`predictions.npz`: what a classifier said of every judged image, and the pictures of its gravest mistakes.

For each judged split (`val`, `test`) it holds

    <split>_index           int32 (N,)      place in the split, ascending
    <split>_label           int32 (N,)      the true class
    <split>_named           int32 (N,)      the class of the highest logit, -1 where a logit was not finite
    <split>_probabilities   float16 (N, C)  softmax of the logits, rounded
    <split>_mistakes        int32 (M, 3)    mistakes made with most confidence: place, true class, named class
    <split>_odds            float16 (M, 2)  the probabilities of these two classes
    <split>_pictures        uint8 (M, s, s, 3)  those images as the network saw them

N is the whole split as long as its probabilities fit into `MOST_BYTES`, else images spread evenly over it; M is at most
`MISTAKES`, s at most `SIDE` pixels. So a split takes at most 9.2 MB before compression.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from smalldata_vit import distributed
from smalldata_vit.atomic import replaced
from smalldata_vit.contracts import Classifier, Evaluator, Method, Shown
from smalldata_vit.data.splits import Splits
from smalldata_vit.evaluators.collected import Collected
from smalldata_vit.judging import Judge

FILE = "predictions.npz"
MOST_BYTES = 8_000_000
"""Of the probabilities of one split."""
MISTAKES = 24
SIDE = 128
"""Pixels, of the pictures."""


class Predictions(Evaluator):
    """Keeps what a classifier says beside the evaluators that judge it; gives no numbers.

    Arguments:
        mean, std: of the images as the network sees them, per channel, for their pictures.
    """

    periodic = False
    reads_logits = True

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.probabilities, self.named = Collected(torch.float16), Collected(torch.int64)
        self.arrays: dict[str, np.ndarray] = {}

    def beside(self, judge: Judge, method: Method) -> Judge:
        """The judge with this one among its evaluators; the judge itself for a method that names no classes."""
        if not self.can_judge(method):
            return judge
        return Judge(judge.splits, judge.memory, judge.place, judge.view, {**judge.evaluators, "predictions": self})

    def can_judge(self, method: Method) -> bool:
        """Only a method that names classes."""
        return isinstance(method, Classifier)

    def reset(self) -> None:
        """Forget the images of another split."""
        self.probabilities.clear()
        self.named.clear()

    def update(self, method: Method, shown: Shown) -> None:
        """Keep the probabilities of judged images."""
        if (logits := shown.logits) is None:
            return
        named = logits.argmax(1, keepdim=True).masked_fill(~logits.isfinite().all(1, keepdim=True), -1)
        self.probabilities.add(logits.softmax(1), shown.label, shown.index, None)
        self.named.add(named, shown.label, shown.index, None)

    def compute(self) -> dict[str, float]:
        """No numbers: the rows of all ranks are brought together, for `keep`."""
        said, named = (rows.gathered("images to be judged") for rows in (self.probabilities, self.named))
        self.said, self.label = said.values.cpu(), said.label.cpu()
        self.class_named = named.values.cpu().flatten()
        return {}

    def recorded(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def keep(self, split: str, judge: Judge) -> None:
        """Take up what was said of a split, after it was judged; nothing if this one was not beside the judge."""
        if "predictions" not in judge.evaluators or distributed.rank() > 0:
            return
        count = len(self.said)
        fits = min(count, max(1, MOST_BYTES // self.said[0].nbytes))
        index = torch.arange(fits) * count // fits
        gravest = self._gravest()
        classes = torch.stack([self.label[gravest], self.class_named[gravest]], 1)
        self.arrays |= {
            f"{split}_index": index.numpy().astype(np.int32),
            f"{split}_label": self.label[index].numpy().astype(np.int32),
            f"{split}_named": self.class_named[index].numpy().astype(np.int32),
            f"{split}_probabilities": self.said[index].numpy(),
            f"{split}_mistakes": torch.cat([gravest[:, None], classes], 1).numpy().astype(np.int32),
            f"{split}_odds": self.said[gravest].gather(1, classes).numpy(),
            f"{split}_pictures": self._pictures(judge, split, gravest).numpy(),
        }

    def write(self, folder: Path) -> None:
        """Replace the file in a stage's folder, if anything was kept."""
        if self.arrays:
            with replaced(folder / FILE) as file:
                np.savez_compressed(file, allow_pickle=False, **self.arrays)

    def _gravest(self) -> Tensor:
        """Places of the mistakes with the highest probabilities, at most `MISTAKES`."""
        wrong = torch.nonzero((self.class_named != self.label) & (self.class_named >= 0)).flatten()
        sure = self.said[wrong, self.class_named[wrong]].float()
        return wrong[sure.argsort(descending=True, stable=True)[:MISTAKES]]

    def _pictures(self, judge: Judge, split: str, places: Tensor) -> UInt8[Tensor, "M s s 3"]:
        if len(places) == 0:
            return torch.zeros(0, 1, 1, 3, dtype=torch.uint8)
        images = judge.splits[split]
        seen = judge.view(images.take(places.to(images.device)))
        if seen.shape[-1] > SIDE:
            seen = torch.nn.functional.interpolate(seen, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return in_colours(seen, self.mean, self.std)


def in_colours(
    seen: Float[Tensor, "*B 3 S S"], mean: Sequence[float], std: Sequence[float]
) -> UInt8[Tensor, "*B S S 3"]:
    """Normalised images as 8-bit pixels, channels last, on the CPU."""
    there = seen.float().cpu()
    scale, offset = (torch.tensor(list(each))[:, None, None] for each in (std, mean))
    return ((there * scale + offset) * 255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).contiguous()


def normalisation_of(node: Mapping[str, Any], splits: Splits) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std that a config of views, or of the evaluation view, uses: its own, else the dataset's."""
    return node.get("mean") or splits.mean, node.get("std") or splits.std
