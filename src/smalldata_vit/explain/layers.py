"""Where every value of a composed experiment comes from: composition replayed file by file, word by word.

Nothing is guessed from names: each step of composing is compared with what it left, so that what is shown is what runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.defaults_list import DefaultsList
from omegaconf import DictConfig

from smalldata_vit import checks, composition
from smalldata_vit.config import Made, composing, stage_config
from smalldata_vit.explain.choices import Chosen, choices
from smalldata_vit.explain.trace import Place, Said, Trace, leaves_of, same
from smalldata_vit.hydra_files import defaults_of, read_yaml
from smalldata_vit.overrides import parse
from smalldata_vit.root_values import as_written
from smalldata_vit.schema import EVALUATE, STAGES
from smalldata_vit.words import ConfigError, parts

SCHEMA = "default (schema.py)"
UNEXPLAINED = "composition"
"""Stands where a step did what nobody recorded; a test holds that it stands nowhere."""


@dataclass(frozen=True)
class Explained:
    """A composed experiment, the origin of its values, and by place the options that its subtrees began with."""

    made: Made
    trace: Trace
    chosen: Mapping[Place, Chosen]


def explained(overrides: Sequence[str]) -> Explained:
    """The experiment that these words ask for, explained; ConfigError if they cannot be right."""
    trace, chosen = Trace(), dict[Place, Chosen]()
    for made in composing(overrides):
        actual = dict(leaves_of(as_written(made.cfg)))
        actual = {place: value for place, value in actual.items() if place[0] != "chosen"}
        if made.step == "options":
            files = defaults_of(composition.CONF, made.words)
            lay_files(trace, files)
            chosen = choices(files)
        if made.step == "typed":
            lay_words(trace, made)
        trace.settle(actual, _Step(made, trace))
    lay_settings(trace, made.cfg)
    return Explained(made, trace, chosen)


def lay_files(trace: Trace, files: DefaultsList) -> None:
    """What the chosen files say, in the order in which Hydra merges them."""
    for default in files.defaults:
        file = composition.CONF / f"{default.config_path}.yaml"
        if str(default.config_path).startswith("hydra/") or not file.is_file():
            continue
        content = {key: value for key, value in read_yaml(file).items() if key not in ("defaults", "hydra")}
        trace.lay(content, f"conf/{default.config_path}.yaml", at=tuple(filter(None, str(default.package).split("."))))


def lay_words(trace: Trace, made: Made) -> None:
    """What was typed, in order."""
    for word, path in made.put:
        _, key, _ = parts(word)
        place, [override] = tuple(path.split(".")), parse([word])
        if override.is_delete():
            trace.clear(place)
        else:
            how = "" if path == key else f"inherited from {key}"
            trace.lay(override.value(), f"command line: {word}", how, place)


def lay_settings(trace: Trace, cfg: DictConfig) -> None:
    """What stages make of their values: two steps with `debug=true`, the network's name with `start_from.timm=true`."""
    for stage in cfg.stages if not checks.stage_misfits(list(cfg.stages)) else ():
        try:
            used = dict(leaves_of(stage_config(cfg, stage)))
        except ConfigError:
            continue  # config.check says what is missing
        for key in ("steps", "evaluate_every_epochs"):
            if cfg.debug and not same(used[key,], trace.said[stage, key][-1].value):
                trace.lay(used[key,], trace.said["debug",][-1].by, "debug=true", (stage, key))
        timm, name = (stage, "start_from", "timm"), (stage, "arch", "name")
        if timm in trace.said and trace.said[timm][-1].value is True and name in trace.said:
            trace.lay(used[timm[1:]], trace.said[name][-1].by, f"true is the name of {stage}.arch", timm)


class _Step:
    """Says where a value comes from that a step of composing put in place of another."""

    def __init__(self, made: Made, trace: Trace) -> None:
        self.made, self.trace = made, trace
        self.before = {place: chain[-1] for place, chain in trace.said.items()}

    def __call__(self, place: Place, value: Any) -> Said:
        step = self.made.step
        if step == "inherited" and place[0] in STAGES and place[1:] in self.before:
            source = self.before[place[1:]]
            return Said(value, source.by, f"inherited from {'.'.join(place[1:])}")
        if place not in self.before and step in ("options", "typed"):
            return Said(value, SCHEMA)
        if step == "typed" and place[1] == "start_from":
            words = [word for word, path in self.made.put if path.startswith(f"{place[0]}.start_from.")]
            return Said(value, f"command line: {' '.join(words)}", "one source takes the place of another")
        if step == "guide" and place[0] == "stages":
            return Said(value, "guidance", "a guided stage brings in the stage that trains its guide")
        if step == "judged":
            return self._as_trained(place, value)
        return Said(value, UNEXPLAINED)

    def _as_trained(self, place: Place, value: Any) -> Said:
        source = self.made.cfg[EVALUATE].start_from
        trained = (str(source.stage), *place[1:])
        if place[0] == EVALUATE and trained in self.before and source.stage in self.made.cfg.stages:
            return Said(value, self.before[trained].by, f"as {source.stage} is trained")
        if source.file is not None:
            folder = Path(source.file).parent.parent
        else:
            folder = Path(str(self.made.cfg.output_dir)) / str(source.stage)
        return Said(value, f"{folder / 'config.yaml'}", "as it was trained")
