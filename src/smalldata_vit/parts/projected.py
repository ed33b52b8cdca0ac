"""A backbone with the head that projects its features to where images are compared."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit.parts.perceptron import Norms, Perceptron


class Outputs(NamedTuple):
    """What is said of every view of every image."""

    features: Float[Tensor, "V B D"]
    projections: Float[Tensor, "V B P"]


class Projected(nn.Module):
    """Features and their projections; the part of a contrastive method that a momentum encoder follows.

    Arguments:
        hidden: width of the projection head's inner layers.
        projection: P, dimensions in which images are compared.
        layers: linear layers of the head.
        norms: where BatchNorm stands in the head.
        views_apart: BatchNorm in the head normalises each view by its own images, as if views came one after another;
            else by all views of a pass. The backbone sees all views at once in either case.
    """

    def __init__(
        self, backbone: nn.Module, hidden: int, projection: int, layers: int, norms: Norms, views_apart: bool = False
    ) -> None:
        super().__init__()
        width: Any = backbone.num_features
        self.backbone, self.views_apart = backbone, views_apart
        self.projector = Perceptron(width, hidden, projection, layers, norms)

    def forward(self, views: Float[Tensor, "B V 3 H W"]) -> Outputs:
        """One forward of the backbone for all views."""
        by_view = (views.shape[1], views.shape[0])
        features = self.backbone(views.transpose(0, 1).flatten(0, 1))
        if self.views_apart:
            apart = features.unflatten(0, by_view)
            return Outputs(apart, torch.stack([self.projector(view) for view in apart]))
        return Outputs(features.unflatten(0, by_view), self.projector(features).unflatten(0, by_view))
