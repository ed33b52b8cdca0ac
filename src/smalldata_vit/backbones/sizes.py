"""Whether an image can be cut into patches."""


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
