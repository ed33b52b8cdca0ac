"""Whether every `_target_` of a stage may be named, exists, and takes what it is given; all misfits at once."""

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from smalldata_vit import signatures
from smalldata_vit.annotations import fits
from smalldata_vit.schema import ALLOWED_FOR_TRAINER, ALLOWED_VALUES, EVALUATE, INHERITED, OWN, STAGES
from smalldata_vit.start_checks import misfits_of_start
from smalldata_vit.words import NOT_FOR_LIGHTNING

ALLOW = "SMALLDATA_VIT_ALLOW"
"""Environment variable: further packages, separated by commas, that a `_target_` may name."""

THIRD_PARTY = frozenset({"lightning.Trainer", "torch.optim.Adam", "torch.optim.AdamW", "torch.optim.SGD"})
"""Callables of others that a `_target_` may name; any more would be a way to run anything."""

GIVEN_LATER = {
    "method": frozenset({"backbone", "facts"}),
    "views": frozenset({"image_size", "dataset_mean", "dataset_std"}),
    "evaluation_view": frozenset({"image_size", "dataset_mean", "dataset_std"}),
    "arch": frozenset[str](),
    "guidance": frozenset({"student", "facts"}),
    "relative_locations": frozenset({"student", "facts"}),
    "guide": frozenset[str](),
    "schedule": frozenset({"peak"}),
    "optimizer": frozenset({"params", "lr"}),
}
"""Arguments that our code passes to factories under these keys; of any other factory what is missing cannot be told."""

SPECIAL = frozenset({"_target_", "_partial_", "_convert_", "_recursive_"})


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a sentence: `. Did you mean …?` with the closest of the known words, or just the full stop."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f". Did you mean {close[0]}?" if close else "."


def misfits(stage: Mapping[str, Any]) -> list[str]:
    """A sentence for everything in the resolved config of one stage that cannot be right."""
    name = stage["stage"]
    return [*_shape(stage, name), *_values(stage, name), *_lightning(stage["trainer"]), *_targets_of(stage, name)]


def no_subtree(stage: str, key: str, value: Any) -> str:
    """What is said of a scalar where a subtree belongs."""
    how = f"{stage}.{key}=<option> chooses one" if key in INHERITED + OWN else "it is a mapping with _target_"
    return f"{stage}.{key} is {value!r}, but a subtree belongs there; {how}"


def absent(name: str) -> frozenset[str]:
    """Subtrees that a stage of this name does not have."""
    return frozenset({"learner", "views", "optimization"}) if name == EVALUATE else frozenset()


def _shape(stage: Mapping[str, Any], name: str) -> Iterator[str]:
    """Subtrees that are no objects, or not the mapping of objects that they should be."""
    lacking = absent(name)
    for key in (*INHERITED, *OWN, "learner", "evaluation_view"):
        if key in lacking and stage[key] is not None:
            yield f"{name}.{key} is given, but {name} does not train: it has none"
        if key not in ("evaluator", "guidance") and key not in lacking and "_target_" not in stage[key]:
            yield f"{name}.{key} has no _target_: it is an object to be built"
        if key == "guidance" and stage[key] and "_target_" not in stage[key]:
            yield (
                f"{name}.guidance is none, but has values ({', '.join(stage[key])}): choose the experiment's baseline "
                "(…_base), or a guidance"
            )
    for key, path in (("evaluator", f"{name}.evaluator"), ("logger", "logger")):
        for inner, node in (stage[key] or {}).items():
            if not (isinstance(node, Mapping) and "_target_" in node):
                yield f"{path}.{inner} is {node!r}, but an object with _target_ belongs there"


def _values(stage: Mapping[str, Any], name: str) -> Iterator[str]:
    """Values that no signature speaks of."""
    for path, allowed in ALLOWED_VALUES.items():
        node: Any = stage
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None and node not in allowed:
            yield f"{name}.{path}={node} is none of {', '.join(allowed)}{suggestion(str(node), list(allowed))}"
    for key, words in ALLOWED_FOR_TRAINER.items():
        value = stage["trainer"][key]
        if isinstance(value, str) and value not in words:
            numbers = " and no number" if key in ("devices", "max_batch") else ""
            yield f"trainer.{key}={value} is none of {', '.join(words)}{numbers}{suggestion(value, words)}"
    for key in (
        "epochs",
        "steps",
        "batch_size",
        "pass_size",
        "passes_per_epoch",
        "evaluate_every_epochs",
        "image_size",
    ):
        if stage[key] is not None and stage[key] <= 0:
            yield f"{name}.{key}={stage[key]} must be more than 0"
    if stage["seed"] < 0:
        yield f"seed={stage['seed']} must not be negative"
    if name != EVALUATE and stage["epochs"] is None and stage["steps"] is None:
        yield f"{name} has no length: give {name}.epochs= or {name}.steps="
    if name != EVALUATE and stage["batch_size"] is None:
        yield f"{name}.batch_size=null: training needs the number of images in a global batch"
    yield from misfits_of_start(stage, name)


def _lightning(trainer: Mapping[str, Any]) -> Iterator[str]:
    """Arguments of Lightning's Trainer that would contradict a stage."""
    if not isinstance(trainer["lightning"], Mapping):
        yield f"trainer.lightning is {trainer['lightning']!r}, but a subtree belongs there: trainer.lightning.<key>="
        return
    for key in trainer["lightning"]:
        if key in NOT_FOR_LIGHTNING:
            yield f"trainer.lightning.{key} would contradict the stages. Ours: {NOT_FOR_LIGHTNING[key]}"


def _targets_of(stage: Mapping[str, Any], name: str) -> Iterator[str]:
    for key, node in stage.items():
        own = key not in ("trainer", "logger")
        yield from _targets(node, f"{name}.{key}" if own else key)


def _targets(node: Any, path: str) -> Iterator[str]:
    """Misfits of a node and of all below it."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield from _target(node, path)
        for key, inner in node.items():
            yield from _targets(inner, f"{path}.{key}")
    elif isinstance(node, list):
        for place, inner in enumerate(node):
            yield from _targets(inner, f"{path}.{place}")


def _target(node: Mapping[str, Any], path: str) -> Iterator[str]:
    target = node["_target_"]
    taken = signatures.signature(target) if isinstance(target, str) and allowed(target) else None
    if not isinstance(target, str) or not allowed(target) or (taken and not allowed(f"{taken.home}.", target)):
        yield (
            f"{path}._target_={target} is not allowed: targets come from smalldata_vit, from "
            f"{', '.join(sorted(THIRD_PARTY))}, or from packages named in the environment variable {ALLOW}"
        )
        return
    if taken is None:
        there = signatures.defined_in(target.rpartition(".")[0])
        yield f"{path}._target_={target} does not exist{suggestion(target, there)}"
        return
    given = {key: value for key, value in node.items() if key not in SPECIAL}
    names = list(taken.parameters)
    for key, value in given.items():
        if key not in taken.parameters:
            if not taken.takes_anything:
                yield f"{path}.{key}: {target} takes no {key}{suggestion(key, names)} It takes {', '.join(names)}"
        elif not fits(value, taken.parameters[key].annotation, taken.module):
            yield _unfit(f"{path}.{key}", value, taken, key)
    later = GIVEN_LATER.get(path.rpartition(".")[2]) if node.get("_partial_", False) else frozenset()
    needed = [key for key, parameter in taken.parameters.items() if parameter.required and later is not None]
    absent = [key for key in needed if key not in given and key not in (later or ())]
    if absent:
        yield f"{path}: {target} also needs {', '.join(absent)}. It takes {', '.join(names)}"


def _unfit(path: str, value: Any, taken: signatures.Signature, key: str) -> str:
    annotation = taken.parameters[key].annotation
    wanted = "" if annotation is None else ast.unparse(annotation)
    if isinstance(value, Mapping) and "_target_" not in value:
        return f"{path} has values ({', '.join(map(str, value))}) but no _target_: it takes an object, {wanted}"
    hint = ""
    if isinstance(value, str) and value.lower() in ("yes", "no", "on", "off", "none"):
        hint = " (nothing at all is null, a truth value is true or false)"
    return f"{path}={value!r} is {type(value).__name__}, but it takes {wanted}{hint}"


def allowed(target: str, named: str = "") -> bool:
    """Whether a `_target_` may be named in a config at all; or, `named` so, may be defined in the module `target`.

    A module of ours passes on names of others (`from os import replace`): only what it defines itself is allowed.
    """
    packages = ["smalldata_vit", *filter(None, (p.strip() for p in os.environ.get(ALLOW, "").split(",")))]
    return (
        target in THIRD_PARTY or named in THIRD_PARTY or any(target.startswith(f"{package}.") for package in packages)
    )


def stage_misfits(stages: list[str]) -> list[str]:
    """A sentence for every scheduled name that is no stage, or stands there twice."""
    wrong = [f"stages: there is no stage {s}{suggestion(s, list(STAGES))}" for s in stages if s not in STAGES]
    wrong += [f"stages: {s} is named twice" for s in sorted({s for s in stages if stages.count(s) > 1})]
    return wrong + ([] if stages else [f"stages=[] runs nothing; there are {', '.join(STAGES)}"])
