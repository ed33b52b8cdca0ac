"""`guidance.features=stored`: a guide's maps of every training image, computed once and kept in files that are mapped.

The files lie in the stage's folder while it trains and are removed when it has finished.
"""

import math
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from smalldata_vit.assembly import Assembly
from smalldata_vit.atomic import replaced
from smalldata_vit.data.mapped import Mapped
from smalldata_vit.data.passes import on
from smalldata_vit.data.room import gigabytes
from smalldata_vit.data.views import PlainView
from smalldata_vit.exactness import exact_float32
from smalldata_vit.fitting import free_memory
from smalldata_vit.journal import Journal
from smalldata_vit.parts.guidance import Guidance
from smalldata_vit.parts.guidance_networks import Guide, Shape, shapes_of
from smalldata_vit.parts.guidance_stored import StoredMaps
from smalldata_vit.results import read_json, write_json

FOLDER = "guide_maps"
AT_ONCE = 256
"""Images that the guide looks at together."""
SHARE_OF_ACCELERATOR = 0.3
"""Of the free memory of an accelerator that the maps may take; what is left is for training."""
BYTES = 4
"""Of a number: float32, as the guide gives them."""


def guidance_of(stage: Assembly) -> Guidance | None:
    """The guidance of a stage whose guide's maps are stored, else None."""
    found = [m for m in stage.method.modules() if isinstance(m, Guidance) and m.features == "stored"]
    return found[0] if found else None


def missing(stage: Assembly, folder: Path) -> bool:
    """Whether a stage needs maps that its folder does not hold, so that its guide has to have its weights."""
    return guidance_of(stage) is not None and not (folder / FOLDER / "index.json").exists()


def provide(stage: Assembly, folder: Path, journal: Journal) -> None:
    """Hand a stage the maps that it needs, if any, and compute them if they are not there; for rank 0.

    ValueError: they do not fit on the disk.
    """
    guidance = guidance_of(stage)
    if guidance is None:
        return
    if missing(stage, folder):
        compute(stage, guidance, folder / FOLDER, journal)
    where = hand_over(stage, folder)
    journal.note(f"the guide's maps of all training images are read from {where}; the guide does not run in training")


def hand_over(stage: Assembly, folder: Path) -> str:
    """Give a stage the maps in its folder, if it needs any; returns where they lie, in words. For every rank."""
    guidance = guidance_of(stage)
    if guidance is None:
        return ""
    images, where = stage.learner.images, f"files in {folder / FOLDER}"
    shapes = shapes_of_stages(guidance.guide)
    maps = [opened(place(folder / FOLDER, number), (len(images), *shape)) for number, shape in enumerate(shapes)]
    if stage.device.type == "cuda" and size_of(shapes, len(images)) < SHARE_OF_ACCELERATOR * free_memory(stage.device):
        maps, where = [one.to(stage.device) for one in maps], "the memory of the GPU"
    sizes = torch.stack([images.heights, images.widths], dim=1).float()
    guidance.stored = StoredMaps(maps, sizes.to(stage.device))
    return where


def compute(stage: Assembly, guidance: Guidance, folder: Path, journal: Journal) -> None:
    """Write a file for each of the guide's stages: its maps of the whole training images at the guide's own size.

    What they take is said before anything is written. ValueError: it is more than is free on the disk.
    """
    guide, images, facts = guidance.guide.to(stage.device), stage.learner.images, stage.facts
    refuse_if_too_large(size_of(shapes_of_stages(guide), len(images)), len(images), folder, journal)
    view, started = PlainView(guide.image_size, mean=facts.mean, std=facts.std), time.perf_counter()
    flops = 0
    with ExitStack() as stack, exact_float32(stage.device), torch.compiler.set_stance("force_eager"):
        files = [stack.enter_context(replaced(place(folder, number))) for number in range(len(guide.stages))]
        for first in range(0, len(images), AT_ONCE):
            index = torch.arange(first, min(first + AT_ONCE, len(images)), device=images.device)
            with FlopCounterMode(display=False) as counter:
                maps = guide(view(on(stage.device, images.take(index))))
            flops += counter.get_total_flops()
            for file, one in zip(files, maps, strict=True):
                file.write(one.float().contiguous().cpu().numpy().tobytes())
    # The index comes last: where it is, the maps are whole.
    write_json(folder / "index.json", {"images": len(images), "flops": flops})
    journal.note(f"the guide looked at {len(images):,} images in {time.perf_counter() - started:.1f} s")


def refuse_if_too_large(size: int, images: int, folder: Path, journal: Journal) -> None:
    """Say what maps will take before they are computed; ValueError if it is more than is free on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    told = (
        f"guidance.features=stored: the guide's maps of {images:,} images take {gigabytes(size)} ({size:,} bytes) in "
        f"{folder}, where {gigabytes(free)} are free"
    )
    if size > free:
        raise ValueError(
            f"{told}: guidance.features=live keeps none, guide.image_size= and guidance.pairs= make fewer, output_dir= "
            f"and store= choose another disk"
        )
    memory = free_memory(torch.device("cpu")) if sys.platform.startswith("linux") else None
    slow = "" if memory is None or size <= memory else "; the rest is read from the disk again and again"
    journal.note(told + ("" if memory is None else f"; {gigabytes(memory)} of memory are free to hold them{slow}"))


def flops_spent(folder: Path) -> int:
    """Floating-point operations that computing the maps took; 0 where none were."""
    index = folder / FOLDER / "index.json"
    return int(read_json(index)["flops"]) if index.exists() else 0


def remove(folder: Path) -> None:
    """Remove the maps of a stage that has finished."""
    if (folder / FOLDER).exists():
        shutil.rmtree(folder / FOLDER)


def place(folder: Path, number: int) -> Path:
    """The file of one of the guide's stages."""
    return folder / f"stage_{number}.bin"


def opened(file: Path, shape: Sequence[int]) -> Tensor:
    """The maps in a file, float32 of this shape, mapped. ValueError: the file has another size."""
    if file.stat().st_size != BYTES * math.prod(shape):
        raise ValueError(f"{file} does not hold {tuple(shape)} numbers of {BYTES} bytes; remove {file.parent}")
    return Mapped(file).pixels().view(torch.float32).view(*shape)


def shapes_of_stages(guide: Guide) -> list[Shape]:
    """Channels, height and width of the maps that a guide gives, by stage."""
    everything = shapes_of(guide.network, guide.image_size)
    return [everything[stage] for stage in guide.stages]


def size_of(shapes: Sequence[Shape], images: int) -> int:
    """Bytes of the maps of so many images."""
    return BYTES * images * sum(math.prod(shape) for shape in shapes)
