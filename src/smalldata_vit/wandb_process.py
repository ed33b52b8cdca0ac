"""The process that talks to Weights & Biases, so that nothing that happens to it can reach the training.

Reads a line of JSON at a time: first the run's facts, then `{"log": …}`, at last `{"finish": exit code}`. Answers with
lines of JSON that say whether the run is online. A closed input without `finish` means that the training was killed.
"""

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import IO, Any

import wandb

SECONDS_TO_START = 10.0
SECONDS_TO_FINISH = 40.0
SECONDS_AFTER_A_KILL = 20.0


def main(lines: IO[str], answers: IO[str]) -> int:
    """Serve one run; returns the exit status of this process."""
    facts = json.loads(next(lines, "null"))
    if facts is None:
        return 1
    run, state = start(facts)
    tell(answers, state)
    run.define_metric("*", step_metric="step")
    code = 1
    for line in lines:
        message = json.loads(line)
        if "finish" in message:
            code = int(message["finish"])
            break
        run.log(message["log"])
    else:
        threading.Timer(SECONDS_AFTER_A_KILL, os._exit, args=(1,)).start()
    run.finish(exit_code=code)
    return 0


def start(facts: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """The run, online if that can be had within the time limit, else offline; and what it became, in words."""
    wanted = os.environ.get("WANDB_MODE", "online")
    try:
        run = begin(facts, wanted)
    except Exception as error:  # wandb raises its own kinds, OS errors and bare ones; each means: not online
        wandb.teardown()  # its service still holds the run's id
        run = begin(facts, "offline")
        why = " ".join(str(error).split()) or type(error).__name__
        return run, {"mode": "offline", "why": why, "folder": run.dir}
    mode = "offline" if run.offline else wanted
    return run, {"mode": mode, "why": f"WANDB_MODE={wanted}", "folder": run.dir, "url": run.url or ""}


def begin(facts: dict[str, Any], mode: str) -> Any:
    """Start a run in a mode; raises what wandb raises."""
    settings: dict[str, Any] = {"init_timeout": SECONDS_TO_START, "finish_timeout": SECONDS_TO_FINISH, "console": "off"}
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
        sys.stderr.flush()
        # Without wandb's own exit hooks: they wait for its service without a limit.
        os._exit(status)
