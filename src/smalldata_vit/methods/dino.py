"""DINO: self-distillation with no labels. Caron et al., ICCV 2021, arXiv 2104.14294 (v2).

With the arguments of its configuration also the view prediction of Gani, Naseer and Yaqub, BMVC 2022, arXiv 2210.07240.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from smalldata_vit.contracts import BackboneFactory, Batch, DataFacts, Loss, Method, Seen
from smalldata_vit.parts.collapse import effective_rank, entropy, feature_std
from smalldata_vit.parts.projector import Projector
from smalldata_vit.parts.prototypes import Prototypes
from smalldata_vit.parts.teacher import Teacher
from smalldata_vit.schedules import Progress, Schedule


class DINO(Method):
    """The student predicts, from every view, what its moving average says of each global view.

    The first group of views is the global one: the teacher sees it alone, the student sees all groups.

    Arguments:
        momentum: λ of section 3.1, of the teacher, per optimizer step; a cosine from 0.996 to 1 in both papers.
        teacher_temperature: τ_t; DINO 0.04 throughout by its code's default, Gani et al. 0.04 to 0.07 over the first
            ten epochs. Lower sharpens: the cure where the output becomes uniform.
        prototypes: K, the dimensions of the output; 65,536 in DINO, 1,024 in Gani et al.
        hidden: width of the head's inner layers; 2,048 and 512.
        freeze_prototypes_epochs: for so long the prototypes stay at their start; 1 in both.
        student_temperature: τ_s.
        centre_momentum: m of eq. (4).
        bottleneck: dimensions of the projection that is compared with the prototypes.
        head_layers: linear layers before the prototypes.
        batch_norm: BatchNorm inside the head (off in both papers; needed by narrow networks on tiny images).
        head_init: `truncated_normal` 0.02 (both papers) or `width_aware`.
        train_prototype_norms: whether the lengths of the prototypes are learnt (DINO's `norm_last_layer=false`).
        teacher_drop_path_rate: 0 in DINO; None gives the teacher the student's rate, as the code of Gani et al. does.

    Departures: the student's head sees all views in one batch, as in DINO's code, so with BatchNorm its statistics
    are of global and local views together. The entropy of the mean output is watched over a moving average of steps.
    """

    centre: Tensor
    mean_target: Tensor

    def __init__(
        self,
        backbone: BackboneFactory,
        facts: DataFacts,
        momentum: Schedule,
        teacher_temperature: Schedule,
        prototypes: int,
        hidden: int,
        freeze_prototypes_epochs: float,
        student_temperature: float = 0.1,
        centre_momentum: float = 0.9,
        bottleneck: int = 256,
        head_layers: int = 3,
        batch_norm: bool = False,
        head_init: Literal["truncated_normal", "width_aware"] = "truncated_normal",
        train_prototype_norms: bool = False,
        teacher_drop_path_rate: float | None = 0.0,
    ) -> None:
        super().__init__()

        def branch(network: nn.Module) -> Branch:
            width: Any = network.num_features
            projector = Projector(width, hidden, bottleneck, head_layers, batch_norm, head_init)
            return Branch(network, projector, Prototypes(bottleneck, prototypes, train_prototype_norms))

        rate = {} if teacher_drop_path_rate is None else {"drop_path_rate": teacher_drop_path_rate}
        self.student = branch(backbone())
        self.teacher = Teacher(branch(backbone(**rate)), self.student)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.register_buffer("mean_target", torch.full((prototypes,), 1 / prototypes))
        self.momentum, self.teacher_temperature = momentum, teacher_temperature
        self.student_temperature, self.centre_momentum = student_temperature, centre_momentum
        self.freeze_prototypes_epochs = freeze_prototypes_epochs
        self.couples_images = any(isinstance(m, _BatchNorm) for m in self.modules())

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """Eq. (3), the mean over pairs of views and over images."""
        student = self.student(batch.views)
        with torch.no_grad():
            teacher = self.teacher.network(batch.views[:1])
            target = F.softmax((teacher.logits - self.centre) / self.teacher_temperature(progress), dim=-1)
        loss = cross_view_entropy(target, student.logits / self.student_temperature)
        seen = {"centre": teacher.logits.mean((0, 1)), "mean_target": target.mean((0, 1))}
        return Loss(
            terms={"cross_view_entropy": loss},
            stats=self._stats(teacher.features, target),
            seen={name: Seen(value, "mean") for name, value in seen.items()},
        )

    @torch.no_grad()
    def _stats(self, features: Tensor, target: Tensor) -> dict[str, Tensor]:
        """What the collapse watch looks at; entropies in nats."""
        flat = features.flatten(0, 1).float()
        return {
            "teacher_entropy": entropy(target).mean(),
            "entropy_of_mean": entropy(self.mean_target),
            "uniform_entropy": target.new_full((), math.log(target.shape[-1])),
            "feature_std": feature_std(flat),
            "effective_rank": effective_rank(flat),
        }

    @property
    def encoder(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher.network.backbone

    def sources(self) -> dict[str, nn.Module]:
        """The backbones of both."""
        return {"encoder": self.encoder, "teacher": self.encoder, "student": self.student.backbone}

    def compiled(self) -> list[nn.Module]:
        """Student and teacher with their heads: one graph each, for the views of a pass."""
        return [self.student, self.teacher.network]

    def before_step(self, progress: Progress) -> None:
        """Keep the prototypes where they are in the first epochs."""
        if progress.epoch < self.freeze_prototypes_epochs:
            self.student.prototypes.freeze_for_this_step()

    @torch.no_grad()
    def after_step(self, progress: Progress, seen: Mapping[str, Tensor]) -> None:
        """Eq. (4) for the centre, and the teacher's step towards the student at this step's momentum."""
        self.centre.lerp_(seen["centre"], 1 - self.centre_momentum)
        self.mean_target.lerp_(seen["mean_target"], 1 - self.centre_momentum)
        self.teacher.update(self.student, self.momentum(progress))


class Outputs(NamedTuple):
    """What a branch says of every view of every image."""

    features: Float[Tensor, "V B D"]
    logits: Float[Tensor, "V B K"]


class Branch(nn.Module):
    """A backbone and its head; the student is one, and so is the teacher."""

    def __init__(self, backbone: nn.Module, projector: Projector, prototypes: Prototypes) -> None:
        super().__init__()
        self.backbone, self.projector, self.prototypes = backbone, projector, prototypes

    def forward(self, views: Sequence[Float[Tensor, "B _ 3 _ _"]]) -> Outputs:
        """One forward of the backbone per group of equally large views, one of the head for all of them."""
        features = torch.cat([self.backbone(group.transpose(0, 1).flatten(0, 1)) for group in views])
        logits = self.prototypes(self.projector(features))
        by_view = (-1, views[0].shape[0])
        return Outputs(features.unflatten(0, by_view), logits.unflatten(0, by_view))


def cross_view_entropy(target: Float[Tensor, "T B K"], logits: Float[Tensor, "S B K"]) -> Float[Tensor, ""]:
    """Eq. (3): the mean over pairs (t, s), t ≠ s, and over images of -Σ_k target_t log softmax(logits_s)_k.

    `target` are the teacher's probabilities for the first T of the student's S views. The double sum over pairs is the
    product of two sums less its diagonal: no tensor of T·S·B·K numbers, and no matrix product that autocast or TF32
    would round. ValueError: fewer than two student's views, or more teacher's than student's.
    """
    (teachers, images, _), students = target.shape, len(logits)
    if students < 2 or teachers > students:
        raise ValueError(
            f"{teachers} views of the teacher and {students} of the student make no pairs of different views; "
            f"DINO needs at least two views of an image, the teacher's first among the student's"
        )
    log_probability = F.log_softmax(logits.float(), dim=-1)
    all_pairs = (target.sum(0) * log_probability.sum(0)).sum()
    same_view = (target * log_probability[:teachers]).sum()
    return (same_view - all_pairs) / (teachers * (students - 1) * images)
