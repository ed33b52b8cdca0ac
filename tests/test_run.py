"""The command itself: help, exit statuses, messages, and how soon they come."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """The ended process and the seconds of CPU time it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"} | environment,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_short_quick_and_names_every_option() -> None:
    done, seconds = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert seconds < 1.5
    lines = done.stdout.splitlines()
    assert len(lines) < 30
    for group in ("dataset", "arch", "method", "guidance", "views", "evaluator", "optimization", "trainer", "logger"):
        [line] = [line for line in lines if line.strip().startswith(f"{group}=")]
        assert all(file.stem in line for file in (ROOT / "conf" / group).glob("*.yaml"))
    assert sum(line.strip().startswith("python run.py ") for line in lines) == 5


@pytest.mark.parametrize("word", ["pretrain.epoch=3", "dataset=cifr10", "pretrain.epochs=abc", "--nonsense=1"])
def test_keys_and_options_are_refused_at_once_in_one_message(word: str) -> None:
    done, seconds = run(word)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") or "unrecognized arguments" in done.stderr
    assert "Traceback" not in done.stderr
    assert seconds < 1.5


def test_arguments_of_targets_are_refused_without_importing_what_they_belong_to() -> None:
    words = ["method.student_temperature=hot", "trainer.lightning.benchmark=maybe", "optimization.optimizer.betas=1"]
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import run\n"
        f"status = run.main({words!r})\n"
        "print(status, *sorted({'torch', 'timm', 'lightning', 'torchvision', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2"], done.stdout + done.stderr
    for said in ("student_temperature='hot'", "lightning.benchmark='maybe'", "optimizer.betas=1"):
        assert said in done.stderr


def test_the_stack_trace_is_for_those_who_ask() -> None:
    done, _ = run("sed=1", HYDRA_FULL_ERROR="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_the_composed_config_can_be_shown_with_what_stages_inherit() -> None:
    done, _ = run("--cfg", "job", "--resolve", "-p", "pretrain.arch", "arch.depth=2")
    assert done.returncode == 0, done.stderr
    assert {"depth: 2", "image_size: 8"} <= set(done.stdout.splitlines())


def test_hydras_own_questions_are_answered() -> None:
    done, _ = run("--info", "defaults", "pretrain.views=multicrop")
    assert done.returncode == 0, done.stderr
    assert "views/multicrop" in done.stdout


def test_a_sweep_over_something_wrong_runs_nothing(tmp_path: Path) -> None:
    done, _ = run("-m", "seed=0,1", "pretrain.epoch=1,2", f"output_dir={tmp_path / 'sweep'}")
    assert done.returncode == 2
    assert "job 0" in done.stderr
    assert "Did you mean pretrain.epochs?" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "sweep").glob("*/")) == []
