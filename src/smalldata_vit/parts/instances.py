"""Cross-entropy with one class for every image: targets are pairs of classes, never rows of N numbers.

Parametric instance discrimination: Cao, Yu and Wu, ECCV 2022, arXiv 2201.10728. Sampled classes: the importance
sampling of Bengio and Senécal (AISTATS 2003) and Jean et al. (arXiv 1412.2007), with classes drawn without replacement.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from smalldata_vit import randomness

CHUNK = 2**24
"""Logits that are worked on at a time; what is needed beside the logits themselves is a few tensors of this size."""


class Targets(NamedTuple):
    """Row i belongs to class `first[i]` with weight λ = `share`, and to `second[i]` with 1 - λ."""

    first: Int[Tensor, " R"]
    second: Int[Tensor, " R"]
    share: Float[Tensor, ""]


class Candidates(NamedTuple):
    """The classes that a softmax is taken over: those of the images of a forward, then drawn ones; K in all."""

    classes: Int[Tensor, " K"]
    log_weight: Float[Tensor, " K"]
    """Added to the logit: 0 for the images' own classes, the logarithm of how many classes a drawn one stands for,
    -inf for a class that is there already."""
    place: Int[Tensor, " B"]
    """Where among `classes` each image's own stands."""


def drawn_classes(num_classes: int, count: int, seed: int) -> Int[Tensor, " M"]:
    """`count` different classes, drawn uniformly on the CPU; a function of its arguments."""
    generator = randomness.generator(seed, "candidates")
    return torch.from_numpy(generator.choice(num_classes, count, replace=False, shuffle=False))


def candidates_of(index: Int[Tensor, " B"], drawn: Int[Tensor, " M"], num_classes: int) -> Candidates:
    """The images' own classes U and the drawn ones S, weighted so that their sum estimates that over all N classes.

    Σ_{k∈U} e^{s_k} + (N - |U|) / |S∖U| · Σ_{k∈S∖U} e^{s_k} has the expectation Σ_k e^{s_k}: given its size, S∖U is a
    uniform sample of the other classes. The logarithm of the estimate is a little too small on average, by half its
    relative variance, which is 0 when all are drawn. No host reads. ValueError unless more classes are drawn than
    there are images, as S∖U could be empty.
    """
    images, count = len(index), len(drawn)
    if count <= images:
        raise ValueError(f"candidates={count} must be more than the {images} images of a forward, whose classes count")
    same = index[:, None] == index
    place = same.int().argmax(1)  # the first of equal ones
    repeated = place != torch.arange(images, device=index.device)
    ordered = index.sort().values
    at = torch.searchsorted(ordered, drawn).clamp(max=images - 1)
    taken = ordered[at] == drawn
    others = num_classes - (~repeated).sum()
    each = (others / (~taken).sum()).log()
    own = torch.zeros(images, device=index.device).masked_fill(repeated, -torch.inf)
    return Candidates(
        torch.cat([index, drawn]), torch.cat([own, each.expand(count).masked_fill(taken, -torch.inf)]), place
    )


def instance_entropy(
    features: Float[Tensor, "R D"],
    head: nn.Linear,
    targets: Targets,
    smoothing: float = 0.0,
    chosen: Candidates | None = None,
) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """The cross-entropy of each row, and the log-probability of its first class (without gradient); at least float32.

    -Σ_k t_k log softmax(s)_k with t = λ LS(first) + (1 - λ) LS(second), LS(c) = (1 - ε) onehot(c) + ε/N, where s are
    the head's logits. As Σ_k t_k = 1, this is log Σ_k e^{s_k} - (1 - ε)(λ s_first + (1 - λ) s_second) - ε mean_k s_k.
    The mean logit is that of the head's mean row: exact with sampled classes too, and without a look at R·N numbers.

    `chosen`: take the softmax over these classes; targets are then places among them.
    """
    weight: Tensor = head.weight
    bias: Tensor = head.bias
    if chosen is not None:
        weight, bias = weight[chosen.classes], bias[chosen.classes] + chosen.log_weight
    entropy, own = PairEntropy.apply(features, weight, bias, *targets, 1 - smoothing)
    if smoothing > 0:
        # Products and a sum, because autocast would round a matrix product.
        entropy = entropy - smoothing * ((wide(features) * head.weight.mean(0)).sum(1) + head.bias.mean())
    return entropy, own


class PairEntropy(torch.autograd.Function):
    """log Σ_k e^{s_k} - κ (λ s_first + (1 - λ) s_second) of each row, s = features · weightᵀ + bias.

    Keeps one tensor of R·K numbers, the logits in the precision of the matrix product, and turns it into its own
    gradient in place: plain operations would keep three to four in float32. The rest is float32, a chunk at a time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        first: Tensor,
        second: Tensor,
        share: Tensor,
        kept: float,
    ) -> tuple[Tensor, Tensor]:
        """The entropy and the log-probability of the first class, (R,) each."""
        logits = F.linear(features, weight)
        ends, sums = [], []
        for part in chunks(logits):
            rows = wide(logits[part]) + bias
            sums.append(rows.logsumexp(1))
            ends.append(rows.gather(1, torch.stack([first[part], second[part]], 1)))
        log_sum, (own, other) = torch.cat(sums), torch.cat(ends).unbind(1)
        ctx.save_for_backward(features, weight, bias, first, second, share, logits, log_sum)
        ctx.kept = kept
        log_probability = own - log_sum
        ctx.mark_non_differentiable(log_probability)
        return log_sum - kept * (share * own + (1 - share) * other), log_probability

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """(P_k - t_k) z for row k of the weight; a second call is refused by autograd, as the logits are gone."""
        features, weight, bias, first, second, share, logits, log_sum = ctx.saved_tensors
        bias_gradient = torch.zeros_like(bias)
        for part in chunks(logits):
            rows = wide(logits[part])  # in float32 the logits themselves
            rows.add_(bias).sub_(log_sum[part, None]).exp_()
            for place, amount in ((first, share), (second, 1 - share)):
                at = place[part, None]
                rows.scatter_(1, at, rows.gather(1, at) - ctx.kept * amount)
            rows.mul_(gradient[part, None])
            bias_gradient += rows.sum(0)
            logits[part] = rows
        error = logits
        weight_gradient = error.T @ features.to(error.dtype)
        return (
            (error @ weight.to(error.dtype)).to(features.dtype),
            weight_gradient.to(weight.dtype),
            bias_gradient,
            *[None] * 4,
        )


def chunks(logits: Float[Tensor, "R K"]) -> list[slice]:
    """Rows that are worked on together."""
    rows, step = len(logits), max(1, CHUNK // logits.shape[1])
    return [slice(start, start + step) for start in range(0, rows, step)]


def wide(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in float32, or float64 if they are; the same tensor where nothing changes."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
