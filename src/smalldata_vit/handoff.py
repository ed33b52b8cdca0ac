"""Weights from one stage, or from a foreign checkpoint, into the next network: by name and shape, with a report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from smalldata_vit.handoff_tables import Rule, Table, resize, table_of


class HandOffError(ValueError):
    """Weights that do not fit, or a file that holds none."""


@dataclass(frozen=True)
class Report:
    """What a network received, by names of weights."""

    loaded: list[str] = field(default_factory=list)
    """Taken as they were."""
    resized: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Tables of positions, with the sides of the old and the new grid."""
    new: list[str] = field(default_factory=list)
    """Kept as the network began."""
    left_over: list[str] = field(default_factory=list)
    """Offered and not used."""
    rule: str = "bicubic"
    """By which tables were resized."""

    def summary(self) -> str:
        """One line with the four counts."""
        shown = list(self.resized.items())[:3]
        grids = "".join(f" ({name}: {old} x {old} to {new} x {new}, {self.rule})" for name, (old, new) in shown)
        more = f" and {len(self.resized) - len(shown)} more" if len(self.resized) > len(shown) else ""
        return (
            f"{len(self.loaded)} loaded, {len(self.resized)} resized{grids}{more}, {len(self.new)} new, "
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

    `positions`: the rule for tables of positions of another grid or window. `new`, `left_over`: patterns (`head.*`) of
    names that may begin anew, even if they are offered, and that need not be used. HandOffError, naming both shapes,
    when any other name is missing or surplus or has another shape, and when values are not finite.
    """
    own = network.state_dict()
    fresh = [name for name in own if name not in state or _declared(name, new)]
    surplus = [name for name in state if name not in own or name in fresh]
    wanted = [name for name in own if name not in fresh]
    misfits = [f"{n} is new" for n in fresh if not _declared(n, new)]
    misfits += [f"{n} is left over" for n in surplus if not _declared(n, (*left_over, *new))]
    misfits += [f"{n} holds values that are not finite" for n in wanted if not state[n].isfinite().all()]
    others = [name for name in wanted if state[name].shape != own[name].shape]
    tables = {name: None if positions == "none" else table_of(name, state, own) for name in others}
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    for name, table in tables.items():
        if table is None:
            misfits.append(f"{name} has shape {tuple(state[name].shape)}, the network's has {tuple(own[name].shape)}")
        elif positions == "recomputed" and name in trained:
            misfits.append(f"{name} was learned, so that no formula gives it anew: positions=bicubic or scale_factor")
    if misfits:
        raise HandOffError(_complaint(misfits, len(wanted), len(own)))
    _copy(own, state, wanted, tables, positions)
    grids = {name: (table.old, table.new) for name, table in tables.items() if table is not None}
    return Report([n for n in wanted if n not in grids], grids, fresh, surplus, positions)


@torch.no_grad()
def _copy(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    wanted: Sequence[str],
    tables: Mapping[str, Table | None],
    rule: Rule,
) -> None:
    for name in wanted:
        table = tables.get(name)
        if table is None:
            own[name].copy_(state[name])
        elif rule != "recomputed":
            own[name].copy_(resize(state[name], table, rule))


def _declared(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _complaint(misfits: Sequence[str], wanted: int, total: int) -> str:
    shown = "; ".join(misfits[:8]) + (f"; and {len(misfits) - 8} more" if len(misfits) > 8 else "")
    return (
        f"The weights do not fit the network ({wanted} of its {total} names are offered): {shown}. Nothing was "
        f"loaded. Choose the same arch, image size and patch size as the source, or declare what is meant to begin "
        f"anew or not to be used with start_from.new=[…] and start_from.left_over=[…] (patterns such as head.*)."
    )
