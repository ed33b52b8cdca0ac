"""How weights are moved: parameter groups, learning rate, weight decay and clipping over time."""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from smalldata_vit.contracts import Method
from smalldata_vit.schedules import Progress, Schedule

Decays = Literal["all", "matrices", "weights"]


class Optimization:
    """The rule by which one optimizer moves one method.

    Arguments:
        optimizer: factory, called with the parameter groups and `lr`.
        lr: peak learning rate, of a global batch of `lr_per_images` images, or of any batch where that is None.
        schedule: factory of the learning rate over time, called with `peak` (the effective learning rate).
        weight_decay: over time, for the parameters that decay.
        decays: `all` parameters (Gani's fine-tuning, IDMM), `matrices` (more than one axis: DINO), or `weights`
            (matrices without position tables, class tokens and what a network names in `no_weight_decay`).
        clip_norm: largest norm of the gradient, None for no clipping.
        clip: the norm of all gradients together (`global`), or of each tensor alone (`each`, as DINO does).
        lr_per_images: the batch size that `lr` is meant for; DINO has 256.
        layer_decay: factor on the learning rate from each layer of the encoder to the one below it.
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        lr: float,
        schedule: Callable[..., Schedule],
        weight_decay: Schedule,
        decays: Decays,
        clip_norm: float | None,
        clip: Literal["global", "each"] = "global",
        lr_per_images: int | None = None,
        layer_decay: float | None = None,
    ) -> None:
        self.optimizer, self.lr, self.schedule, self.weight_decay = optimizer, lr, schedule, weight_decay
        self.decays: Decays = decays
        self.clip_norm, self.clip_kind, self.lr_per_images, self.layer_decay = (
            clip_norm,
            clip,
            lr_per_images,
            layer_decay,
        )

    def peak(self, batch_size: int) -> float:
        """The effective peak learning rate for global batches of this size."""
        return self.lr if self.lr_per_images is None else self.lr * batch_size / self.lr_per_images

    def build(self, method: Method, batch_size: int) -> Optimizer:
        """The optimizer over what trains in `method`; `batch_size` is the global one."""
        groups = parameter_groups(method, self.decays, layer_scales(method.encoder, self.layer_decay))
        return self.optimizer(groups, lr=self.peak(batch_size))

    def set(self, optimizer: Optimizer, progress: Progress, batch_size: int) -> dict[str, float]:
        """Put the learning rate and weight decay of this step into the optimizer; returns both by name."""
        lr = self.schedule(peak=self.peak(batch_size))(progress)
        decay = self.weight_decay(progress)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
            group["weight_decay"] = decay if group["decays"] else 0.0
        return {"learning_rate": lr, "weight_decay": decay}

    def clip(self, parameters: Iterable[nn.Parameter], scale: Tensor | float = 1.0) -> Float[Tensor, ""]:
        """Clip the gradients in place and return their global norm before, as a device tensor (no host read).

        `scale` is the factor that a gradient scaler has multiplied the gradients with.
        """
        grads = [p.grad for p in parameters if p.grad is not None]
        if not grads:
            raise ValueError("no parameter has a gradient: nothing in the loss depends on what trains")
        norms = torch.stack(torch._foreach_norm(grads)) / scale
        total = torch.linalg.vector_norm(norms)
        if self.clip_norm is None:
            return total
        if self.clip_kind == "each":
            factors = (self.clip_norm / (norms + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(grads, list(factors.unbind()))
        else:
            torch._foreach_mul_(grads, (self.clip_norm / (total + 1e-6)).clamp(max=1.0))
        return total


def parameter_groups(method: nn.Module, decays: Decays, scales: dict[int, float]) -> list[dict[str, object]]:
    """Groups by (decays or not, factor on the learning rate), in the order in which the parameters are registered."""
    excluded = _undecayed_names(method)
    groups: dict[tuple[bool, float], dict[str, object]] = {}
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim > 1
        decay = decays == "all" or (matrix and (decays == "matrices" or name not in excluded))
        scale = scales.get(id(parameter), 1.0)
        group = groups.setdefault(
            (decay, scale), {"params": [], "names": [], "decays": decay, "lr_scale": scale, "weight_decay": 0.0}
        )
        group["params"].append(parameter)  # type: ignore[attr-defined]
        group["names"].append(name)  # type: ignore[attr-defined]
    return list(groups.values())


def _undecayed_names(method: nn.Module) -> set[str]:
    """Names of biases and of what networks declare in timm's optional `no_weight_decay`."""
    names = {name for name, _ in method.named_parameters() if name.endswith(".bias")}
    for prefix, module in method.named_modules():
        declared = getattr(module, "no_weight_decay", None)
        if declared is not None:
            names |= {f"{prefix}.{name}" if prefix else name for name in declared()}
    return names


def layer_scales(encoder: nn.Module, layer_decay: float | None) -> dict[int, float]:
    """Factor on the learning rate by the identity of each of the encoder's parameters; the head above it has 1."""
    if layer_decay is None:
        return {}
    from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

    groups = param_groups_layer_decay(encoder, layer_decay=layer_decay)
    # timm counts the encoder's own layers, whose last has 1; the head is one layer more.
    return {id(p): float(group["lr_scale"]) * layer_decay for group in groups for p in group["params"]}
