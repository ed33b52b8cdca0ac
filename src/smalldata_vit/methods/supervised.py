"""Supervised learning of classes: training from scratch, and fine-tuning of what an earlier stage learnt.

The recipe of its arguments' published values is that of Gani, Naseer and Yaqub, BMVC 2022, arXiv 2210.07240.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from smalldata_vit.contracts import BackboneFactory, Batch, Classifier, DataFacts, Loss
from smalldata_vit.parts.guidance import Guidance
from smalldata_vit.parts.guidance_networks import Tapped
from smalldata_vit.parts.mixing import Mixing
from smalldata_vit.parts.relative_locations import RelativeLocations
from smalldata_vit.schedules import Progress

HeadInit = Literal["truncated_normal", "normal", "zero"]
"""How the head's weights start: truncated normal with 0.02 (Gani et al.), normal with 0.01 (the CNNs of Li et al.,
ECCV 2022), or zero, so that every class is equally likely (their transformers); the bias is 0."""

Extra = tuple[Tensor | None, Tensor | None]
"""Losses of guidance and of relative locations, without their weights; None where the weight is 0."""


class Supervised(Classifier):
    """Cross-entropy of a linear head on a backbone, the mean over images and over all their views.

    Arguments:
        mixing: MixUp and CutMix, or None.
        label_smoothing: ε, spread evenly over all classes, the image's own included; 0.1 in Gani et al.
        head_init: `truncated_normal`, `normal` or `zero`.
        normalize_features: features are brought to length `feature_scale` before the head, so that the head can be a
            probe that was fitted to features of length 1, and fine-tuning starts where the probe ended.
        feature_scale: that length. A larger one lets the head turn faster at the same learning rate.
        guidance: factory of the guidance by a CNN, called with the student and facts, or None.
        relative_locations: factory of the relative-location term, called likewise, or None.
    """

    def __init__(
        self,
        backbone: BackboneFactory,
        facts: DataFacts,
        mixing: Mixing | None = None,
        label_smoothing: float = 0.0,
        head_init: HeadInit = "truncated_normal",
        normalize_features: bool = False,
        feature_scale: float = 1.0,
        guidance: Callable[..., Guidance] | None = None,
        relative_locations: Callable[..., RelativeLocations] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone()
        width: Any = self.backbone.num_features
        self.head = nn.Linear(width, facts.num_classes)
        initialise_head(self.head, head_init)
        self.mixing, self.label_smoothing = mixing, label_smoothing
        self.normalize_features, self.feature_scale = normalize_features, feature_scale
        self.couples_images = mixing is not None or any(isinstance(m, _BatchNorm) for m in self.modules())
        self.guidance = None if guidance is None else guidance(student=self.backbone, facts=facts)
        if mixing is not None and self.guidance is not None and self.guidance.features == "stored":
            raise ValueError(
                "guidance.features=stored has maps of whole images, and the map of a blend is no blend of maps: "
                "finetune.method.mixing=null, or guidance.features=live"
            )
        self.relative_locations = (
            None if relative_locations is None else relative_locations(student=self.backbone, facts=facts)
        )
        blocks = {*(self.guidance.blocks if self.guidance else ())}
        blocks |= {self.relative_locations.block} if self.relative_locations else set()
        # In a tuple, because as a submodule it would put every weight of the backbone into the state a second time.
        self.tapped = (Tapped(self.backbone, sorted(blocks)),) if blocks else ()
        self.couples_images |= self.guidance is not None and self.guidance.couples_images

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The cross-entropy of every view with its image's label, or with both labels of a blend; and further terms."""
        parts = (self.guidance, self.relative_locations)
        weights = tuple(0.0 if part is None else part.weight(progress) for part in parts)
        groups = [self._group(batch, n, progress, weights) for n in range(len(batch.views))]
        losses, hits, _ = zip(*groups, strict=True)
        cross_entropy = torch.cat(losses).mean()
        whole = Loss({"cross_entropy": cross_entropy}, {"accuracy": torch.cat(hits).mean()})
        for place, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            if part is not None:
                found = [(loss[place], len(rows) / sum(map(len, losses))) for rows, _, loss in groups]
                shares = [loss * share for loss, share in found if loss is not None]
                added = part.part(torch.stack(shares).sum() if shares else None, weight, cross_entropy)
                whole = Loss({**whole.terms, **added.terms}, {**whole.stats, **added.stats}, added.seen or whole.seen)
        return whole

    def _group(
        self, batch: Batch, number: int, progress: Progress, weights: tuple[float, ...]
    ) -> tuple[Tensor, Tensor, Extra]:
        """Loss and (share of) correct answers of each view of one group, both (V·B,); and what else it answered."""
        group = batch.views[number]
        image, label = group.transpose(0, 1).flatten(0, 1), batch.label.repeat(group.shape[1])
        if self.mixing is None:
            logits, extra = self._answer(image, batch, number, weights)
            return smoothed_cross_entropy(logits, label, self.label_smoothing), correct(logits, label), extra
        image, partner, share = self.mixing(image, batch.seed, number, progress)
        (logits, extra), other = self._answer(image, batch, number, weights), label[partner]
        first = smoothed_cross_entropy(logits, label, self.label_smoothing)
        second = smoothed_cross_entropy(logits, other, self.label_smoothing)
        hits = share * correct(logits, label) + (1 - share) * correct(logits, other)
        return share * first + (1 - share) * second, hits, extra

    def _answer(self, image: Tensor, batch: Batch, number: int, weights: tuple[float, ...]) -> tuple[Tensor, Extra]:
        """Logits, and of the same forward the losses of the parts whose weight is not 0."""
        if not any(weights):
            return self.classify(image), (None, None)
        tapped, guidance, located = self.tapped[0], self.guidance, self.relative_locations
        features, maps = tapped(image)
        at = dict(zip(tapped.blocks, maps, strict=True))
        guided = told = None
        if guidance is not None and weights[0] > 0:
            guided = guidance(image, [at[block] for block in guidance.blocks], batch, number)
        if located is not None and weights[1] > 0:
            told = located(at[located.block], batch.index, batch.seed, number)
        return self._logits(features), (guided, told)

    def classify(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Logits, float32."""
        return self._logits(self.backbone(image))

    def _logits(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        features = self.probe_input(features)
        return self.head(features * self.feature_scale if self.normalize_features else features).float()

    def probe_input(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The features, float32 of length 1 with `normalize_features`, else as they are."""
        return F.normalize(features.float(), dim=1) if self.normalize_features else features

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def compiled(self) -> list[nn.Module]:
        """The backbone; where a part needs maps also the backbone that gives them, and the guide."""
        return [self.backbone, *self.tapped, *([] if self.guidance is None else [self.guidance.guide])]

    def before_step(self, progress: Progress) -> None:
        """Parts that are switched off stay where they are."""
        for part in (self.guidance, self.relative_locations):
            if part is not None:
                part.before_step(progress)

    def after_step(self, progress: Progress, seen: Mapping[str, Tensor]) -> None:
        """Guidance that switches itself off looks at its loss."""
        if self.guidance is not None:
            self.guidance.after_step(progress, seen)

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


def initialise_head(head: nn.Linear, init: HeadInit) -> None:
    """Draw the weights of a head; its bias becomes 0."""
    nn.init.zeros_(head.bias)
    if init == "zero":
        nn.init.zeros_(head.weight)
    elif init == "normal":
        nn.init.normal_(head.weight, std=0.01)
    else:
        nn.init.trunc_normal_(head.weight, std=0.02)


def smoothed_cross_entropy(
    logits: Float[Tensor, "N C"], label: Int[Tensor, " N"], smoothing: float
) -> Float[Tensor, " N"]:
    """-Σ_c q_c log softmax(logits)_c of each row, q = (1 - ε) onehot(label) + ε/C."""
    return F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")


@torch.no_grad()
def correct(logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """1 where the largest logit is the label's, else 0."""
    return (logits.argmax(1) == label).float()
