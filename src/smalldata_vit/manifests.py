"""Which checkpoints of a folder are whole: every one has a manifest with the digest of its bytes."""

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smalldata_vit.atomic import remove_unfinished
from smalldata_vit.results import read_json

log = logging.getLogger(__name__)

_NUMBERED = re.compile(r"^(?P<family>\w+)_(?P<step>\d{8,})\.ckpt$")
_FACTS = {"sha256", "size", "config_hash", "step", "total_steps", "replaces"}


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or is not whole."""


@dataclass(frozen=True)
class Found:
    """The newest whole checkpoint of a folder, and what was lost on the way to it."""

    path: Path
    step: int
    total_steps: int
    config_hash: str | None
    sha256: str
    damaged: tuple[Path, ...]
    """Newer ones that are not whole."""
    steps_lost: int
    """Steps between this one and the newest damaged one, which are done again."""


def checkpoint_name(step: int, family: str = "step") -> str:
    """`step_00000123.ckpt`; no `=`, which Hydra reads as syntax."""
    return f"{family}_{step:08d}.ckpt"


def manifest(path: Path) -> Path:
    """The manifest's place beside a checkpoint."""
    return path.with_name(f"{path.name}.json")


def family_of(path: Path) -> tuple[str, int] | None:
    """Family and step of a numbered name (`step_00000123.ckpt`), or None."""
    name = _NUMBERED.match(path.name)
    return None if name is None else (name["family"], int(name["step"]))


def numbered(folder: Path, family: str) -> list[tuple[int, Path]]:
    """Checkpoints of a family by step, oldest first, whole or not."""
    named = ((family_of(path), path) for path in folder.glob("*.ckpt"))
    return sorted((name[1], path) for name, path in named if name and name[0] == family)


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint; CheckpointError naming the file and what is wrong with it."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    facts = _read(path)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    if digest not in (facts["sha256"], facts["replaces"]):
        other_size = f"it has {size} bytes instead of {facts['size']}"
        how = other_size if size != facts["size"] else "its bytes are not those that were written"
        raise CheckpointError(f"{path} is damaged: {how}")
    return facts | {"sha256": digest}


def newest_whole(folder: Path, family: str = "step") -> Found | None:
    """The newest checkpoint whose digest is right, or None; says in one line which were damaged and what that costs."""
    damaged: list[tuple[int, Path, str]] = []
    found = None
    for step, path in reversed(numbered(folder, family)):
        try:
            facts = verify(path)
        except CheckpointError as error:
            damaged.append((step, path, str(error)))
            continue
        lost = damaged[0][0] - step if damaged else 0
        newer = tuple(p for _, p, _ in damaged)
        found = Found(path, step, facts["total_steps"], facts["config_hash"], facts["sha256"], newer, lost)
        break
    if damaged:
        said = "; ".join(sentence for _, _, sentence in damaged)
        if found:
            log.warning("%s. %s is used instead: %d step(s) are done again", said, found.path.name, found.steps_lost)
        else:
            log.warning("%s. No whole checkpoint is left: %d step(s) are lost", said, damaged[0][0])
    return found


def clean(folder: Path) -> None:
    """Remove what a killed writer left: unfinished files, and manifests whose checkpoint never came. For the owner."""
    left = remove_unfinished(folder)
    for path in folder.glob("*.ckpt.json"):
        if not path.with_name(path.name.removesuffix(".json")).exists():
            path.unlink()
            left.append(path)
    if left:
        log.info("removed %d left-over file(s) of an interrupted write in %s", len(left), folder)


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = read_json(manifest(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} has no whole manifest {manifest(path).name}, so it cannot be trusted") from error
    missing = _FACTS - set(facts) if isinstance(facts, dict) else _FACTS
    if missing:
        raise CheckpointError(f"{manifest(path)} lacks {', '.join(sorted(missing))}")
    return facts
