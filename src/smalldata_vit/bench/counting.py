"""Counts what torch is asked to do: operations, bytes, FLOP, and tensors that the host reads. No clock."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

MAKES_THE_HOST_WAIT = frozenset(
    {
        "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount",
        "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "linalg_eigh", "linalg_svd",
    }
)  # fmt: skip
"""Operations whose answer, or the shape of it, the host has to know before it can go on."""
READING_METHODS = ("tolist", "numpy", "cpu", "__array__")
"""Methods that give the host a tensor's values; on a CPU some of them pass no dispatcher."""
MOVES_NO_DATA = frozenset({"_unsafe_view", "detach", "alias", "lift_fresh", "_reshape_alias"})
NO_TRAFFIC = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "set_", "resize_"})
"""They reserve memory and touch none."""


@dataclass
class Counts:
    """What was counted, each by (part of the step, place in the code, operation)."""

    operations: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    reads: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    traffic: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Bytes of all tensors that went into and came out of operations."""
    flops: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """2 per multiply-add of matrix products, convolutions and attention."""

    def total(self, kind: str, parts: Callable[[str], bool] = lambda part: True) -> int:
        """The sum of one kind over the parts of the step that are asked for."""
        counted: Counter[tuple[str, str, str]] = getattr(self, kind)
        return sum(number for (part, _, _), number in counted.items() if parts(part))

    def top(self, kind: str, count: int, by: tuple[int, ...] = (0, 1)) -> list[tuple[str, int]]:
        """The largest sums, grouped by some of part (0), place (1) and operation (2)."""
        sums: Counter[str] = Counter()
        for key, number in getattr(self, kind).items():
            sums[" ".join(key[i] for i in by)] += number
        return sums.most_common(count)


class Counting(TorchDispatchMode):
    """Counts into `counts` while it is active.

    `part` says to which part of the step an operation belongs; the backward pass and the optimizer are recognised.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts, self.part = Counts(), "step"
        self.thread = threading.get_ident()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count it, unless it only makes a view."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._overloadpacket.__name__
        if is_view(func) or name in MOVES_NO_DATA:
            return out
        key = (*self._where(), name)
        self.counts.operations[key] += 1
        if makes_the_host_wait(name, args, out):
            self.counts.reads[key] += 1
        if name not in NO_TRAFFIC:
            self.counts.traffic[key] += sum(size(leaf) for leaf in tree_leaves((args, kwargs, out)))
        if func._overloadpacket in flop_registry:
            self.counts.flops[key] += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        return out

    def read(self, method: str) -> None:
        """Count a read that passes no dispatcher; those of the thread that draws ahead are no reads of a step."""
        if threading.get_ident() == self.thread:
            self.counts.reads[(*self._where(), method)] += 1

    def _where(self) -> tuple[str, str]:
        """The part of the step, and the nearest function of ours, of timm's or of an optimizer."""
        part, frame = self.part, sys._getframe(2)
        place = ""
        walked: Any = frame
        while walked is not None:
            file, function = walked.f_code.co_filename, walked.f_code.co_name
            if part == "step" and function == "_engine_run_backward":
                part = "backward"
            elif part == "step" and "/torch/optim/" in file:
                part = "optimizer"
            if not place and is_named(file):
                place = f"{file.rsplit('/', 1)[-1].removesuffix('.py')}.{function}"
            if place and part != "step":
                break
            walked = walked.f_back
        return part, place


def not_views(part: str) -> bool:
    """Every part of a step but the making of its views, which are counted apart."""
    return part != "views"


def is_named(file: str) -> bool:
    """Whether a file says more about where an operation comes from than torch's own modules."""
    return ("/smalldata_vit/" in file and "/bench/" not in file) or "/torch/optim/" in file


def is_view(func: Any) -> bool:
    """Whether an operation's result shares its memory with an argument that it does not change."""
    infos = [returned.alias_info for returned in func._schema.returns]
    return bool(infos) and all(info is not None and not info.is_write for info in infos)


def makes_the_host_wait(name: str, args: tuple[Any, ...], out: Any) -> bool:
    """Whether on an accelerator the host would stand still until the operation is done."""
    if name in MAKES_THE_HOST_WAIT:
        return True
    if name in ("index", "index_put", "index_put_"):
        return any(isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1]))
    if name in ("_to_copy", "copy_") and isinstance(out, Tensor):
        source = args[1] if name == "copy_" else args[0]
        came_from = {leaf.device.type for leaf in tree_leaves(source) if isinstance(leaf, Tensor)}
        return out.device.type == "cpu" and bool(came_from - {"cpu"})
    return False


def size(leaf: Any) -> int:
    """Bytes of a tensor, 0 of anything else."""
    return leaf.numel() * leaf.element_size() if isinstance(leaf, Tensor) else 0


@contextmanager
def counting(mode: Counting) -> Iterator[None]:
    """Count operations, and the reads that pass no dispatcher."""
    with ExitStack() as stack:
        for method in READING_METHODS:
            original = getattr(Tensor, method)
            stack.enter_context(patch.object(Tensor, method, read_and_count(mode, method, original)))
        stack.enter_context(mode)
        yield


def read_and_count(mode: Counting, method: str, original: Any) -> Any:
    """A method of Tensor that counts its calls."""

    def counted(self: Tensor, *args: Any) -> Any:
        mode.read(method)
        return original(self, *args)

    return counted
