"""Whether `start_from` of a stage names one source, and one that there can be."""

from collections.abc import Iterator, Mapping
from typing import Any

from smalldata_vit.schema import EVALUATE, SOURCES


def misfits_of_start(stage: Mapping[str, Any], name: str) -> Iterator[str]:
    """A sentence for everything in the resolved config of a stage that cannot be right about where it starts."""
    source = stage["start_from"]
    if source is None:
        if name == EVALUATE:
            yield f"{name}.start_from=null: there is nothing to judge; name a stage, a file or a network of timm's"
        return
    given = [key for key in SOURCES if source[key] is not None]
    if len(given) != 1:
        found = "neither a stage nor a file nor timm" if not given else " and ".join(f"a {key}" for key in given)
        found = found if len(given) != 2 else f"both {found}"
        yield (
            f"{name}.start_from names {found}: set one of {name}.start_from.stage=, .file= and .timm= and the others "
            f"to null; {name}.start_from=null is from scratch"
        )
    if source["stage"] == name:
        yield f"{name}.start_from.stage={name}: a stage cannot start from itself"
    if source["timm"] is not None and not isinstance(source["timm"], str):
        yield (
            f"{name}.start_from.timm={source['timm']}: {stage['arch']['_target_']} is not chosen by a name of timm's; "
            f"give the name of the network whose weights fit, for example {name}.start_from.timm=deit_tiny_patch16_224"
        )
