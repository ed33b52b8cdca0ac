"""Attention maps as pictures: panels in rows and columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

INCHES = 1.5
"""Side of a panel."""
Panel = tuple[Tensor, bool]
"""An image (3, H, W) in 0..1 (False), or a map (h, w) (True)."""


def draw(rows: Sequence[Sequence[Panel | None]], above: Sequence[str], beside: Sequence[str], file: Path) -> None:
    """Write a PNG of panels, None for an empty one; each map is scaled by its own maximum and drawn patch by patch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    size = (INCHES * len(above) + 0.6, INCHES * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), len(above), figsize=size, dpi=130, layout="constrained", squeeze=False)
    for number, (panels, name) in enumerate(zip(rows, beside, strict=True)):
        for place, panel in enumerate(panels):
            _show(axes[number][place], panel)
            if number == 0:
                axes[0][place].set_title(above[place], fontsize=7, wrap=True)
        axes[number][0].set_ylabel(name, fontsize=7)
    figure.savefig(file)
    plt.close(figure)


def _show(axis: Any, panel: Panel | None) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    if panel is None:
        return
    values, is_map = panel
    if is_map:
        axis.imshow(values.float().numpy(), cmap="magma", vmin=0, interpolation="nearest")
    else:
        axis.imshow(values.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
