"""Files of weights: checkpoints of ours, and those of the published recipes, read without running code stored in them.

A format says where in a file the weights lie and which of them belong to no encoder. Gani, Naseer and Yaqub, BMVC 2022;
Caron et al. (DINO), ICCV 2021; Cao, Yu and Wu (IDMM), ECCV 2022; Li et al. (locality guidance), ECCV 2022; timm.
"""

import argparse
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from smalldata_vit.foreign_names import translated
from smalldata_vit.handoff import HandOffError

PREFIXES = ("module.", "encoder_q.", "backbone.")
"""Of names, put there by data parallelism, contrastive methods and multi-crop; taken off in this order."""
CLASS_HEADS = ("head", "head.fc", "fc", "classifier")
"""Where the last linear layer of a classifier lies; it becomes the source's head."""


@dataclass(frozen=True)
class Format:
    """Where a producer's files keep their weights.

    Arguments:
        entries: for each source that can be asked for, the entries of the file that it may lie in.
        bare: whether a file may be the named tensors themselves, which then count as `encoder`.
        projectors: patterns of names of a self-supervised head, which nobody takes over.
    """

    entries: Mapping[str, Sequence[str]]
    bare: bool = True
    projectors: Sequence[str] = ()


STUDENT_AND_TEACHER = {"student": ("student",), "teacher": ("teacher",)}
FORMATS = {
    "gani": Format({**STUDENT_AND_TEACHER, "encoder": ("model_state_dict", "teacher")}, projectors=("mlphead.*",)),
    "dino": Format({**STUDENT_AND_TEACHER, "encoder": ("teacher",)}, projectors=("head.mlp.*", "head.last_layer.*")),
    "idmm": Format({"encoder": ("state_dict",)}),
    "lg": Format({"encoder": ("model_state",), "ema": ("ema_state",)}, bare=False),
    "timm": Format({"encoder": ("state_dict", "model"), "ema": ("state_dict_ema", "model_ema")}),
}
"""Of others. `ours` has an entry for every source, and the head of a classifier in an entry `head`."""


@dataclass(frozen=True)
class Weights:
    """What a file, or timm, offers to a network of ours, by our names."""

    encoder: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    """`weight` (C, D) and `bias` (C,) of a linear classifier; empty without one."""
    sha256: str
    format: str = "ours"
    left_over: Sequence[str] = field(default_factory=list)
    """Names that the format itself declares to be no part of an encoder."""
    names: str | None = None
    """Whose names were translated, None for ours."""
    normalised: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and standard deviation of the images that they were trained on, where they are known."""


def read(path: str | Path, source: str = "encoder", format: str = "auto") -> Weights:
    """The weights of a file called `source` (encoder, student, teacher, ema), its head, and the file's sha256.

    `format`: ours, one of `FORMATS`, or `auto`, which looks at the entries and names that there are. HandOffError if
    the file cannot be read without running code, is of another format, or has no such weights.
    """
    path = Path(path)
    if not path.is_file():
        raise HandOffError(f"There are no weights to start from: {path} is not a file.")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    content = _content(path)
    format = format_of(content) if format == "auto" else format
    if format == "ours" or format not in FORMATS:
        return Weights(_state(content, (source,), False, source, path), _head_of(content), sha256)
    found = FORMATS[format]
    bare = found.bare and source == "encoder"
    return offered(_state(content, found.entries.get(source, ()), bare, source, path), format, sha256)


def offered(state: Mapping[str, Tensor], format: str, sha256: str) -> Weights:
    """Foreign weights by our names, the classifier's head apart from the encoder. HandOffError: two have one name."""
    ours, names, left_over = translated(_without_prefixes(state))
    projectors = [n for n in ours if any(fnmatchcase(n, pattern) for pattern in FORMATS[format].projectors)]
    place = next((h for h in CLASS_HEADS if f"{h}.weight" in ours and ours[f"{h}.weight"].ndim == 2), None)
    head = {} if place is None else {k: ours[f"{place}.{k}"] for k in ("weight", "bias") if f"{place}.{k}" in ours}
    apart = {*projectors, *(f"{place}.{key}" for key in head)}
    encoder = {name: value for name, value in ours.items() if name not in apart}
    return Weights(encoder, head, sha256, format, [*left_over, *projectors], names)


def format_of(content: object) -> str:
    """The format of a file by the entries that it has; `ours` also where nothing is known, so that it is refused."""
    if isinstance(content, Mapping) and _is_state(content):
        return "idmm" if all(name.startswith("module.") for name in content) else "timm"
    entries = content if isinstance(content, Mapping) else {}
    if "encoder" in entries:
        return "ours"
    marks = {"model_state": "lg", "model_state_dict": "gani"}
    marked = next((format for entry, format in marks.items() if entry in entries), None)
    if marked is not None:
        return marked
    pair = next((entries[e] for e in ("student", "teacher") if _is_state(entries.get(e))), None)
    if pair is not None:
        return "gani" if any("mlphead." in name for name in pair) else "dino"
    return "timm" if any(_is_state(entries.get(entry)) for entry in ("state_dict", "model")) else "ours"


def _state(content: Any, entries: Sequence[str], bare: bool, source: str, path: Path) -> Mapping[str, Tensor]:
    """The named tensors in the first of these entries that there is, or the content itself."""
    if _is_state(content) and bare:
        return dict(content)
    there = content if isinstance(content, Mapping) else {}
    entry = next((entry for entry in entries if entry in there), None)
    if entry is None:
        found = ", ".join(map(str, list(there)[:8])) or (type(content).__name__ if not there else "nothing")
        raise HandOffError(
            f"{path} has no weights called {source!r}; it holds: {found}. What is read is chosen with "
            f"start_from.weights=encoder|student|teacher|ema and start_from.format=ours|{'|'.join(FORMATS)}."
        )
    if not _is_state(there[entry]):
        raise HandOffError(f"{path}: {entry!r} is no mapping from names to tensors.")
    return dict(there[entry])


def _head_of(content: Any) -> Mapping[str, Tensor]:
    """The head in a checkpoint of ours."""
    found = content.get("head") if isinstance(content, Mapping) else None
    return dict(found) if isinstance(found, Mapping) and _is_state(found) else {}


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        short = name
        for prefix in PREFIXES:
            short = short.removeprefix(prefix)
        if short in plain:
            raise HandOffError(f"Two weights are called {short} once their prefixes are gone; {name} is the second.")
        plain[short] = value
    return plain


def _content(path: Path) -> Any:
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
