"""MoCo v2: momentum contrast with a queue. Chen, Fan, Girshick and He, arXiv 2003.04297; He et al., CVPR 2020,
arXiv 1911.05722 (v3), whose equations are meant here.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smalldata_vit.contracts import BackboneFactory, Batch, DataFacts, Loss, Method, Seen
from smalldata_vit.parts.contrast import Contrast, cosines, info_nce, spread, two_views, unit
from smalldata_vit.parts.perceptron import Norms
from smalldata_vit.parts.projected import Projected
from smalldata_vit.parts.queue import Queue
from smalldata_vit.parts.teacher import Teacher
from smalldata_vit.schedules import Progress, Schedule

OwnKeys = Literal["leave_out", "keep"]
"""What becomes of earlier keys of the image that a query shows."""


class MoCoV2(Method):
    """A view, the query, tells its image's other view as a moving average sees it, the key, from earlier keys.

    Arguments:
        momentum: m of eq. (2), of the key encoder, per optimizer step; 0.999 in the paper.
        temperature: τ of eq. (1), a divisor; 0.2.
        queue: K, keys that serve as negatives; 65,536, which is 5 % of the paper's images.
        hidden: width of the projection head's inner layer; 2,048, the width of the paper's ResNet-50.
        projection: dimensions in which views are compared; 128.
        layers: linear layers of the head; 2.
        norms: where BatchNorm stands in the head; `none` in the paper.
        own_keys: what becomes of earlier keys of the query's own image: `leave_out`, or `keep` as negatives like any
            other. On ImageNet the queue never holds any, and both are the paper; on a set smaller than the queue
            `keep` would have the network tell an image from itself.
        teacher_drop_path_rate: of the key encoder; the paper's networks have none. None for the query encoder's rate.

    The queue takes the keys of the whole step, in the order of the global batch, however many passes and devices made
    them. Departures: the paper shuffles images between devices before its key encoder, so that BatchNorm cannot tell
    which key was made beside the query; here passes stay as they are. That concerns backbones with BatchNorm, and
    heads where `norms` puts it; a ViT has none. The key encoder is moved after the step instead of before the next.
    """

    couples_images = True

    def __init__(
        self,
        backbone: BackboneFactory,
        facts: DataFacts,
        momentum: Schedule,
        temperature: float,
        queue: int,
        hidden: int,
        projection: int = 128,
        layers: int = 2,
        norms: Norms = "none",
        own_keys: OwnKeys = "leave_out",
        teacher_drop_path_rate: float | None = 0.0,
    ) -> None:
        super().__init__()
        rate = {} if teacher_drop_path_rate is None else {"drop_path_rate": teacher_drop_path_rate}
        self.student = Projected(backbone(), hidden, projection, layers, norms)
        self.teacher = Teacher(Projected(backbone(**rate), hidden, projection, layers, norms), self.student)
        self.queue = Queue(queue, projection)
        self.momentum, self.temperature, self.own_keys = momentum, temperature, own_keys

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """Algorithm 1: the first view is the query, the second the key."""
        views = two_views(batch)
        student = self.student(views[:, :1])
        with torch.no_grad():
            key = unit(self.teacher.network(views[:, 1:]).projections[0])
        own = None if self.own_keys == "keep" else batch.index[:, None] == self.queue.image
        loss, positive_first = queue_contrast(student.projections[0], key, self.queue.keys, self.temperature, own)
        return Loss(
            terms={"info_nce": loss},
            stats=spread(student.features) | {"positive_first": positive_first},
            seen={"keys": Seen(key, "gather"), "index": Seen(batch.index, "gather")},
        )

    @property
    def encoder(self) -> nn.Module:
        """The query encoder's backbone."""
        return self.student.backbone

    def sources(self) -> dict[str, nn.Module]:
        """The backbones of the query encoder (student) and of the key encoder (teacher)."""
        return {"encoder": self.encoder, "student": self.encoder, "teacher": self.teacher.network.backbone}

    def compiled(self) -> list[nn.Module]:
        """Both encoders with their heads."""
        return [self.student, self.teacher.network]

    @torch.no_grad()
    def after_step(self, progress: Progress, seen: Mapping[str, Tensor]) -> None:
        """Eq. (2), and this step's keys in the place of the oldest."""
        self.teacher.update(self.student, self.momentum(progress))
        self.queue.push(seen["keys"], seen["index"])


def queue_contrast(
    query: Float[Tensor, "B P"],
    key: Float[Tensor, "B P"],
    negatives: Float[Tensor, "K P"],
    temperature: float,
    left_out: Bool[Tensor, "B K"] | None = None,
) -> Contrast:
    """Eq. (1), the mean over queries i of -log (exp(cos(q_i, k_i) / τ) / Σ exp(cos(q_i, k) / τ)).

    The sum is over the image's own key k_i and the negatives that are not `left_out`.
    """
    positive = (unit(query) * unit(key)).sum(1, keepdim=True)
    others = cosines(query, negatives)
    if left_out is not None:
        others = others.masked_fill(left_out, -torch.inf)
    logits = torch.cat([positive, others], dim=1) / temperature
    return info_nce(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))
