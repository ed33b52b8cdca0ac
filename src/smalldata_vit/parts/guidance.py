"""Locality guidance: a student imitates the maps of a small CNN. Li et al., ECCV 2022, arXiv:2207.10026.

With a weight that decays it is the poster of Rostand (NTNU), with a controller the early guidance of Rostand, Hsu and
Lu, IEEE TNNLS 2024.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit import randomness
from smalldata_vit.contracts import BackboneFactory, Batch, DataFacts, Loss, Seen
from smalldata_vit.parts.guidance_controller import LossDerivative
from smalldata_vit.parts.guidance_distance import Reduction, Transform, distance, standardized
from smalldata_vit.parts.guidance_networks import Guide, Tapped, shapes_of
from smalldata_vit.parts.guidance_pairs import settled
from smalldata_vit.parts.guidance_stored import Features, StoredMaps
from smalldata_vit.schedules import Progress, Schedule


class Guidance(nn.Module):
    """A term of a classifier's loss, β Σ_pairs distance(student's block, guide's stage), that can be switched off.

    While β is 0 the guide is not run and the student is asked for nothing more than its features. The projections then
    stay in the loss as 0 · Σp, without which ranks would wait for their gradients, and they neither move nor decay nor
    count in clipping: weights are bit for bit those of training without guidance.

    Arguments:
        student: the backbone that is trained.
        facts: of the data that it is trained on.
        guide: factory of the CNN; its weights come from where the stage's config says.
        image_size: pixels, on which the CNN was trained.
        weight: β over time; 2.5 in Li et al., with `transform=linear` and `reduction=mean`.
        controller: switches off for good, or None.
        pairs: [block, stage] of the networks' intermediates; None: each stage with the block of equal relative depth.
        transform: what is compared. Only `linear` has projections.
        reduction: `mean` is the published code, `per_pixel_sum` the published formula.
        standardize: the guide's features, per channel over a pass; not done in Li et al.
        bn_mode: of the guide: `eval`, or `train` as in the code of Li et al.
        mean, std: per channel, with which the guide's training images were normalised; None: as the student's are.
        features: `live`, the guide looks at every view; `stored`, its maps of all training images are computed once
            before the first step, without augmentation and at its own size, and each view's crop box and flip are
            replayed on them. Then the guide does not run in training. Whatever else makes a view (rotation, colours, a
            policy, erasing) is not seen in its maps. ValueError with `bn_mode=train`, for a map would depend on the
            images that it was computed with. In Li et al. an option.

    Departures: the places of blocks and stages are those of `forward_intermediates`, which for some networks of timm
    (PiT, PVTv2) counts stages, not blocks.
    """

    def __init__(
        self,
        student: nn.Module,
        facts: DataFacts,
        guide: BackboneFactory,
        image_size: int,
        weight: Schedule,
        controller: LossDerivative | None = None,
        pairs: Sequence[Sequence[int]] | None = None,
        transform: Transform = "linear",
        reduction: Reduction = "mean",
        standardize: bool = False,
        bn_mode: Literal["eval", "train"] = "eval",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        features: Features = "live",
    ) -> None:
        super().__init__()
        if features == "stored" and bn_mode == "train":
            raise ValueError(
                "guidance.features=stored computes each image's maps once, so they cannot depend on the other images "
                "of a pass: guidance.bn_mode=eval, or guidance.features=live"
            )
        self.features: Features = features
        self.stored: StoredMaps | None = None
        self._paused = False
        self.schedule, self.controller = weight, controller
        self.transform: Transform = transform
        self.reduction: Reduction = reduction
        self.standardize = standardize
        self.couples_images = bn_mode == "train" or transform == "similarity" or standardize
        with own_randomness():
            network = guide(drop_path_rate=0.0)
            mine, theirs = shapes_of(student, facts.image_size), shapes_of(network, image_size)
            self.pairs = settled(pairs, len(mine), len(theirs))
            channels = [(mine[block][0], theirs[stage][0]) for block, stage in self.pairs]
            linear = channels if transform == "linear" else []
            self.projections = nn.ModuleList(nn.Conv2d(own, wanted, 1) for own, wanted in linear)
        self.blocks, self.stages = (sorted(set(places)) for places in zip(*self.pairs, strict=True))
        self.guide = Guide(
            network, self.stages, image_size, bn_mode, mean or facts.mean, std or facts.std, facts.mean, facts.std
        )

    def tap(self, backbone: nn.Module) -> Tapped:
        """The student with the blocks that are guided."""
        return Tapped(backbone, self.blocks)

    def weight(self, progress: Progress) -> float:
        """β of this step; the same on every rank."""
        on = not self._paused and (self.controller is None or self.controller.on)
        return self.schedule(progress) if on else 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside it β is 0, whatever the schedule says: for measuring what guidance costs."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def forward(
        self, image: Float[Tensor, "n 3 H W"], maps: Sequence[Tensor], batch: Batch, group: int
    ) -> Float[Tensor, ""]:
        """The guidance loss of one forward without its weight: the sum over pairs.

        `image`: the views of a group of the batch, view after view of all images; `maps`: what the tapped student gave
        for them. RuntimeError: the guide's maps should have been stored, and nobody did.
        """
        wanted = self.guide(image) if self.features == "live" else self._recalled(batch, group)
        if self.standardize:
            wanted = [standardized(m) for m in wanted]
        parts = []
        for number, (block, stage) in enumerate(self.pairs):
            own, theirs = maps[self.blocks.index(block)], wanted[self.stages.index(stage)]
            own = self.projections[number](own) if self.projections else own
            parts.append(distance(own, theirs, self.transform, self.reduction))
        return torch.stack(parts).sum()

    def _recalled(self, batch: Batch, group: int) -> list[Tensor]:
        if self.stored is None:
            raise RuntimeError("guidance.features=stored, but the guide's maps were not computed before training")
        return self.stored(batch, group)

    def part(self, loss: Float[Tensor, ""] | None, weight: float, others: Float[Tensor, ""]) -> Loss:
        """What guidance adds to a pass: `loss` as `forward` gave it, None while β = `weight` is 0.

        `others`: the sum of the method's other terms, for the share of guidance in the whole.
        """
        now = others.detach()
        # The mean of the second over some steps is the share of them that were guided.
        stats = {"guidance_weight": now.new_full((), weight), "guidance_on": now.new_full((), float(loss is not None))}
        if self.controller is not None:
            stats["guidance_slope"] = self.controller.slope
        if loss is None:
            idle = [p.sum() for p in self.projections.parameters()]
            return Loss({"guidance": 0.0 * torch.stack(idle).sum().abs()} if idle else {}, stats)
        term = weight * loss
        stats |= {"guidance_loss": loss.detach(), "guidance_share": term.detach() / (term.detach() + now)}
        return Loss({"guidance": term}, stats, {"guidance": Seen(loss.detach(), "mean")} if self.controller else {})

    def before_step(self, progress: Progress) -> None:
        """Out of clipping, decay and the optimizer's memory while β is 0."""
        if self.weight(progress) == 0:
            for parameter in self.projections.parameters():
                parameter.grad = None

    def after_step(self, progress: Progress, seen: Mapping[str, Tensor]) -> None:
        """Let the controller look at the guidance loss of the whole global batch."""
        if self.controller is not None and "guidance" in seen:
            self.controller.after_step(progress, seen["guidance"])


@contextmanager
def own_randomness() -> Iterator[None]:
    """Inside it torch's CPU generator is one for guidance alone, so that what is drawn here shifts nothing else."""
    seed = randomness.key(torch.initial_seed(), "guidance")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
