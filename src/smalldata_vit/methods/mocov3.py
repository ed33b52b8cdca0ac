"""MoCo v3: contrast within a batch with a momentum encoder. Chen, Xie and He, ICCV 2021, arXiv 2104.02057 (v4)."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit.contracts import BackboneFactory, Batch, DataFacts, Loss, Method
from smalldata_vit.parts.contrast import Contrast, cosines, info_nce, spread, two_views
from smalldata_vit.parts.perceptron import Norms, Perceptron
from smalldata_vit.parts.projected import Projected
from smalldata_vit.parts.teacher import Teacher
from smalldata_vit.schedules import Progress, Schedule


class MoCoV3(Method):
    """What is predicted from each view is told, among the keys of a pass, to be its image's: its other view as seen by
    a moving average.

    Arguments:
        momentum: m of algorithm 1, of the key encoder, per optimizer step; a cosine from 0.99 to 1 in the paper.
        temperature: τ of eq. (1), a divisor; 0.2 in the paper.
        hidden: width of the inner layers of both heads; 4,096 in the paper.
        projection: dimensions in which views are compared; 256 in the paper.
        layers: linear layers of the projection head; 3 in the paper.
        predictor_layers: linear layers of the prediction head; 2 in the paper.
        norms: where BatchNorm stands in the heads; `all` in the paper.
        frozen: names of parts of the backbone that stay as they start. The paper freezes a ViT's patch projection,
            `[patch_embed]`, against jumps of the gradient in large batches. ValueError for a part that is not there.
        teacher_drop_path_rate: of the key encoder; the paper's networks have none. None for the query encoder's rate.

    Departures: a ViT keeps its own start and learnt positions, where the paper has a Xavier-uniform patch projection
    and fixed sine-cosine positions. Contrast and batch statistics are those of a pass, however many devices share the
    passes of a step; the authors contrast and normalise a step's whole batch (`pass_size` = `batch_size`).
    Views go through a backbone together, which only a backbone with BatchNorm can tell. The key encoder is moved after
    the step instead of before the next.
    """

    couples_images = True

    def __init__(
        self,
        backbone: BackboneFactory,
        facts: DataFacts,
        momentum: Schedule,
        temperature: float,
        hidden: int,
        projection: int = 256,
        layers: int = 3,
        predictor_layers: int = 2,
        norms: Norms = "all",
        frozen: Sequence[str] = (),
        teacher_drop_path_rate: float | None = 0.0,
    ) -> None:
        super().__init__()
        rate = {} if teacher_drop_path_rate is None else {"drop_path_rate": teacher_drop_path_rate}
        self.student = Projected(backbone(), hidden, projection, layers, norms, views_apart=True)
        key_encoder = Projected(backbone(**rate), hidden, projection, layers, norms, views_apart=True)
        self.teacher = Teacher(key_encoder, self.student)
        self.predictor = Perceptron(projection, hidden, projection, predictor_layers, norms)
        self.momentum, self.temperature = momentum, temperature
        for name in frozen:
            freeze(self.student.backbone, name)

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """Algorithm 1: ctr(q_1, k_2) + ctr(q_2, k_1)."""
        views = two_views(batch)
        student = self.student(views)
        one, other = (self.predictor(projections) for projections in student.projections)
        with torch.no_grad():
            key_of_one, key_of_other = self.teacher.network(views).projections
        first = batch_contrast(one, key_of_other, self.temperature)
        second = batch_contrast(other, key_of_one, self.temperature)
        return Loss(
            terms={"contrast_1": first.loss, "contrast_2": second.loss},
            stats=spread(student.features) | {"positive_first": (first.positive_first + second.positive_first) / 2},
        )

    @property
    def encoder(self) -> nn.Module:
        """The query encoder's backbone."""
        return self.student.backbone

    def sources(self) -> dict[str, nn.Module]:
        """The backbones of the query encoder (student) and of the key encoder (teacher)."""
        return {"encoder": self.encoder, "student": self.encoder, "teacher": self.teacher.network.backbone}

    def compiled(self) -> list[nn.Module]:
        """Both encoders with their projection heads."""
        return [self.student, self.teacher.network]

    @torch.no_grad()
    def after_step(self, progress: Progress, seen: Mapping[str, Tensor]) -> None:
        """The key encoder's step towards the query encoder."""
        self.teacher.update(self.student, self.momentum(progress))


def batch_contrast(query: Float[Tensor, "B P"], key: Float[Tensor, "B P"], temperature: float) -> Contrast:
    """2τ times eq. (1), the mean over queries i of -log (exp(cos(q_i, k_i) / τ) / Σ_j exp(cos(q_i, k_j) / τ)).

    The factor is algorithm 1's; without it the gradient would shrink as τ grows.
    """
    own = torch.arange(len(query), device=query.device)
    loss, positive_first = info_nce(cosines(query, key) / temperature, own)
    return Contrast(2 * temperature * loss, positive_first)


def freeze(network: nn.Module, name: str) -> None:
    """Keep the parameter, or all parameters of the part, of this name as they are; ValueError if there are none."""
    held = [p for n, p in network.named_parameters() if n == name or n.startswith(f"{name}.")]
    if not held:
        there = ", ".join(dict.fromkeys(n.partition(".")[0] for n, _ in network.named_parameters()))
        raise ValueError(f"frozen names {name}, and the backbone has no such part with weights; it has {there}")
    for parameter in held:
        parameter.requires_grad_(False)
