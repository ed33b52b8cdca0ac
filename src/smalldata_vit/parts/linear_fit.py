"""A linear head fitted to fixed features by logistic regression: the probe, and a start for fine-tuning."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

GRADIENT_TOLERANCE = 1e-4
MOST_ITERATIONS = 1000


def fit_head(
    features: Float[Tensor, "N D"],
    labels: Int[Tensor, " N"],
    num_classes: int,
    regularisation: float,
    normalize: bool,
) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]:
    """Weight (C, D) and bias (C,) of the softmax regression on these features, float32 on their device.

    Minimises `regularisation · Σ_n cross_entropy_n + ½‖weight‖²`, the bias free: `regularisation` is scikit-learn's
    C, the inverse of the strength. With `normalize` the head is fitted to, and must be given, features of length 1.
    The minimum is unique and is searched in float64 from zero, so that order, batch size and ranks do not matter.
    A class without an image gets weight 0 and a bias below all others. ValueError: labels outside 0 .. C-1, no
    images, features that are not finite, or a regularisation that is not positive.
    """
    _check(features, labels, num_classes, regularisation)
    with torch.inference_mode(False), torch.enable_grad():  # evaluation switches gradients off; the search needs them
        x, label = exact(features).clone(), labels.clone()  # a copy: inference tensors may not enter a graph
        weight, bias = _fitted(
            F.normalize(x, dim=1) if normalize else x, label.to(x.device), num_classes, regularisation
        )
    return weight.to(features.device, torch.float32), bias.to(features.device, torch.float32)


def exact(features: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """The features in float64, where neither autocast nor TF32 reaches; on the CPU where the device has no float64."""
    return features.detach().to("cpu" if features.device.type == "mps" else features.device).double()


def _check(features: Tensor, labels: Tensor, num_classes: int, regularisation: float) -> None:
    if len(features) == 0:
        raise ValueError("a linear head cannot be fitted to no images; show it at least one labelled image")
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}; a head of {num_classes} classes needs "
            f"0 to {num_classes - 1} (-1 marks a hidden label, which nothing may be fitted to)"
        )
    if regularisation <= 0:
        raise ValueError(f"regularisation is {regularisation}; it must be positive (larger fits the images closer)")
    broken = int((~features.isfinite().all(1)).sum())
    if broken:
        raise ValueError(f"{broken} of {len(features)} images have features that are not finite; the encoder diverged")


def _fitted(
    x: Float[Tensor, "N D"], label: Int[Tensor, " N"], num_classes: int, regularisation: float
) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]:
    """The head for all classes, from the minimum over those that have an image."""
    present, target = label.unique(return_inverse=True)
    mean = x.mean(0)
    few_weight, few_bias = _minimise(x - mean, target, len(present), regularisation)
    few_bias = few_bias - few_weight @ mean
    weight = x.new_zeros(num_classes, x.shape[1])
    bias = x.new_full((num_classes,), float(few_bias.min()) - math.log(len(x) + 1))
    weight[present], bias[present] = few_weight, few_bias
    return weight, bias


def _minimise(
    x: Float[Tensor, "N D"], target: Int[Tensor, " N"], num_classes: int, regularisation: float
) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]:
    """The minimum for centred features, by L-BFGS along the features' principal axes.

    Each axis is scaled by the curvature at zero (`regularisation · σ² / C + 1`); unscaled, the few long axes of an
    encoder's features would cost ten times the iterations.
    """
    variance, axes = torch.linalg.eigh(x.T @ x)
    scale = (regularisation * variance.clamp(min=0) / num_classes + 1).rsqrt()
    turned = x @ (axes * scale)
    free = (regularisation * len(x) / num_classes) ** -0.5
    weight = x.new_zeros(num_classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(num_classes, requires_grad=True)
    search = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MOST_ITERATIONS,
        max_eval=2 * MOST_ITERATIONS,
        tolerance_grad=GRADIENT_TOLERANCE,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        search.zero_grad()
        misfit = F.cross_entropy(turned @ weight.T + free * bias, target, reduction="sum")
        loss = regularisation * misfit + 0.5 * (weight * scale).square().sum()
        loss.backward()
        return loss

    search.step(closure)
    return (weight.detach() * scale) @ axes.T, free * bias.detach()
