"""The stages of an experiment: which run, which are skipped or resumed, and the process that each one gets."""

import gc
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from smalldata_vit import cluster
from smalldata_vit import config as configuration
from smalldata_vit.cluster_orders import together
from smalldata_vit.jobs import OF_A_SWEEP
from smalldata_vit.output import Lock, new_folder
from smalldata_vit.results import Results
from smalldata_vit.schema import EVALUATE
from smalldata_vit.signals import die_with_parent, supervise
from smalldata_vit.skipping import finished_before
from smalldata_vit.stage_order import StageError, refuse_missing_sources
from smalldata_vit.store import FOLDER, LEADER, is_other_rank, say_skipped
from smalldata_vit.wandb_unseen import without_wandb

PARENT = "SMALLDATA_VIT_PARENT"
"""Set for the processes that a command starts for its stages: they neither lock its folder nor print its table."""


NAMED = ("experiment", "flavour")
"""Choices that results.json names, for they say which published numbers the run's are to be compared with."""
INTERRUPTED = (130, 138, 143)
"""Exit statuses of a stage that saved when it was asked to leave, and goes on from there."""
OF_THE_LAST = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
"""By these `wandb agent` names the run that its sweep counts; no stage but the last takes them."""


def run(cfg: DictConfig, typed: Sequence[str]) -> int:
    """Run the stages of a composed and checked experiment; returns the exit status.

    `typed` is the command line; every stage gets a process of its own, started with it.
    """
    # Threads that wait for each other in long loops cost a small network a factor of two and more beside another busy
    # process; threads that sleep at once cost it a third on quiet cores. A short loop costs little in both.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    names = list(cfg.stages)
    if not is_other_rank():  # rank 0 has looked
        refuse_missing_sources(cfg, names)
    starter = os.environ.get(LEADER if is_other_rank() else PARENT if PARENT in os.environ else OF_A_SWEEP)
    if starter is not None:
        die_with_parent(int(starter))
    if is_other_rank() or PARENT in os.environ:
        return stage_runner()(cfg, names[0], Path(cfg.output_dir or os.environ[FOLDER]), typed)
    place = cluster.place(os.environ)
    if place is None:
        cluster.leave_left_overs(os.environ)
        if cfg.trainer.nodes > 1:
            raise StageError(
                f"trainer.nodes={cfg.trainer.nodes}: on several machines SLURM (-m hydra/launcher=slurm, or srun) or "
                f"torchrun starts the processes; alone it is trainer.nodes=1"
            )
        return run_experiment(cfg, names, typed)
    place.refuse_misfit(cfg.trainer.devices, cfg.trainer.nodes)
    return together(
        place,
        lead=lambda: run_experiment(cfg, names, typed),
        follow=lambda name, folder: run_in_process(typed, name, folder, last=False),
    )


def run_experiment(cfg: DictConfig, names: Sequence[str], typed: Sequence[str]) -> int:
    """Run the stages in their folder, which nobody else may use meanwhile."""
    folder = Path(cfg.output_dir) if cfg.output_dir else new_folder(Path("outputs"), title(cfg))
    folder.mkdir(parents=True, exist_ok=True)
    if not cfg.output_dir:
        print(f"everything goes to {folder}; to continue after a stop: {command(typed, folder)}", flush=True)
    with Lock(folder / ".lock"):
        return run_here(cfg, names, folder, typed)


def title(cfg: DictConfig) -> str:
    """A name for a new output folder."""
    return cfg.name or f"{configuration.choice(cfg, 'method')}_{configuration.choice(cfg, 'dataset')}"


def run_here(cfg: DictConfig, names: Sequence[str], folder: Path, typed: Sequence[str]) -> int:
    """Run the stages one after another in a locked folder, then print what came out."""
    from smalldata_vit.reports.ending import draw_report, print_table  # rich is not needed to refuse a command

    results = Results(folder / "results.json")
    said = {"name": title(cfg), "seed": cfg.seed, "command": command(typed, folder), "output_dir": str(folder)}
    said |= published(cfg, results.load())
    results.update({"status": "running", "config_hash": configuration.experiment_hash(cfg), **said})
    status, ran = 0, False
    for name in names:
        try:
            if skipped(cfg, name, folder, results):
                continue
            last = name == names[-1]
            apart = len(names) > 1 or cluster.ORDERS in os.environ
            status = run_in_process(typed, name, folder, last) if apart else run_alone(cfg, name, folder, typed)
        except BaseException:
            results.update({"status": "failed"})
            draw_report(folder, cfg.report)
            raise
        ran = True
        if status != 0:
            break
    ended = "finished" if status == 0 else "interrupted" if status in INTERRUPTED else "failed"
    results.update({"status": ended})
    if status not in INTERRUPTED and (ran or not (folder / "report.html").exists()):
        draw_report(folder, cfg.report)
    if status == 0:
        print_table(folder)
    else:
        print(f"to continue: {command(typed, folder)}", file=sys.stderr)
    return status


def published(cfg: DictConfig, before: Mapping[str, Any]) -> dict[str, str]:
    """The experiment that was chosen and its flavour; a judgement leaves those of the run that it judges alone."""
    said = {} if list(cfg.stages) == [EVALUATE] and "experiment" in before else cfg.chosen
    return {key: said[key].rpartition("/")[2] if key == "flavour" else said[key] for key in NAMED if key in said}


def skipped(cfg: DictConfig, name: str, folder: Path, results: Results) -> bool:
    """Whether nothing is left to do for a stage, found out without the seconds that its own process takes to start."""
    if cfg[name].pixel_baseline and not results.load()["baselines"].get("pixels"):
        return False
    config = configuration.stage_config(cfg, name)
    outcome = finished_before(config, configuration.config_hash(config), folder, cfg.store)
    if outcome is None:
        return False
    say_skipped(name, folder / name)
    results.update({"stages": {name: outcome}})
    return True


def run_alone(cfg: DictConfig, name: str, folder: Path, typed: Sequence[str]) -> int:
    """A command with one stage is that stage's process."""
    return stage_runner()(cfg, name, folder, typed)


def stage_runner() -> Callable[[DictConfig, str, Path, Sequence[str]], int]:
    """`running.run_stage`, which brings torch and Lightning with it.

    They make two million objects that stay: a collector that looks through them again and again takes a quarter of the
    import's time, and some of that of every later step.
    """
    gc.disable()
    try:
        with without_wandb():  # timm would load it, and a run that is killed leaves its folders
            from smalldata_vit.running import run_stage
    finally:
        gc.freeze()
        gc.enable()
    return run_stage


def run_in_process(typed: Sequence[str], name: str, folder: Path, last: bool) -> int:
    """Start a stage with a command that could be typed, pass signals on to it, and return its exit status."""
    line = [sys.executable, str(script()), *without(typed, "stages", "output_dir")]
    line += [f"stages=[{name}]", f"output_dir={configuration.quoted(str(folder))}"]
    kept = {key: value for key, value in os.environ.items() if last or key not in OF_THE_LAST}
    return supervise(line, kept | {PARENT: str(os.getpid())})


def script() -> Path:
    """The command's own script."""
    return Path(sys.argv[0]).resolve()


def without(typed: Sequence[str], *keys: str) -> list[str]:
    """The overrides that do not set these keys."""
    return [word for word in typed if word.split("=", 1)[0].lstrip("+") not in keys]


def command(typed: Sequence[str], folder: Path) -> str:
    """What to type to continue in this folder."""
    words = [*without(typed, "output_dir"), f"output_dir={configuration.quoted(str(folder))}"]
    return shlex.join(["python", "run.py", *words])
