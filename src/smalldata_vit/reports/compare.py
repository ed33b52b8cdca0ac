"""What pretraining is worth on the main job: runs the arms through the command line's own multirun, then tells.

`python -m smalldata_vit.reports.compare` (or `make compare`). Arms: DINO, judged by a linear probe and fine-tuned;
training from scratch with as many supervised steps; training from scratch with as many FLOPs. Typed again, it goes on
where it stopped.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from smalldata_vit.reports import comparison_picture
from smalldata_vit.reports.comparison import NAMES, Arms, markdown, remarks
from smalldata_vit.reports.records import Run, find_runs
from smalldata_vit.reports.sweep_page import write_report
from smalldata_vit.signals import supervise

SEEDS = (0, 1, 2)
COUNTS = ("1", "2", "5", "10", "null")
COUNTS_OF_EQUAL_COMPUTE = ("1", "10", "null")
WHERE = Path("outputs/compare")
MEASURED_STEPS = 60
SUPERVISED_STEP = 0.8
"""A supervised step's cost in pretraining steps, the mean over the numbers of labels (by their FLOPs); for the plan."""


def main() -> int:
    """Plan, run, table, picture; returns the exit status."""
    console = Console()
    jobs = max(1, min(len(os.sched_getaffinity(0)), 4))
    console.print(plan(jobs), highlight=False, soft_wrap=True)
    started = time.monotonic()
    status = multirun("dino", jobs, "method=dino", COUNTS)
    status = status or multirun("scratch_equal_steps", jobs, "method=supervised", COUNTS)
    for count in COUNTS_OF_EQUAL_COMPUTE:
        if status == 0:
            words = f"method=supervised finetune.steps={steps_of_equal_compute(count)}"
            status = multirun(f"scratch_equal_compute_{count}", jobs, words, [count])
    if status != 0:
        console.print("Not all jobs finished; `make compare` goes on from here.")
        return status
    arms = collect(WHERE)
    table = markdown(arms)
    (WHERE / "comparison.md").write_text(table + "\n" + "\n".join(remarks(arms)) + "\n")
    (WHERE / "comparison.json").write_text(json.dumps(arms, indent=2) + "\n")
    comparison_picture.draw(arms, WHERE / "comparison.png")
    write_report(find_runs(WHERE), WHERE, baseline=NAMES["scratch_equal_steps"], named=arm_of)
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    for sentence in remarks(arms):
        console.print(sentence, highlight=False, soft_wrap=True)
    console.print(f"{(time.monotonic() - started) / 60:.1f} minutes; table, numbers, picture and report are in {WHERE}")
    return 0


def arm_of(run: Run) -> str:
    """Which arm a job belongs to, in words: that of equal FLOPs takes other steps for every number of labels."""
    sweep = run.folder.parent.name
    named = {"dino": "dino_finetuned"}.get(sweep, sweep)
    return NAMES["scratch_equal_compute" if sweep.startswith("scratch_equal_compute") else named]


def plan(jobs: int) -> str:
    """What will run and about how long it takes, from a short measurement on this machine."""
    per_step, overhead = measure()
    pretraining = configured_steps("pretrain")
    finetuning = configured_steps("finetune")
    runs = {
        "DINO pretraining": (len(SEEDS), pretraining * per_step + overhead),
        "fine-tuning of it": (len(SEEDS) * len(COUNTS), finetuning * per_step * SUPERVISED_STEP + 2 * overhead),
        "from scratch, equal supervised steps": (
            len(SEEDS) * len(COUNTS),
            finetuning * per_step * SUPERVISED_STEP + overhead,
        ),
        "from scratch, equal FLOPs": (len(SEEDS) * len(COUNTS_OF_EQUAL_COMPUTE), pretraining * per_step + overhead),
    }
    lines = [f"  {n:2d} x {name}: about {seconds:.0f} s each" for name, (n, seconds) in runs.items()]
    total = sum(n * seconds for n, seconds in runs.values()) / jobs
    count = sum(n for n, _ in runs.values())
    head = f"{count} runs, {jobs} at a time, about {total / 60:.0f} minutes when nothing is done yet:"
    return "\n".join([head, *lines, f"Everything goes to {WHERE}; what is finished there is not run again."])


def measure() -> tuple[float, float]:
    """Seconds of one pretraining step on one core, and of everything around a stage."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["stages=[pretrain]", f"pretrain.steps={MEASURED_STEPS}", "store=null", f"output_dir={folder}/run"]
        started = time.monotonic()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "run.py", *words], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"the measurement failed:\n{done.stderr}")
        wall = time.monotonic() - started
        seconds = json.loads(Path(folder, "run", "results.json").read_text())["stages"]["pretrain"]["seconds"]
    return seconds / MEASURED_STEPS, wall - seconds


def configured_steps(stage: str) -> int:
    """Steps that a stage of the main job is configured to take."""
    from smalldata_vit import config

    steps = config.compose(["method=dino"])[stage].steps
    if steps is None:
        raise ValueError(f"the comparison needs {stage}.steps in the plan of the main job")
    return int(steps)


def multirun(name: str, jobs: int, words: str, counts: Sequence[str]) -> int:
    """One sweep of the command line; returns its exit status."""
    seeds = ",".join(map(str, SEEDS))
    # Seeds change fastest, so that jobs which run at the same time do not wait for one and the same pretraining.
    sweep = [f"dataset.labels_per_class={','.join(counts)}", f"seed={seeds}"]
    command = ["run.py", "-m", *words.split(), *sweep, f"hydra.launcher.jobs={jobs}", f"output_dir={WHERE / name}"]
    print("python", *command, flush=True)
    return supervise([sys.executable, *command])


def steps_of_equal_compute(count: str) -> int:
    """Supervised steps whose FLOPs are those of DINO's pretraining and fine-tuning at this number of labels."""
    spent, rate = [], []
    for arm, result in results(WHERE):
        stages = result["stages"]
        if label_count(stages) != (count if count != "null" else "all"):
            continue
        if arm == "dino":
            spent.append(stages["pretrain"]["flops"] + stages["finetune"]["flops"])
        elif arm == "scratch_equal_steps":
            rate.append(stages["finetune"]["flops"] / stages["finetune"]["steps"])
    return round(statistics.mean(spent) / statistics.mean(rate))


def results(where: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Arm and results.json of every finished job."""
    for file in sorted(where.glob("*/*/results.json")):
        result = json.loads(file.read_text())
        if result["status"] == "finished":
            yield file.parts[-3], result


def label_count(stages: Mapping[str, Any]) -> str:
    """`1` … `10`, or `all`."""
    count = stages["finetune"]["labels_per_class"]
    return "all" if count is None else str(count)


def collect(where: Path) -> Arms:
    """Test accuracy of every seed, by arm and number of labels per class."""
    arms: Arms = {}

    def add(arm: str, count: str, seed: int, value: float) -> None:
        arms.setdefault(arm, {}).setdefault(count, {})[str(seed)] = value

    for arm, result in results(where):
        stages, seed = result["stages"], result["seed"]
        count = label_count(stages)
        named = "scratch_equal_compute" if arm.startswith("scratch_equal_compute") else arm
        add("dino_finetuned" if named == "dino" else named, count, seed, stages["finetune"]["metrics"]["test/accuracy"])
        if named == "dino":
            add("dino_probe", count, seed, stages["pretrain"]["metrics"][f"test/linear_accuracy@{count}"])
            add("untrained_probe", count, seed, stages["pretrain"]["untrained"][f"test/linear_accuracy@{count}"])
            add("pixels", count, seed, result["baselines"]["pixels"][f"test/accuracy@{count}"])
    return arms


if __name__ == "__main__":
    sys.exit(main())
