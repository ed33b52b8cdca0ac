"""SimCLR: contrast of two views within a batch. Chen et al., ICML 2020, arXiv 2002.05709 (v3)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit.contracts import BackboneFactory, Batch, DataFacts, Loss, Method
from smalldata_vit.parts.contrast import Contrast, cosines, info_nce, spread, two_views
from smalldata_vit.parts.perceptron import Norms
from smalldata_vit.parts.projected import Projected
from smalldata_vit.schedules import Progress


class SimCLR(Method):
    """Each view tells the other view of its image from all other views of the pass.

    Arguments:
        temperature: τ of eq. (1), a divisor; 0.1 on ImageNet, 0.5 on CIFAR-10 in the paper.
        hidden: width of the projection head's inner layer; 2,048 with the ResNet-50 of the paper.
        projection: dimensions in which views are compared; 128 in the paper.
        layers: linear layers of the head; 2 in the paper.
        norms: where BatchNorm stands in the head: `all` in the authors' code (the paper's text has none).

    Departures: the last BatchNorm of the head has no scale. Contrast and batch statistics are those of a pass, however
    many devices share the passes of a step; the authors contrast a step's whole batch (`pass_size` = `batch_size`).
    """

    couples_images = True

    def __init__(
        self,
        backbone: BackboneFactory,
        facts: DataFacts,
        temperature: float,
        hidden: int,
        projection: int = 128,
        layers: int = 2,
        norms: Norms = "all",
    ) -> None:
        super().__init__()
        self.network = Projected(backbone(), hidden, projection, layers, norms)
        self.temperature = temperature

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """Algorithm 1."""
        features, (one, other) = self.network(two_views(batch))
        loss, positive_first = nt_xent(one, other, self.temperature)
        return Loss({"nt_xent": loss}, spread(features) | {"positive_first": positive_first})

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.network.backbone

    def compiled(self) -> list[nn.Module]:
        """The backbone with its head."""
        return [self.network]


def nt_xent(one: Float[Tensor, "B P"], other: Float[Tensor, "B P"], temperature: float) -> Contrast:
    """Eq. (1), the mean over all 2B views i, j being the other view of the image of i:

    -log (exp(cos(z_i, z_j) / τ) / Σ_{k≠i} exp(cos(z_i, z_k) / τ)).
    """
    views = torch.cat([one, other])
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    logits = (cosines(views, views) / temperature).masked_fill(itself, -torch.inf)
    positive = torch.arange(len(views), device=views.device).roll(len(one))
    return info_nce(logits, positive)
