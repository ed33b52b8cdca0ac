"""W&B sweeps: their files type commands that we understand, and the last stage alone is the run that they count."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from smalldata_vit import config, stages
from smalldata_vit.search.objectives import objective
from smalldata_vit.wandb_logger import Wandb

SWEEPS = sorted((config.CONF.parent / "sweeps").glob("*.yaml"))
OF_AN_AGENT = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "run1", "WANDB_SWEEP_PARAM_PATH": "/nowhere"}


def typed_by(sweep: Mapping[str, Any], place: str) -> list[str]:
    """The words that the agent types for the lowest or the highest values, built by wandb's own functions."""
    ends = {"first": ("min", 0), "last": ("max", -1)}[place]
    args = {
        key: {"value": said["values"][ends[1]] if "values" in said else said[ends[0]]}
        for key, said in sweep["parameters"].items()
    }
    made = create_sweep_command_args({"args": args})
    made |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words: list[str] = []
    for part in create_sweep_command(list(sweep["command"])):
        words += made[part[2:-1]] if part.startswith("${") else [part]
    assert words[:3] == ["/usr/bin/env", "python", "run.py"]
    return words[3:]


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_what_an_agent_types_is_an_experiment_that_logs_to_wandb(file: Path, place: str) -> None:
    cfg = config.compose(typed_by(yaml.safe_load(file.read_text()), place))
    config.check(cfg)
    assert "wandb" in cfg.logger


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_sweep_counts_a_validation_metric_of_the_last_stage(file: Path) -> None:
    sweep = yaml.safe_load(file.read_text())
    cfg = config.compose(typed_by(sweep, "first"))
    counted = objective(sweep["metric"]["name"], cfg)
    assert (counted.stage, sweep["metric"]["goal"]) == (list(cfg.stages)[-1], "maximize")


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_sweep_file_has_the_keys_that_wandb_knows(file: Path) -> None:
    sweep = yaml.safe_load(file.read_text())
    assert set(sweep) == {"program", "method", "metric", "parameters", "command"}
    assert sweep["method"] in ("grid", "random", "bayes")
    for said in sweep["parameters"].values():
        assert set(said) in ({"values"}, {"distribution", "min", "max"})
        assert said.get("distribution", "uniform") in ("uniform", "log_uniform_values", "int_uniform")


def test_only_the_last_stage_gets_what_the_agent_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Mapping[str, str]] = []

    def supervise(command: Sequence[str], environment: Mapping[str, str]) -> int:
        given.append(environment)
        return 0

    monkeypatch.setattr(stages, "supervise", supervise)
    for key, value in OF_AN_AGENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("WANDB_PROJECT", "kept")
    stages.run_in_process(["seed=1"], "pretrain", Path("out"), last=False)
    stages.run_in_process(["seed=1"], "finetune", Path("out"), last=True)
    assert [{key: env.get(key) for key in OF_AN_AGENT} for env in given] == [dict.fromkeys(OF_AN_AGENT), OF_AN_AGENT]
    assert [env["WANDB_PROJECT"] for env in given] == ["kept"] * 2


def test_the_run_of_the_last_stage_is_the_one_that_the_agent_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = tmp_path / "config-run1.yaml"
    parameters.write_text("wandb_version: 1\nfinetune.optimization.lr:\n  value: 0.003\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for key, value in (OF_AN_AGENT | {"WANDB_SWEEP_PARAM_PATH": str(parameters)}).items():
        monkeypatch.setenv(key, value)
    run = Wandb(tmp_path / "finetune", "finetune", "g", {}, project="p", entity=None, tags=[])
    run.log_metrics({"val/accuracy": 0.5}, 1)
    run.finalize("success")
    run.close()
    assert run.version == "run1"
    [folder] = (tmp_path / "finetune" / "wandb").glob("offline-run-*")
    assert folder.name.endswith("-run1")
    assert b"finetune.optimization.lr" in b"".join(file.read_bytes() for file in folder.glob("*.wandb"))
