"""The process that talks to Weights & Biases, so that nothing that happens to it can reach the training.

Reads a line of JSON at a time: first the run's facts and what is wanted, then `{"log": …}`, at last
`{"finish": exit code, "outcome": …}`. Answers with lines of JSON that say whether the run is online, and what was left
out. A closed input without `finish` means that the training was killed.
"""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

import wandb

from smalldata_vit.schema import GUIDE
from smalldata_vit.wandb_facts import Speed, summary

SECONDS_TO_START = 10.0
SECONDS_AFTER_A_KILL = 20.0


def main(lines: IO[str], answers: IO[str]) -> int:
    """Serve one run; returns the exit status of this process."""
    asked = json.loads(next(lines, "null"))
    if asked is None:
        return 1
    run, state = start(asked["run"], asked["finish_seconds"])
    tell(answers, state)
    run.define_metric("*", step_metric="step")
    speed, code, step = Speed(Path(asked["run"]["dir"]), asked["peak_flops"]), 1, 0
    for line in lines:
        message = json.loads(line)
        if "finish" in message:
            code = int(message["finish"])
            put_outcome(run, asked, message["outcome"], step, answers)
            break
        row = message["log"]
        step = row["step"]
        run.log(row | speed.of(row))
    else:
        threading.Timer(SECONDS_AFTER_A_KILL, leave, args=(1,)).start()
    run.finish(exit_code=code)
    return 0


def put_outcome(
    run: Any, asked: Mapping[str, Any], outcome: Mapping[str, Any], step: int | None, answers: IO[str]
) -> None:
    """The end of a stage: its summary, and of one that finished the pictures and weights that were asked for.

    What cannot be made is told and left out: the numbers are worth more.
    """
    folder, above = Path(asked["run"]["dir"]), asked["output_dir"]
    run.summary.update(summary(outcome, None if above is None else Path(above)))
    if outcome.get("status") != "finished":
        return
    # Offline nothing is uploaded, so that drawing may take that time too.
    to_draw = asked["finish_seconds"] * (2 if run.offline else 1) / 3
    for name, made in wanted(folder, asked, outcome, to_draw):
        try:
            found = made()
            if name == "checkpoint" and found is not None:
                run.log_artifact(found)
            elif found:
                run.log(found | {"step": step})
        except Exception as error:  # whatever a damaged file, Pillow or wandb raises
            tell(answers, {"mode": "left out", "why": f"no {name} ({error})"})


def wanted(
    folder: Path, asked: Mapping[str, Any], outcome: Mapping[str, Any], to_draw: float
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What to make of a finished stage, by name; attention may take so many seconds."""
    from smalldata_vit import wandb_media  # a quarter of a second that no run needs at its start

    names = partial(wandb_media.class_names, folder)
    if asked["media"]:
        yield "views", lambda: wandb_media.views(folder)
        yield "confusion matrix", lambda: wandb_media.confusion(outcome, names())
        yield "mistakes", lambda: wandb_media.mistakes(folder, names())
        images = 0 if asked["run"]["job_type"] == GUIDE else asked["attention_images"]  # a guide has convolutions
        yield "attention", lambda: wandb_media.attention(folder, images, to_draw)
    if asked["checkpoints"]:
        title = f"{asked['run']['group']}-{asked['run']['job_type']}-{asked['run']['id']}"
        yield "checkpoint", lambda: wandb_media.checkpoint(folder, outcome, title)


def start(facts: dict[str, Any], finish_seconds: float) -> tuple[Any, dict[str, str]]:
    """The run, online if that can be had within the time limit, else offline; and what it became, in words."""
    mode = asked = os.environ.get("WANDB_MODE", "online")
    try:
        run = begin(facts, mode, finish_seconds)
    except Exception as error:  # wandb raises its own kinds, OS errors and bare ones; each means: not online
        wandb.teardown()  # its service still holds the run's id
        run = begin(facts, "offline", finish_seconds)
        why = " ".join(str(error).split()) or type(error).__name__
        return run, {"mode": "offline", "why": why, "folder": run.dir}
    mode = "offline" if run.offline else asked
    return run, {"mode": mode, "why": f"WANDB_MODE={asked}", "folder": run.dir, "url": run.url or ""}


def begin(facts: dict[str, Any], mode: str, finish_seconds: float) -> Any:
    """Start a run in a mode; raises what wandb raises."""
    # Half of what the training waits for: the other half is for the start and for pictures.
    settings: dict[str, Any] = {
        "init_timeout": SECONDS_TO_START,
        "finish_timeout": finish_seconds / 2,
        "console": "off",
    }
    # The use of processor and memory is that of the training, not of this process.
    settings["x_stats_pid"] = os.getppid()
    if "WANDB_INIT_TIMEOUT" in os.environ:
        del settings["init_timeout"]
    known = {name: value for name, value in settings.items() if name in wandb.Settings.model_fields}
    how: dict[str, Any] = {"mode": mode, "resume": "allow" if mode == "online" else None}
    return wandb.init(settings=wandb.Settings(**known), **how, **facts)


def tell(answers: IO[str], state: dict[str, str]) -> None:
    """A line for the training, which may have been killed: its rows are worth keeping all the same."""
    with suppress(BrokenPipeError):
        answers.write(json.dumps(state) + "\n")
        answers.flush()


def leave(status: int) -> NoReturn:
    """End this process without wandb's own exit hooks, which wait for its service without a limit.

    They would also empty the temporary folder, whose name is the process's argument: that is done here.
    """
    sys.stderr.flush()
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os._exit(status)


if __name__ == "__main__":
    mine = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what wandb prints goes to its log, not among the answers
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the training is told too, and then ends the run in order
    status = 1
    try:
        status = main(sys.stdin, mine)
    except BaseException as error:
        tell(mine, {"mode": "broken", "why": f"{type(error).__name__}: {error}"})
        raise
    finally:
        leave(status)
