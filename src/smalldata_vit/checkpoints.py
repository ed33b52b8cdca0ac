"""Our checkpoint writer at Lightning's plug-in point: whole or not there, verified before reading, the last two kept.

A checkpoint is `step_00000123.ckpt` with a manifest `step_00000123.ckpt.json` beside it. The manifest gets its name
first and the checkpoint second, so a checkpoint that can be seen always has the digest that it is checked against.
"""

import errno
import hashlib
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor, nn

from smalldata_vit.atomic import replaced
from smalldata_vit.manifests import (
    CheckpointError,
    Found,
    checkpoint_name,
    clean,
    family_of,
    manifest,
    newest_whole,
    numbered,
    verify,
)
from smalldata_vit.results import write_json

__all__ = ["CheckpointError", "Checkpoints", "Found", "checkpoint_name", "clean", "newest_whole", "verify"]

_PLAIN = (bool, int, float, str, bytes, type(None), torch.Size, torch.dtype, torch.device, Tensor, nn.Parameter)


class Checkpoints(CheckpointIO):
    """Writes, verifies and rotates the checkpoints of one stage.

    Arguments:
        config_hash: of the stage; stands in every manifest (None: null stands there).
        keep: how many of the newest stay, for each family of names (`step_…`, `best_…`).
    """

    def __init__(self, config_hash: str | None = None, keep: int = 2) -> None:
        self.config_hash, self.keep = config_hash, keep

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Write plain data with an entry `position` (with `step` and `total_steps`); until it is whole nothing changes.

        The caller owns the folder: what a killed writer left there is removed. TypeError naming the key of what
        `torch.load(weights_only=True)` might refuse; CheckpointError with path and sizes if the disk does not take it.
        """
        path = Path(path)
        refuse_objects(checkpoint, "checkpoint")
        position = checkpoint["position"]
        sink = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            clean(path.parent)
            with replaced(path) as file:
                sink = _Digest(file)
                _serialise(checkpoint, sink)
                self._write_manifest(path, sink, position)
        except OSError as error:
            raise CheckpointError(_cannot_write(path, error, sink.size if sink else 0)) from error
        self._rotate(path)

    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint's data, after its digest was verified; runs no code stored in it, whatever is asked for."""
        verify(Path(path))
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | os.PathLike) -> None:
        """Remove a checkpoint, then its manifest."""
        Path(path).unlink(missing_ok=True)
        manifest(Path(path)).unlink(missing_ok=True)

    def _write_manifest(self, path: Path, sink: "_Digest", position: dict[str, Any]) -> None:
        facts = {
            "sha256": sink.hash.hexdigest(),
            "size": sink.size,
            "config_hash": self.config_hash,
            "step": position["step"],
            "total_steps": position["total_steps"],
            # Until the new file has its name, the one that has it now is whole as well.
            "replaces": _digest_of_whole(path),
        }
        write_json(manifest(path), facts)

    def _rotate(self, path: Path) -> None:
        """Keep the newest of the family. One of a later step is left from before a fall-back, and leads nowhere."""
        name = family_of(path)
        if name is None:
            return
        family, newest = name
        written = numbered(path.parent, family)
        later = [p for step, p in written if step > newest]
        older = [p for step, p in written if step <= newest]
        for obsolete in [*later, *older[: -self.keep]]:
            self.remove_checkpoint(obsolete)


def refuse_objects(value: object, place: str) -> None:
    """TypeError naming the place of anything but plain containers, numbers, text and tensors."""
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind in (dict, OrderedDict):
        for key, item in value.items():  # type: ignore[attr-defined]
            refuse_objects(key, f"the key {key!r} of {place}")
            refuse_objects(item, f"{place}[{key!r}]")
    elif kind in (list, tuple, set):
        for i, item in enumerate(value):  # type: ignore[arg-type]
            refuse_objects(item, f"{place}[{i}]")
    else:
        raise TypeError(
            f"{place} is a {kind.__module__}.{kind.__qualname__}; a checkpoint holds tensors, numbers, text and plain "
            f"containers only, so that it can be read without running code stored in it"
        )


class _Digest:
    """A sink that counts and digests what goes through; keeps the disk's error, which torch hides behind its own."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash, self.size = file, hashlib.sha256(), 0
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.failure = error
            raise
        self.hash.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _serialise(checkpoint: dict[str, Any], sink: _Digest) -> None:
    try:
        torch.save(checkpoint, sink)  # type: ignore[arg-type]
    except (OSError, RuntimeError) as error:
        raise sink.failure or error from error


def _digest_of_whole(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        return str(verify(path)["sha256"])
    except CheckpointError:
        return None  # damaged: nothing is lost when it goes


def _cannot_write(path: Path, error: OSError, written: int) -> str:
    folder = next(p for p in path.parents if p.exists())
    free = shutil.disk_usage(folder).free
    left = numbered(path.parent, "step")
    kept = f"{left[-1][1].name} is intact" if left else "there is no earlier one"
    why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
    sizes = f"{written / 1e6:.1f} MB were written, {free / 1e6:.1f} MB are free there"
    return f"cannot write {path}: {why} ({sizes}); {kept}"
