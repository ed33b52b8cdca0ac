"""SupCon: supervised contrastive learning. Khosla et al., NeurIPS 2020, arXiv 2004.11362 (v5)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from smalldata_vit.contracts import BackboneFactory, Batch, DataFacts, Loss, Method
from smalldata_vit.parts.contrast import Contrast, cosines, spread
from smalldata_vit.parts.perceptron import Norms
from smalldata_vit.parts.projected import Projected
from smalldata_vit.schedules import Progress


class SupCon(Method):
    """Each view tells the views of its class from all other views of the pass. Reads labels.

    It names no classes itself: what it leaves is an encoder, which a later stage gives a head. Views are those of the
    first group, any number of them; with one view of each image its classmates alone are positives.

    Arguments:
        temperature: τ of eq. (2), a divisor; 0.1 in the paper, 0.07 by its code's default.
        hidden: width of the projection head's inner layer; 2,048, the width of the paper's ResNet-50.
        projection: dimensions in which views are compared; 128 in the paper.
        layers: linear layers of the head; 2 in the paper.
        norms: where BatchNorm stands in the head; `none` in the paper.

    Departures: the mean over views stands for the paper's sum, as in its code, without that code's factor τ/0.07. A
    view without positives, which eq. (2) cannot count, is left out of the mean; with two views there is none.
    """

    couples_images = True
    reads_labels = True

    def __init__(
        self,
        backbone: BackboneFactory,
        facts: DataFacts,
        temperature: float,
        hidden: int,
        projection: int = 128,
        layers: int = 2,
        norms: Norms = "none",
    ) -> None:
        super().__init__()
        self.network = Projected(backbone(), hidden, projection, layers, norms)
        self.temperature = temperature

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """Eq. (2); ValueError where labels are hidden, as far as that can be seen without waiting for the device."""
        if batch.label.device.type == "cpu" and bool((batch.label < 0).any()):
            raise ValueError(
                f"{int((batch.label < 0).sum())} of {len(batch.label)} images have a hidden label (-1), and SupCon "
                f"contrasts classes: the stage has to read labels (reads_labels=true); SimCLR is SupCon without them"
            )
        features, projections = self.network(batch.views[0])
        loss, positive_first = supervised_contrast(projections, batch.label, self.temperature)
        return Loss({"supervised_contrast": loss}, spread(features) | {"positive_first": positive_first})

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.network.backbone

    def compiled(self) -> list[nn.Module]:
        """The backbone with its head."""
        return [self.network]


def supervised_contrast(projections: Float[Tensor, "V B P"], label: Int[Tensor, " B"], temperature: float) -> Contrast:
    """L_out of eq. (2), the mean over the views i that have positives p ∈ P(i), the other views of the same class:

    -1/|P(i)| Σ_p log (exp(cos(z_i, z_p) / τ) / Σ_{a≠i} exp(cos(z_i, z_a) / τ)); 0 if no view has any.
    """
    views, classes = projections.flatten(0, 1), label.repeat(len(projections))
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    positive = (classes[:, None] == classes) & ~itself
    logits = (cosines(views, views) / temperature).masked_fill(itself, -torch.inf)
    each = positive.sum(1)
    anchors = (each > 0).sum().clamp(min=1)
    # Not a product with the mask: the view itself has a log-probability of -inf.
    of_positives = logits.log_softmax(1).masked_fill(~positive, 0.0).sum(1) / each.clamp(min=1)
    first = positive.gather(1, logits.detach().argmax(1, keepdim=True)).sum() / anchors
    return Contrast(-of_positives.sum() / anchors, first)
