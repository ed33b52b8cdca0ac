"""The command: compose and check one experiment, then run its stages. `python run.py --help` says how."""

import atexit
import os
import sys
from collections.abc import Sequence

from smalldata_vit import config

EXAMPLES = """\
  python run.py                                             the main job: pretrain, fine-tune and judge on digits
  python run.py dataset=cifar10 arch=vit_gani trainer=gpu   the published recipe on one GPU
  python run.py dataset=folder dataset.root=photos pretrain.epochs=50 finetune.optimization.lr=3e-4
  python run.py method=supervised dataset.labels_per_class=5 output_dir=outputs/scratch
  python run.py -m seed=0,1,2 method=dino,supervised hydra.launcher.jobs=2"""


def main(words: Sequence[str]) -> int:
    """Do what the words ask for; returns the exit status."""
    if {"-h", "--help"} & set(words):
        print(help_text())
        return 0
    try:
        if any(word.partition("=")[0] == "--explain" for word in words):
            from smalldata_vit.explain.command import explain

            return explain(words)
        if {"-sc", "--shell-completion"} & set(words):
            from smalldata_vit.completion.command import shell_completion

            return shell_completion(words)
        if "--dry-run" in words:
            return dry(words)
        if any(word.startswith("-") for word in words):
            from smalldata_vit.hydra_commands import run_hydra

            return run_hydra(words)
        cfg = config.compose(words)
        config.check(cfg)
    except config.ConfigError as error:
        return refuse(error)
    from smalldata_vit import stages

    try:
        return stages.run(cfg, list(words))
    except Exception as error:
        return refuse(error, status=1)


def dry(words: Sequence[str]) -> int:
    """What the words would do; errors are those that the command itself would end with."""
    from smalldata_vit.dry_run.command import dry_run

    try:
        return dry_run(words)
    except config.ConfigError:
        raise
    except Exception as error:
        return refuse(error, status=1)


def refuse(error: Exception, status: int = 2) -> int:
    """One readable message; the stack trace is for those who ask for it."""
    if os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0"):
        raise error
    kind = "" if isinstance(error, config.ConfigError) else f"{type(error).__name__}: "
    print(f"error: {kind}{error}", file=sys.stderr)
    return status


def help_text() -> str:
    """Groups with their options, what else can be set, and examples."""
    groups = (
        "dataset",
        "arch",
        "method",
        "guidance",
        "views",
        "evaluator",
        "optimization",
        "trainer",
        "logger",
        "experiment",
        "flavour",
    )
    lines = [f"  {group + '=':14}{', '.join(shown(group)) or '(none yet)'}" for group in groups]
    return "\n".join(
        (
            "Usage: python run.py [-m] [--dry-run | --explain [key]] [group=option | key=value]...\n",
            "Groups and their options (a stage may have its own: pretrain.dataset=flowers102):",
            *lines,
            "\nKeys: seed= stages=[pretrain,finetune] output_dir= name= tags=[…] debug=true (two steps a stage);",
            "of each stage: pretrain.epochs= finetune.batch_size= finetune.optimization.lr= …; --cfg job shows all.",
            "-m runs every combination of values with commas, each in a process of its own.",
            "--dry-run says what would be done, and about how long it takes, and does nothing.",
            "--explain shows what is used and where it comes from; with a key, all that a value beat.",
            'eval "$(python run.py -sc install=bash)" completes options and keys in this shell.',
            f"\nExamples:\n{EXAMPLES}",
        )
    )


def shown(group: str) -> list[str]:
    """A group's options; of those in folders the folders, and how many each has."""
    names = config.options(group)
    folders = [name.partition("/")[0] for name in names if "/" in name]
    counted = [f"{folder}/<name> ({folders.count(folder)})" for folder in dict.fromkeys(folders)]
    return [*[name for name in names if "/" not in name], *counted]


def leave(ended: Sequence[int]) -> None:
    """End the process now if its work has; with torch loaded Python would free objects one by one for a second."""
    if ended:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            return  # a closed pipe: the ordinary end says it
        os._exit(ended[0])


if __name__ == "__main__":
    statuses: list[int] = []
    atexit.register(leave, statuses)  # the first to be registered is the last to be called
    statuses.append(main(sys.argv[1:]))
    sys.exit(statuses[0])
