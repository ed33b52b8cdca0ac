"""Supervised learning of classes: training from scratch, and fine-tuning of what an earlier stage learnt.

The recipe of its arguments' published values is that of Gani, Naseer and Yaqub, BMVC 2022, arXiv 2210.07240.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from smalldata_vit.contracts import BackboneFactory, Batch, Classifier, DataFacts, Loss
from smalldata_vit.parts.mixing import Mixing
from smalldata_vit.schedules import Progress

HEAD_STD = 0.02


class Supervised(Classifier):
    """Cross-entropy of a linear head on a backbone, the mean over images and over all their views.

    Arguments:
        mixing: MixUp and CutMix, or None.
        label_smoothing: ε, spread evenly over all classes, the image's own included; 0.1 in Gani et al.
        head_init: weights `truncated_normal` with 0.02 (Gani et al.) or `zero` (every class equally likely at the
            start); the bias is 0.
        normalize_features: features are brought to length `feature_scale` before the head, so that the head can be a
            probe that was fitted to features of length 1, and fine-tuning starts where the probe ended.
        feature_scale: that length. A larger one lets the head turn faster at the same learning rate.
    """

    def __init__(
        self,
        backbone: BackboneFactory,
        facts: DataFacts,
        mixing: Mixing | None = None,
        label_smoothing: float = 0.0,
        head_init: Literal["truncated_normal", "zero"] = "truncated_normal",
        normalize_features: bool = False,
        feature_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone()
        width: Any = self.backbone.num_features
        self.head = nn.Linear(width, facts.num_classes)
        nn.init.zeros_(self.head.bias)
        if head_init == "zero":
            nn.init.zeros_(self.head.weight)
        else:
            nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        self.mixing, self.label_smoothing = mixing, label_smoothing
        self.normalize_features, self.feature_scale = normalize_features, feature_scale
        self.couples_images = mixing is not None or any(isinstance(m, _BatchNorm) for m in self.modules())

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The cross-entropy of every view with its image's label, or with both labels of a blend."""
        refuse_hidden(batch.label)
        losses, hits = zip(*(self._group(batch, n, progress) for n in range(len(batch.views))), strict=True)
        return Loss(terms={"cross_entropy": torch.cat(losses).mean()}, stats={"accuracy": torch.cat(hits).mean()})

    def _group(self, batch: Batch, number: int, progress: Progress) -> tuple[Tensor, Tensor]:
        """Loss and (share of) correct answers of each view of one group, both (V·B,)."""
        group = batch.views[number]
        image, label = group.transpose(0, 1).flatten(0, 1), batch.label.repeat(group.shape[1])
        if self.mixing is None:
            logits = self.classify(image)
            return smoothed_cross_entropy(logits, label, self.label_smoothing), correct(logits, label)
        image, partner, share = self.mixing(image, batch.seed, number, progress)
        logits, other = self.classify(image), label[partner]
        first = smoothed_cross_entropy(logits, label, self.label_smoothing)
        second = smoothed_cross_entropy(logits, other, self.label_smoothing)
        hits = share * correct(logits, label) + (1 - share) * correct(logits, other)
        return share * first + (1 - share) * second, hits

    def classify(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Logits, float32."""
        features = self.probe_input(self.backbone(image))
        return self.head(features * self.feature_scale if self.normalize_features else features).float()

    def probe_input(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The features, float32 of length 1 with `normalize_features`, else as they are."""
        return F.normalize(features.float(), dim=1) if self.normalize_features else features

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    @torch.no_grad()
    def set_head(self, weight: Float[Tensor, "C D"], bias: Float[Tensor, " C"]) -> None:
        """Start the head from a probe that was fitted to `probe_input`; it gives the probe's logits at any scale.

        ValueError: shapes that are not the head's.
        """
        if weight.shape != self.head.weight.shape or bias.shape != self.head.bias.shape:
            raise ValueError(
                f"the probe has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; "
                f"the head needs {tuple(self.head.weight.shape)} and {tuple(self.head.bias.shape)}"
            )
        self.head.weight.copy_(weight / self.feature_scale if self.normalize_features else weight)
        self.head.bias.copy_(bias)


def smoothed_cross_entropy(
    logits: Float[Tensor, "N C"], label: Int[Tensor, " N"], smoothing: float
) -> Float[Tensor, " N"]:
    """-Σ_c q_c log softmax(logits)_c of each row, q = (1 - ε) onehot(label) + ε/C."""
    return F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")


@torch.no_grad()
def correct(logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """1 where the largest logit is the label's, else 0."""
    return (logits.argmax(1) == label).float()


def refuse_hidden(label: Int[Tensor, " B"]) -> None:
    """ValueError if a label is hidden. On an accelerator the cross-entropy's own check stops, without a host read."""
    if label.device.type == "cpu" and bool((label < 0).any()):
        raise ValueError(
            f"{int((label < 0).sum())} of {len(label)} images have a hidden label (-1): "
            f"supervised training must be given labelled images only"
        )
