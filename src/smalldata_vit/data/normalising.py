"""The statistics that views are normalised with, and the precision they are made in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor


class Normalisation:
    """Mean and standard deviation of each channel of values 0..1: a stage's own where it has some, else the dataset's.

    Recipes differ from their data here: IDMM pretrains with a std of .228 in red and fine-tunes with .229.

    Arguments:
        mean, std: the stage's own, or None.
        dataset_mean, dataset_std: of the training images.
    """

    def __init__(
        self,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        dataset_mean: Sequence[float] | None,
        dataset_std: Sequence[float] | None,
    ) -> None:
        given = (("mean", mean, dataset_mean), ("std", std, dataset_std))
        self._there = {torch.device("cpu"): [per_channel(name, own, other) for name, own, other in given]}
        if (self.on(torch.device("cpu"))[1] <= 0).any():
            raise ValueError(f"std={self.on(torch.device('cpu'))[1].flatten().tolist()} must be more than 0 everywhere")

    def on(self, device: torch.device) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
        """Both on a device; copied there once, for a copy from ordinary memory would be waited for."""
        if device not in self._there:
            self._there[device] = [value.to(device) for value in self._there[torch.device("cpu")]]
        mean, std = self._there[device]
        return mean, std


def per_channel(
    name: str, own: Sequence[float] | None, dataset: Sequence[float] | None = None
) -> Float[Tensor, "3 1 1"]:
    """Numbers of the three channels, ready to be broadcast; ValueError if there are none, or not three."""
    values = dataset if own is None else own
    if values is None:
        raise ValueError(f"{name}=null, and no dataset gave its own: three numbers are needed, one for each channel")
    if len(values) != 3:
        raise ValueError(f"{name}={list(values)}: three numbers are needed, one for each of the three channels")
    return torch.tensor(list(values), dtype=torch.float32)[:, None, None]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32: views are made in float32 wherever they are made."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
