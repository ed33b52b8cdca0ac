"""Pictures of a run: the views as the network saw them, and where it looked."""

from html import escape
from pathlib import Path

from smalldata_vit.reports import page
from smalldata_vit.reports.judged import read_arrays

TILE, ROOM = 64, 1000
"""CSS pixels: the side of a view where there is room, and the width that all columns share."""
ATTENTION = {
    "attention.png": "Attention of the class token in the last block, mean over heads",
    "kept.png": "The patches that hold most of it",
    "rollout.png": "Rolled out over all blocks",
}


def views(stage: Path) -> str:
    """Training images in rows: as evaluation would see them, then each group of views as it goes into the network."""
    arrays = read_arrays(stage / "views.npz")
    if not arrays:
        return ""
    groups = {name.removeprefix("views_"): array for name, array in arrays.items() if name.startswith("views_")}
    columns = 1 + sum(array.shape[1] for array in groups.values())
    side = max(28, min(TILE, ROOM // columns - 6))
    head = ["evaluation", *(f"{name}, {a.shape[1]} × {a.shape[2]} px" for name, a in groups.items())]
    cells = "".join(f"<b>{escape(name)}</b>" for name in head)
    for place, plain in enumerate(arrays["plain"]):
        strips = [plain[None], *(array[place] for array in groups.values())]
        for name, strip in zip(head, strips, strict=True):
            said = f"training image {arrays['index'][place]}, {name}"
            cells += f'<div class="strip">{"".join(page.picture(view, said, side) for view in strip)}</div>'
    return f'<div class="views" style="grid-template-columns: repeat({len(head)}, auto)">{cells}</div>'


def attention(folder: Path) -> str:
    """The pictures that `python -m smalldata_vit.reports.attention` drew; empty if it was not asked."""
    there = folder / "attention"
    parts = [
        f"<h3>{escape(said)}</h3>{page.inline((there / file).read_bytes(), 'png', said)}"
        for file, said in ATTENTION.items()
        if (there / file).exists()
    ]
    heads = [page.inline(file.read_bytes(), "png", f"heads, {file.stem}") for file in sorted(there.glob("heads_*.png"))]
    return "".join(parts) + (page.details("Every head", "".join(heads)) if heads else "")
