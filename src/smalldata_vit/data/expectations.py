"""What a config expects of a dataset, compared with what was found: a difference is an error with both numbers."""

import logging
from collections.abc import Mapping

import torch

from smalldata_vit.data.cache import Found

log = logging.getLogger(__name__)

NAMED = 10
"""Unreadable files that a message names; the record names all."""


def check_facts(expected: Mapping[str, int | None], found: Mapping[str, Found], place: str) -> None:
    """Compare `num_classes`, `num_train`, `num_test` (None: not expected to be anything) with the splits."""
    counted = {f"num_{split}": len(f.images) + len(f.bad) for split, f in found.items()}
    counted["num_classes"] = len(found["train"].images.names)
    wrong = [(n, e, counted.get(n, 0)) for n, e in expected.items() if e is not None and e != counted.get(n, 0)]
    if wrong:
        told = ", ".join(f"{name} is {there}, expected {wanted}" for name, wanted, there in wrong)
        typed = " ".join(f"dataset.{name}={there if there else 'null'}" for name, _, there in wrong)
        raise ValueError(f"{place}: {told}. If what is there is what you mean: {typed}")


def check_readable(found: Mapping[str, Found], skip: bool, most: float) -> None:
    """ValueError names unreadable files unless they may be skipped and are at most a share `most` of their split."""
    for split, one in found.items():
        if not one.bad:
            continue
        total = len(one.images) + len(one.bad)
        some = "".join(f"\n  {file}: {reason}" for file, reason in list(one.bad.items())[:NAMED])
        rest = f"\n  and {len(one.bad) - NAMED} more" if len(one.bad) > NAMED else ""
        told = f"{len(one.bad)} of {total} {split} images cannot be read:{some}{rest}"
        if not skip:
            raise ValueError(f"{told}\nRepair or remove them, or leave them out with dataset.on_bad_image=skip")
        if len(one.bad) > most * total:
            raise ValueError(
                f"{told}\nThat is {len(one.bad) / total:.1%}, more than dataset.most_bad_images={most:g} allows to skip"
            )
        log.warning("%s\nThey are left out", told)


def check_classes(labels: torch.Tensor, names: list[str]) -> None:
    """ValueError if a class has no training image; one line if there is one class only."""
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        raise ValueError(
            f"no training image is left in {len(empty)} of {len(names)} classes: {', '.join(empty[:NAMED])}"
        )
    if len(names) == 1:
        log.warning("there is one class only (%s): nothing to classify, though pretraining works", names[0])
