"""What pretraining is worth on the main job: runs the arms through the command line's own multirun, then tells.

`python -m smalldata_vit.reports.compare` (or `make compare`). Arms: DINO, judged by a linear probe and fine-tuned;
training from scratch with as many supervised steps; training from scratch with as many FLOPs. Typed again, it goes on
where it stopped. Words of run.py hold for all jobs: `--seeds 0,1 --labels 1,10 pretrain.steps=100 finetune.steps=20`.
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

from smalldata_vit import config
from smalldata_vit.reports import comparison_picture
from smalldata_vit.reports.compare_asked import COMPUTED, Asked, configured_steps, read
from smalldata_vit.reports.comparison import NAMES, Arms, beside_the_arms, markdown, remarks
from smalldata_vit.reports.records import Run, find_runs
from smalldata_vit.reports.sweep_page import write_report
from smalldata_vit.signals import supervise
from smalldata_vit.words import parts

MEASURED_STEPS = 60
SUPERVISED_STEP = 0.8
"""A supervised step's cost in pretraining steps, the mean over the numbers of labels (by their FLOPs); for the plan."""
SCRIPT = config.CONF.parent / "run.py"


def main(words: Sequence[str] | None = None) -> int:
    """Plan, run, table, picture; returns the exit status."""
    console = Console()
    started = time.monotonic()
    jobs = max(1, min(len(os.sched_getaffinity(0)), 4))
    try:
        asked = read(words)
        console.print(plan(asked, jobs), highlight=False, soft_wrap=True, markup=False)
    except (config.ConfigError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    status = run_arms(asked, jobs)
    if status != 0:
        console.print("Not all jobs finished; the same command goes on from here.")
        return status
    for line in tell(asked.out):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    minutes = (time.monotonic() - started) / 60
    console.print(f"{minutes:.1f} minutes; table, numbers, picture and report are in {asked.out}", soft_wrap=True)
    return 0


def run_arms(asked: Asked, jobs: int) -> int:
    """The sweeps of all arms, until one fails; returns its exit status. The last one's steps follow from the others."""
    for name, method in (("dino", "dino"), ("scratch_equal_steps", "supervised")):
        if status := multirun(asked, name, jobs, [f"method={method}", *asked.words], asked.counts):
            return status
    for count in asked.equal_compute:
        steps = steps_of_equal_compute(asked.out, count)
        words = ["method=supervised", *asked.words_of_equal_compute, f"{COMPUTED}={steps}"]
        if status := multirun(asked, f"scratch_equal_compute_{typed(count)}", jobs, words, [count]):
            return status
    return 0


def tell(where: Path) -> list[str]:
    """Write table, numbers, picture and report of the finished jobs below a folder; returns what is to be printed."""
    arms = collect(where)
    table, said = markdown(arms), remarks(arms)
    (where / "comparison.md").write_text(table + "\n" + "\n".join(said) + "\n")
    (where / "comparison.json").write_text(json.dumps(arms, indent=2) + "\n")
    comparison_picture.draw(arms, where / "comparison.png")
    write_compare_report(where)
    return [table, *said]


def write_compare_report(where: Path, into: Path | None = None) -> Path:
    """Write report.html of the jobs below a folder by arms, there or into another; returns its path."""
    more = {"Probes and pixels": beside_the_arms(collect(where))}
    return write_report(find_runs(where), into or where, NAMES["scratch_equal_steps"], "test/accuracy", arm_of, more)


def arm_of(run: Run) -> str:
    """Which arm a job belongs to, in words: that of equal FLOPs takes other steps for every number of labels."""
    sweep = run.folder.parent.name
    named = {"dino": "dino_finetuned"}.get(sweep, sweep)
    return NAMES["scratch_equal_compute" if sweep.startswith("scratch_equal_compute") else named]


def plan(asked: Asked, jobs: int) -> str:
    """What will run and about how long it takes, from a short measurement on this machine."""
    per_step, overhead = measure(asked.words)
    pretraining, finetuning = (configured_steps(stage, asked.words) for stage in ("pretrain", "finetune"))
    seeds, every, some = len(asked.seeds), len(asked.counts), len(asked.equal_compute)
    supervised = finetuning * per_step * SUPERVISED_STEP
    runs = {
        "DINO pretraining": (seeds, pretraining * per_step + overhead),
        "fine-tuning of it": (seeds * every, supervised + 2 * overhead),
        "from scratch, equal supervised steps": (seeds * every, supervised + overhead),
        "from scratch, equal FLOPs": (seeds * some, pretraining * per_step + overhead),
    }
    lines = [f"  {n:2d} x {name}: about {seconds:.0f} s each" for name, (n, seconds) in runs.items()]
    total = sum(n * seconds for n, seconds in runs.values()) / jobs
    count = sum(n for n, _ in runs.values())
    head = f"{count} runs, {jobs} at a time, about {total / 60:.0f} minutes when nothing is done yet:"
    return "\n".join([head, *lines, f"Everything goes to {asked.out}; what is finished there is not run again."])


def measure(typed_words: Sequence[str]) -> tuple[float, float]:
    """Seconds of one pretraining step on one core, and of everything around a stage; RuntimeError if it fails."""
    kept = [word for word in typed_words if parts(word)[1] not in ("pretrain.steps", "store")]
    steps = min(MEASURED_STEPS, configured_steps("pretrain", typed_words))
    with tempfile.TemporaryDirectory() as folder:
        words = ["method=dino", *kept, "stages=[pretrain]", f"pretrain.steps={steps}", "store=null"]
        command = [sys.executable, str(SCRIPT), *words, f"output_dir={config.quoted(folder + '/run')}"]
        started = time.monotonic()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"the measurement failed:\n{done.stderr}")
        wall = time.monotonic() - started
        seconds = json.loads(Path(folder, "run", "results.json").read_text())["stages"]["pretrain"]["seconds"]
    return seconds / steps, wall - seconds


def typed(count: str) -> str:
    """A number of labels as run.py takes it."""
    return "null" if count == "all" else count


def multirun(asked: Asked, name: str, jobs: int, words: Sequence[str], counts: Sequence[str]) -> int:
    """One sweep of the command line; returns its exit status."""
    # Seeds change fastest, so that jobs which run at the same time do not wait for one and the same pretraining.
    sweep = [f"dataset.labels_per_class={','.join(map(typed, counts))}", f"seed={','.join(map(str, asked.seeds))}"]
    place = [f"hydra.launcher.jobs={jobs}", f"output_dir={config.quoted(str(asked.out / name))}"]
    command = [str(SCRIPT), "-m", *words, *sweep, *place]
    print("python", *command, flush=True)
    return supervise([sys.executable, *command])


def steps_of_equal_compute(where: Path, count: str) -> int:
    """Supervised steps whose FLOPs are those of DINO's pretraining and fine-tuning at this number of labels."""
    spent, rate = [], []
    for arm, result in results(where):
        stages = result["stages"]
        if label_count(stages) != count:
            continue
        if arm == "dino":
            spent.append(stages["pretrain"]["flops"] + stages["finetune"]["flops"])
        elif arm == "scratch_equal_steps":
            rate.append(stages["finetune"]["flops"] / stages["finetune"]["steps"])
    return round(statistics.mean(spent) / statistics.mean(rate))


def results(where: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Sweep and results.json of every finished job."""
    return ((run.folder.parent.name, run.results) for run in find_runs(where) if run.status == "finished")


def label_count(stages: Mapping[str, Any]) -> str:
    """`1` … `10`, or `all`."""
    count = stages["finetune"]["labels_per_class"]
    return "all" if count is None else str(count)


def collect(where: Path) -> Arms:
    """Test accuracy of every seed, by arm and number of labels per class."""
    arms: Arms = {}

    def add(arm: str, numbers: Mapping[str, float], name: str) -> None:
        if name in numbers:  # words may have chosen other evaluators
            arms.setdefault(arm, {}).setdefault(count, {})[str(result["seed"])] = numbers[name]

    for arm, result in results(where):
        stages = result["stages"]
        count = label_count(stages)
        named = "scratch_equal_compute" if arm.startswith("scratch_equal_compute") else arm
        add("dino_finetuned" if named == "dino" else named, stages["finetune"]["metrics"], "test/accuracy")
        if named == "dino":
            add("dino_probe", stages["pretrain"]["metrics"], f"test/linear_accuracy@{count}")
            add("untrained_probe", stages["pretrain"].get("untrained", {}), f"test/linear_accuracy@{count}")
            add("pixels", result["baselines"].get("pixels", {}), f"test/accuracy@{count}")
    return arms


if __name__ == "__main__":
    sys.exit(main())
