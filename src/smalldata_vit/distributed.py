"""The collectives we need, each the identity in a single process."""

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, 0 in a single process."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def total(value: Tensor) -> Tensor:
    """The sum over ranks, detached, every rank the same bits."""
    value = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def rows(value: Shaped[Tensor, "B *rest"]) -> Shaped[Tensor, "G *rest"]:
    """The rows of all ranks, in the order of the ranks; ranks may hold different numbers of rows."""
    value = value.detach().contiguous()
    if world_size() == 1:
        return value
    counts = [torch.zeros(1, dtype=torch.int64, device=value.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(value)], device=value.device))
    longest = max(int(c) for c in counts)
    padded = value.new_zeros((longest, *value.shape[1:]))
    padded[: len(value)] = value
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([g[: int(c)] for g, c in zip(gathered, counts, strict=True)])


def objects(value: object) -> list[object]:
    """One picklable object from each rank, in the order of the ranks; for start-up, not for steps."""
    if world_size() == 1:
        return [value]
    out: list[object] = [None] * world_size()
    dist.all_gather_object(out, value)
    return out


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()
