"""IDMM: instance discrimination with multi-crop and CutMix. Cao, Yu and Wu, ECCV 2022, arXiv 2201.10728 (v2)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from smalldata_vit.contracts import BackboneFactory, Batch, DataFacts, Loss, Method, Seen
from smalldata_vit.parts.instances import Candidates, Targets, candidates_of, drawn_classes, instance_entropy
from smalldata_vit.parts.mixing import Mixing
from smalldata_vit.parts.teacher import Teacher
from smalldata_vit.parts.update_watch import UpdateWatch
from smalldata_vit.schedules import Progress

HEAD_STD = 0.02


class IDMM(Method):
    """Every image is a class of its own: a linear head with bias names the image that a crop was cut from.

    Each group of views has a forward, a CutMix (λ, partners, box) and a mean of its own; the loss is the sum of the
    groups' means, so that the paper's two global crops count as much as its four local ones. Any number of groups will
    do: without multi-crop there is one. An image can meet its own other view, or itself, as its partner.

    Arguments:
        mixing: CutMix, in every forward, with λ ~ Beta(0.5, 0.5) folded to at least 1/2 and recomputed from the clipped
            box; None for none.
        label_smoothing: ε, spread evenly over all N classes. 0.1 in the paper's formula and in the authors' PVTv2 and
            T2T scripts; 0 in their DeiT script.
        candidates: classes drawn for the softmax of each forward, beside those of its own images; None, or at least N:
            the softmax is over all N. An answer for N in the millions: see `parts.instances.candidates_of`.
        ema_decay: largest decay of a moving average of the backbone that is updated once an epoch and handed on as
            `ema`: after epoch n it is min(`ema_decay`, (1 + n) / (10 + n)), n = 1, 2, …. None, as the authors ran it,
            for none; 0.999 in their code.
        update_threshold: a row of the head counts as updated in a step when the norm of its gradient is above this
            share of the largest; None for no such numbers.

    Memory: beside the network there are the head's N (D + 1) weights with gradient and optimizer state, and the logits
    of all views of a pass, in the precision of the matrix product. N = 100,000 with DeiT-Tiny (D = 192) and AdamW:
    309 MB, and 154 MB for the 6 views of 64 images in float32. On several devices each has the whole head, whose
    gradient is exchanged with the others; passes, and so candidates, are the same however many devices share them.

    Departures: the paper's formula has no bias, the authors' code and we have one. Buffers of the moving average are
    those of the backbone at that time, as in the file that the authors save. Sampled classes are not in the paper.
    """

    def __init__(
        self,
        backbone: BackboneFactory,
        facts: DataFacts,
        mixing: Mixing | None,
        label_smoothing: float = 0.0,
        candidates: int | None = None,
        ema_decay: float | None = None,
        update_threshold: float | None = 0.1,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; it is a share, from 0 to below 1")
        self.backbone = backbone()
        width: Any = self.backbone.num_features
        self.head = nn.Linear(width, facts.num_images)
        nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)
        self.mixing, self.label_smoothing, self.ema_decay = mixing, label_smoothing, ema_decay
        self.candidates = None if candidates is None or candidates >= facts.num_images else candidates
        self.updates = None if update_threshold is None else UpdateWatch(facts.num_images, update_threshold)
        self.ema = None if ema_decay is None else Teacher(backbone(), self.backbone)
        mixes = mixing is not None or self.candidates is not None
        self.couples_images = mixes or any(isinstance(m, _BatchNorm) for m in self.modules())

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The sum over groups of the mean cross-entropy of their views; terms are numbered as the groups are."""
        chosen = self._candidates(batch)
        target = batch.index if chosen is None else chosen.place
        groups = [self._group(batch, number, target, chosen, progress) for number in range(len(batch.views))]
        watched = {} if self.updates is None else {"shown": Seen(self._shown(batch.index), "mean")}
        return Loss(
            terms={f"cross_entropy_{number}": entropy.mean() for number, (entropy, _) in enumerate(groups)},
            stats={"own_probability": torch.cat([own for _, own in groups]).exp().mean()}
            | ({} if self.updates is None else self.updates.stats()),
            seen=watched,
        )

    def _group(
        self, batch: Batch, number: int, target: Int[Tensor, " B"], chosen: Candidates | None, progress: Progress
    ) -> tuple[Float[Tensor, " VB"], Float[Tensor, " VB"]]:
        """Cross-entropy and log-probability of the own class of each view of one group."""
        group = batch.views[number]
        image, first = group.transpose(0, 1).flatten(0, 1), target.repeat(group.shape[1])
        if self.mixing is None:
            targets = Targets(first, first, image.new_ones(()))
        else:
            image, partner, share = self.mixing(image, batch.seed, number, progress)
            targets = Targets(first, first[partner], share)
        return instance_entropy(self.backbone(image), self.head, targets, self.label_smoothing, chosen)

    def _candidates(self, batch: Batch) -> Candidates | None:
        if self.candidates is None:
            return None
        drawn = drawn_classes(self.head.out_features, self.candidates, batch.seed)
        return candidates_of(batch.index, drawn.to(batch.index.device, non_blocking=True), self.head.out_features)

    def _shown(self, index: Int[Tensor, " B"]) -> Float[Tensor, " N"]:
        """1 for the images of this pass; the mean over passes and ranks is positive for those of the step."""
        return torch.zeros_like(self.head.bias).index_fill_(0, index, 1.0)

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def sources(self) -> dict[str, nn.Module]:
        """The backbone, and its moving average where one is kept."""
        return {"encoder": self.backbone} | ({} if self.ema is None else {"ema": self.ema.network})

    def before_step(self, progress: Progress) -> None:
        """Look at the gradient on the head's rows."""
        if self.updates is not None and self.head.weight.grad is not None:
            self.updates.look(self.head.weight.grad)

    @torch.no_grad()
    def after_step(self, progress: Progress, seen: Mapping[str, Tensor]) -> None:
        """Count the rows that were updated; at the end of an epoch the moving average takes its step."""
        if self.updates is not None:
            self.updates.count(seen["shown"] > 0)
        epochs, within = divmod(progress.step + 1, progress.steps_per_epoch)
        if self.ema is not None and self.ema_decay is not None and within == 0:
            self.ema.update(self.backbone, min(self.ema_decay, (1 + epochs) / (10 + epochs)))
            for own, current in zip(self.ema.network.buffers(), self.backbone.buffers(), strict=True):
                own.copy_(current)
