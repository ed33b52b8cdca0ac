"""Weights from one stage, or from a foreign checkpoint, into the next network: by name and shape, with a report."""

import argparse
import hashlib
import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Rule = Literal["bicubic", "scale_factor", "none"]
"""How a position table reaches another grid: `bicubic` by the ratio of the grids; `scale_factor` as DINO's code does,
by (new + 0.1) / old; `none` refuses."""


class HandOffError(ValueError):
    """Weights that do not fit, or a file that holds none."""


@dataclass(frozen=True)
class Report:
    """What a network received, by names of weights."""

    loaded: list[str] = field(default_factory=list)
    """Taken as they were."""
    resized: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Position tables, with the sides of the old and the new grid."""
    new: list[str] = field(default_factory=list)
    """Kept as the network began."""
    left_over: list[str] = field(default_factory=list)
    """Offered and not used."""

    def summary(self) -> str:
        """One line with the four counts."""
        grids = "".join(f" ({name}: {old} x {old} to {new} x {new})" for name, (old, new) in self.resized.items())
        return (
            f"{len(self.loaded)} loaded, {len(self.resized)} resized{grids}, {len(self.new)} new, "
            f"{len(self.left_over)} left over"
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as plain containers, for JSON."""
        return asdict(self)


def load_encoder(
    network: nn.Module,
    state: Mapping[str, Tensor],
    positions: Rule = "bicubic",
    new: Sequence[str] = (),
    left_over: Sequence[str] = (),
) -> Report:
    """Copy weights into a network by name and shape, all or nothing, and report.

    `positions`: the rule for position tables (`pos_embed`) of another grid; rows of class and other extra tokens stay.
    `new`, `left_over`: patterns (`head.*`) of names that may begin anew, even if they are offered, and that need not
    be used. HandOffError, naming both shapes, when any other name is missing or surplus or has another
    shape, and when values are not finite.
    """
    own = network.state_dict()
    fresh = [name for name in own if name not in state or _declared(name, new)]
    surplus = [name for name in state if name not in own or name in fresh]
    wanted = [name for name in own if name not in fresh]
    misfits = [f"{n} is new" for n in fresh if not _declared(n, new)]
    misfits += [f"{n} is left over" for n in surplus if not _declared(n, (*left_over, *new))]
    misfits += [f"{n} holds values that are not finite" for n in wanted if not state[n].isfinite().all()]
    resized, grids = {}, {}
    for name in wanted:
        offered, shape = state[name], own[name].shape
        if offered.shape == shape:
            continue
        sides = None if positions == "none" else _grids(name, state, own)
        if sides is None:
            misfits.append(f"{name} has shape {tuple(offered.shape)}, the network's has {tuple(shape)}")
        else:
            grids[name], extra = sides, shape[1] - sides[1] ** 2
            resized[name] = _resize(offered, sides, extra, positions)
    if misfits:
        raise HandOffError(_complaint(misfits, len(wanted), len(own)))
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(resized.get(name, state[name]))
    return Report([n for n in wanted if n not in grids], grids, fresh, surplus)


def _declared(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _complaint(misfits: Sequence[str], wanted: int, total: int) -> str:
    shown = "; ".join(misfits[:8]) + (f"; and {len(misfits) - 8} more" if len(misfits) > 8 else "")
    return (
        f"The weights do not fit the network ({wanted} of its {total} names are offered): {shown}. Nothing was "
        f"loaded. Choose the same arch, image size and patch size as the source, or declare what is meant to be new "
        f"or left over."
    )


def _grids(name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Sides of the offered and of the wanted square grid, if this is a position table and they can be had."""
    old, new = state[name], own[name]
    if name.split(".")[-1] != "pos_embed" or old.ndim != 3 or new.ndim != 3 or old.shape[::2] != new.shape[::2]:
        return None
    extra = _extra_rows(name, own)
    if extra is None or extra != _extra_rows(name, state):
        return None
    return math.isqrt(old.shape[1] - extra), math.isqrt(new.shape[1] - extra)


def _extra_rows(name: str, state: Mapping[str, Tensor]) -> int | None:
    """Rows of a table before its square grid: one for each class, distillation or register token, or none at all."""
    stem, rows = name.removesuffix("pos_embed"), state[name].shape[1]
    tokens = (state.get(stem + token) for token in ("cls_token", "dist_token", "reg_token"))
    extra = sum(token.shape[1] for token in tokens if token is not None)
    return next((e for e in (extra, 0) if rows > e and math.isqrt(rows - e) ** 2 == rows - e), None)


def _resize(
    table: Float[Tensor, "1 old D"], sides: tuple[int, int], extra: int, rule: Rule
) -> Float[Tensor, "1 new D"]:
    """The table at the new grid; its first `extra` rows stay."""
    old, new = sides
    grid = table[:, extra:].reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    if rule == "scale_factor":
        grid = F.interpolate(grid, scale_factor=(new + 0.1) / old, mode="bicubic")
    else:
        grid = F.interpolate(grid, size=(new, new), mode="bicubic")
    return torch.cat([table[:, :extra].float(), grid.flatten(2).transpose(1, 2)], dim=1)


def read_weights(path: str | Path, source: str = "encoder") -> tuple[dict[str, Tensor], str]:
    """Named tensors of a file, and the file's sha256 in hexadecimal; no code stored in the file is run.

    The file is a checkpoint of ours or a foreign one (the entry named `source` holds the tensors), or a bare state dict
    or .safetensors, which count as `encoder`. The prefixes `module.` and `backbone.` of names are removed.
    HandOffError if the file has no such weights or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise HandOffError(f"There are no weights to start from: {path} is not a file.")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    content = _read(path)
    if not (_is_state(content) and source == "encoder"):
        if not isinstance(content, Mapping) or source not in content:
            found = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
            raise HandOffError(f"{path} has no weights called {source!r}; it holds: {found or 'nothing'}.")
        content = content[source]
        if not _is_state(content):
            raise HandOffError(f"{path}: {source!r} is no mapping from names to tensors.")
    return {name.removeprefix("module.").removeprefix("backbone."): value for name, value in content.items()}, sha256


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # The authors of the recipes store their argparse.Namespace beside the weights; it is data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, safetensors.SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise HandOffError(f"{path} cannot be read as weights; it may be damaged: {error}") from error


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())
