"""Whether an image can be cut into patches, and a grid of them into windows."""

from collections.abc import Sequence


def check_sides(height: int, width: int, patch_size: int) -> None:
    """ValueError, naming the nearest sides that fit, unless patches of this side tile an image of this size."""
    for side in (height, width):
        if side % patch_size or side == 0:
            below, above = side // patch_size * patch_size, (side // patch_size + 1) * patch_size
            nearest = f"{below} or {above}" if below else f"{above}"
            raise ValueError(
                f"Images of {height} x {width} pixels cannot be cut into patches of {patch_size}: {side} is not a "
                f"multiple of {patch_size}; the nearest side that is: {nearest}. Change the image or view size, or "
                f"the network's patch_size."
            )


def check_windows(grid: tuple[int, int], windows: Sequence[int]) -> None:
    """ValueError, naming windows that fit, unless each stage's grid holds its window.

    `grid`: rows and columns of patches before the first stage; each later stage halves them, rounding up.
    """
    grids = [grid]
    for _ in windows[1:]:
        grids.append(((grids[-1][0] + 1) // 2, (grids[-1][1] + 1) // 2))
    if any(min(own) < window or window < 1 for own, window in zip(grids, windows, strict=True)):
        fitting = [max(1, min(window, *own)) for own, window in zip(grids, windows, strict=True)]
        raise ValueError(
            f"Windows of {list(windows)} tokens a side do not fit into grids of "
            f"{', '.join(f'{rows} x {columns}' for rows, columns in grids)} tokens: a window is at least 1 and no "
            f"larger than its stage's grid. Choose windows={fitting}, a larger image_size or a smaller patch_size."
        )
