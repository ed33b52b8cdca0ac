"""The collectives we need, each the identity in a single process."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

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


def totals(values: Sequence[Tensor]) -> list[Tensor]:
    """The sum over ranks of each of several tensors of one type, detached, in one collective for all of them."""
    own = [value.detach() for value in values]
    if world_size() == 1 or not own:
        return own
    joined = torch.cat([value.flatten() for value in own])
    dist.all_reduce(joined)
    return [part.view_as(value) for part, value in zip(joined.split([v.numel() for v in own]), own, strict=True)]


def rows(value: Shaped[Tensor, "B *rest"], counts: Sequence[int] | None = None) -> Shaped[Tensor, "G *rest"]:
    """The rows of all ranks, in the order of the ranks.

    `counts`: how many each rank has; None: they are asked, which makes everybody wait and has no place in a step.
    """
    value = value.detach().contiguous()
    if world_size() == 1:
        return value
    if counts is None:
        own = torch.zeros(world_size(), dtype=torch.int64, device=value.device)
        own[rank()] = len(value)
        counts = total(own).tolist()
    padded = value.new_zeros((max(counts), *value.shape[1:]))
    padded[: len(value)] = value
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([g[:count] for g, count in zip(gathered, counts, strict=True)])


class Agreement:
    """What any rank wishes, as all ranks know it: the same answer in the same step, and nobody waits for it.

    With several ranks the answer is that to the wishes of `delay` steps ago, which has long arrived.
    """

    def __init__(self, delay: int = 2) -> None:
        self.delay = delay
        self.asked: deque[tuple[Any, Tensor]] = deque()

    def __call__(self, wishes: Sequence[bool], device: torch.device) -> list[bool]:
        """Whether any rank had each wish. Every rank has to call it in every step, with as many wishes."""
        if world_size() == 1:
            return list(wishes)
        sums = torch.tensor(wishes, dtype=torch.int32)
        sums = sums.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else sums
        self.asked.append((dist.all_reduce(sums, async_op=True), sums))
        if len(self.asked) <= self.delay:
            return [False] * len(wishes)
        work, answer = self.asked.popleft()
        return self._read(work, answer)

    def forget(self) -> None:
        """Drop the wishes that are on their way, when one of them was granted to all."""
        for work, _ in self.asked:
            work.wait()
        self.asked.clear()

    def _read(self, work: Any, answer: Tensor) -> list[bool]:
        if answer.device.type != "cuda":
            work.wait()
            return [count > 0 for count in answer.tolist()]
        # On a stream of its own: on the training stream the copy would wait for all steps up to now.
        reading = torch.cuda.Stream(answer.device)
        with torch.cuda.stream(reading):
            work.wait()
            return [count > 0 for count in answer.tolist()]


def from_first(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that they have on rank 0, in place; for start-up, not for steps."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


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
