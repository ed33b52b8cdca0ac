"""Which way of pretraining is the most stable and the easiest to optimise: one command runs, judges and draws it.

`python -m smalldata_vit.reports.stability` (or `make stability`) pretrains by every method with several seeds and
learning rates, each its plan's times a factor, through the command line's own multirun; typed again, it goes on where
it stopped. It writes stability.md, stability.json (with every curve), stability.png, and every run's results.json into
raw/. Words of run.py behind the options hold for all runs: `--dataset folder dataset.root=FOLDER arch=deit_tiny`.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from smalldata_vit import config
from smalldata_vit.reports import stability_picture
from smalldata_vit.reports.listed import numbers
from smalldata_vit.reports.stability_numbers import Run, markdown, remarks, summary
from smalldata_vit.reports.stability_runs import SETTLED, Planned, collected, outcome_of, run_of, runs_of
from smalldata_vit.results import write_json
from smalldata_vit.signals import supervise

METHODS = "idmm,dino,simclr,mocov2,mocov3,supcon"
UNJUDGED = (
    "no run was judged by k-NN, as the dataset has no validation images; dataset.validation=0.1 takes a share of its "
    "training images for that"
)


@dataclass(frozen=True)
class Asked:
    """What all runs have in common."""

    methods: Sequence[str]
    factors: Sequence[float]
    seeds: Sequence[int]
    words: Sequence[str]
    out: Path
    jobs: int

    def words_of(self, method: str) -> list[str]:
        """What a method's runs are started with, but for seed and learning rate."""
        return [f"method={method}", *self.words]


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, then write table, numbers and picture; returns the exit status."""
    try:
        asked = read(words)
        planned = {method: list(plan(asked, method)) for method in asked.methods}
    except (config.ConfigError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    count = sum(map(len, planned.values()))
    print(f"{count} runs, {asked.jobs} at a time, in {asked.out}; what is settled there is not run again.", flush=True)
    for method, its in planned.items():
        found = collected(asked.out, its)
        if all(outcome_of(found.get(one.hash)) in SETTLED for one in its):
            continue
        status = multirun(asked, method, its)
        if status not in (0, 1):  # 1: some job failed; whether it diverged is seen below
            print("Not all runs were made; the same command goes on from here.", file=sys.stderr)
            return status
    return tell(asked, planned)


def read(words: Sequence[str] | None) -> Asked:
    """The command line; ValueError for lists that hold no numbers."""
    parser = argparse.ArgumentParser(
        prog="python -m smalldata_vit.reports.stability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", default="digits", help="with validation images: they judge (digits)")
    parser.add_argument("--methods", default=METHODS, help=f"of {METHODS}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--lrs", default="0.5,1,2", help="factors on the learning rate of each method's plan (0.5,1,2)")
    parser.add_argument("--steps", type=int, help="of every run; as in the plans when left out")
    parser.add_argument("--every", type=float, default=5.0, help="epochs between two judgements by k-NN (5)")
    parser.add_argument("--out", type=Path, default=Path("outputs/stability"), help="folder (outputs/stability)")
    parser.add_argument("--jobs", type=int, default=max(1, min(os.cpu_count() or 1, 4)), help="runs at a time")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="words of run.py, for all runs")
    given = parser.parse_intermixed_args(words)
    shared = [f"dataset={given.dataset}", "stages=[pretrain]", "pretrain.evaluator=[knn]"]
    shared += ["pretrain.judge_untrained=true", "pretrain.pixel_baseline=false"]
    shared += [f"pretrain.evaluate_every_epochs={given.every:g}"]
    shared += [] if given.steps is None else [f"pretrain.steps={given.steps}"]
    factors, seeds = numbers("--lrs", given.lrs, float), numbers("--seeds", given.seeds, int)
    if min(factors) <= 0:
        raise ValueError(f"--lrs {given.lrs}: a factor on a learning rate is more than 0")
    methods = list(dict.fromkeys(given.methods.split(",")))
    return Asked(methods, factors, seeds, [*shared, *given.words], given.out, given.jobs)


def plan(asked: Asked, method: str) -> Iterator[Planned]:
    """A method's runs, seeds fastest; ConfigError if one of them cannot be right."""
    cfg = config.compose(asked.words_of(method))
    config.check(cfg)
    base = float(cfg.pretrain.optimization.lr)
    for factor in asked.factors:
        for seed in asked.seeds:
            own = [f"pretrain.optimization.lr={base * factor!r}", f"seed={seed}"]
            known = config.experiment_hash(config.compose([*asked.words_of(method), *own]))
            yield Planned(method, factor, seed, base * factor, known)


def multirun(asked: Asked, method: str, planned: Sequence[Planned]) -> int:
    """One sweep of the command line over a method's learning rates and seeds; returns its exit status."""
    lrs = ",".join(repr(lr) for lr in dict.fromkeys(one.lr for one in planned))
    sweep = [f"pretrain.optimization.lr={lrs}", f"seed={','.join(map(str, asked.seeds))}"]
    place = [f"hydra.launcher.jobs={asked.jobs}", f"output_dir={config.quoted(str(runs_of(asked.out, method)))}"]
    command = [str(config.CONF.parent / "run.py"), "-m", *asked.words_of(method), *sweep, *place]
    print("python", *command, flush=True)
    return supervise([sys.executable, *command])


def tell(asked: Asked, planned: Mapping[str, Sequence[Planned]]) -> int:
    """Write table, numbers, picture and raw results of what is settled; returns 1 where something is not."""
    runs: dict[str, list[Run]] = {}
    open_ends, raw = [], asked.out / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for method, its in planned.items():
        found = collected(asked.out, its)
        for one in its:
            folder, named = found.get(one.hash), f"{method}_lr{one.factor:g}_seed{one.seed}"
            if folder is None or (outcome := outcome_of(folder)) not in SETTLED:
                open_ends.append(f"{named}: {'not started' if folder is None else outcome}")
                continue
            shutil.copyfile(folder / "results.json", raw / f"{named}.json")
            runs.setdefault(method, []).append(run_of(one, folder))
    for sentence in open_ends:
        print(f"error: {sentence}", file=sys.stderr)
    if not runs:
        return 1
    write(asked, runs)
    if not any(run.knn for some in runs.values() for run in some):
        print(f"error: {UNJUDGED}", file=sys.stderr)
        return 1
    return 1 if open_ends else 0


def write(asked: Asked, runs: Mapping[str, Sequence[Run]]) -> None:
    """The files of the report; the table is printed too."""
    table = {method: summary(some) for method, some in runs.items()}
    text = markdown(table) + "\n" + "\n".join(remarks(table)) + "\n"
    (asked.out / "stability.md").write_text(text, encoding="utf-8")
    settings = {"words": asked.words, "seeds": asked.seeds, "factors": asked.factors}
    single = [
        asdict(run) | {"steps_needed": run.steps_needed, "rises": run.rises} for some in runs.values() for run in some
    ]
    write_json(asked.out / "stability.json", {"settings": settings, "methods": table, "runs": single})
    stability_picture.draw(runs, asked.out / "stability.png")
    print(f"{text}Table, numbers and picture are in {asked.out}.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
