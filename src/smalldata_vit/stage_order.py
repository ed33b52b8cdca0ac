"""Which stage needs which: a stage is refused whose source is neither before it nor finished."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from smalldata_vit.schema import GUIDE
from smalldata_vit.store import outcome_of


class StageError(ValueError):
    """A stage cannot run as it was asked for."""


def refuse_missing_sources(cfg: DictConfig, names: Sequence[str]) -> None:
    """StageError for a stage whose source is neither scheduled before it nor finished in the output folder."""
    for place, name in enumerate(names):
        for stage, needs, otherwise in needed_by(cfg, name):
            if stage in names[:place]:
                continue
            where = Path(cfg.output_dir) / stage if cfg.output_dir else None
            if where is None or outcome_of(where).get("status") != "finished":
                raise StageError(
                    f"{name} {needs} {stage}, which is neither in stages=[{','.join(names)}] nor finished in "
                    f"output_dir={cfg.output_dir}. Add it to stages, give the output_dir that holds it, {otherwise}"
                )


def needed_by(cfg: DictConfig, name: str) -> list[tuple[str, str, str]]:
    """The stages whose weights a stage needs, each with what for, and with how to do without."""
    needed, source = [], cfg[name].start_from
    if source is not None and source.get("stage") is not None:
        needed.append((source.stage, "starts from", f"or ask for a start from scratch with {name}.start_from=null"))
    if cfg[name].guidance and cfg.guide.start_from is None:
        instead = f"or name a trained CNN with {GUIDE}.start_from.file=, or ask for none with {name}.guidance=none"
        needed.append((GUIDE, "is guided by the CNN of the stage", instead))
    return needed
