"""`--explain`: that what is shown is what runs, and that its origin is the true one."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_experiments_in_yaml import BEGIN, conf, written  # noqa: F401
from test_run import run

from smalldata_vit import config
from smalldata_vit.explain.command import _Paint, shown
from smalldata_vit.explain.layers import UNEXPLAINED, Explained, explained
from smalldata_vit.explain.trace import Said, Trace, leaves_of
from smalldata_vit.root_values import as_written


def said(found: Explained, key: str) -> Said:
    return found.trace.said[tuple(key.split("."))][-1]


def origins(found: Explained, key: str) -> list[str]:
    """Who says something of a value, the one that holds first."""
    return [one.by for one in reversed(found.trace.said[tuple(key.split("."))])]


def lines(*words: str, key: str | None = None, colour: bool = False) -> list[str]:
    return shown(explained(words), key, _Paint(colour))


WORDS = [
    [],
    ["method=supervised", "dataset=cifar10", "arch=vit_gani", "trainer=gpu"],
    ["method=idmm", "dataset=flowers102", "arch=deit_tiny", "pretrain.views=multicrop"],
    ["guidance=constant", "guide.epochs=3", "image_size=16", "dataset.labels_per_class=2"],
    ["pretrain.dataset=cifar10", "logger=[csv,wandb]", "evaluator=[knn,linear]", "~method.mixing", "method=supervised"],
    ["stages=[finetune,evaluate]", "method=supervised", "finetune.arch.depth=3", "evaluate.dataset.fraction=0.5"],
    ["finetune.start_from.file=a.ckpt", "views.groups.global.crop.scale=[0.5,1]", "views.groups.global.flip=0.5"],
    ["arch=timm", "arch.name=vit_tiny_patch16_224", "finetune.start_from.timm=true", "debug=true"],
    ["method=supervised", "method.mixing={_target_: smalldata_vit.parts.mixing.Mixing, probability: 1.0}"],
    ["optimization.lr=1e-3", "name=x", "tags=[a,b]", "pretrain.epochs=2", "+method.label_smoothing=0.1"],
]
WORDS += [[f"plan={plan}"] for plan in ("supervised_transfer", "simclr_digits")]
WORDS += [[f"experiment={name}"] for name in {n.partition("/")[0]: n for n in config.options("experiment")}.values()]
WORDS += [[f"experiment={n}", "flavour=faithful"] for n in config.options("experiment") if n.startswith("gani/")][:1]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_value_is_the_composed_ones_and_explained(words: list[str]) -> None:
    found = explained(words)
    composed = dict(leaves_of(as_written(config.compose(words))))
    composed = {place: value for place, value in composed.items() if place[0] != "chosen"}
    assert set(found.trace.said) == set(composed)
    stages = {"steps", "evaluate_every_epochs", "timm"}  # as they are used, with debug=true or timm=true
    shown_values = {place: chain[-1].value for place, chain in found.trace.said.items()}
    assert {p for p, value in composed.items() if shown_values[p] != value and p[-1] not in stages} == set()
    assert {p for p, chain in found.trace.said.items() if any(one.by == UNEXPLAINED for one in chain)} == set()


@pytest.mark.parametrize("words", WORDS[2:4], ids=" ".join)
def test_a_value_that_a_file_is_named_for_stands_in_that_file(words: list[str]) -> None:
    for place, chain in explained(words).trace.said.items():
        for one in chain:
            if one.by.startswith("conf/") and ", " not in one.by and one.value != {}:
                content = yaml.safe_load((config.CONF.parent / one.by).read_text())
                keys = {key for path, _ in leaves_of(content) for key in path}
                assert place[-1] in keys or place[-1].isdigit(), (place, one)


def test_a_plan_beats_a_group_and_the_command_line_beats_both() -> None:
    found = explained(["pretrain.method.hidden=8"])
    assert origins(found, "pretrain.method.hidden") == [
        "command line: pretrain.method.hidden=8",
        "conf/plan/dino_digits.yaml",
        "conf/method/dino.yaml",
    ]
    assert [one.value for one in found.trace.said["pretrain", "method", "hidden"]][1:] == [256, 8]


def test_what_is_typed_at_the_root_says_so_in_the_stages_that_inherit_it() -> None:
    found = explained(["arch.depth=2", "finetune.arch.depth=3"])
    assert said(found, "pretrain.arch.depth") == Said(2, "command line: arch.depth=2", "inherited from arch.depth")
    assert said(found, "finetune.arch.depth") == Said(3, "command line: finetune.arch.depth=3")
    assert said(found, "arch.depth") == Said(2, "command line: arch.depth=2")


def test_a_guide_keeps_a_network_of_its_own_and_says_who_brought_it_in() -> None:
    found = explained(["guidance=decay", "arch.depth=2"])
    assert list(found.made.cfg.stages) == ["guide", "pretrain", "finetune"]
    assert said(found, "stages.0").by == "guidance"
    assert origins(found, "guide.arch._target_") == ["conf/arch/resnet20.yaml"]
    assert found.chosen["guide", "arch"].by == "conf/plan/guide_digits.yaml"
    assert found.chosen["finetune", "guidance"].by == "as at the root: command line"


def test_a_judging_stage_has_the_values_of_the_stage_that_it_judges() -> None:
    found = explained(["stages=[finetune,evaluate]", "method=supervised", "finetune.arch.depth=3"])
    assert said(found, "evaluate.arch.depth") == Said(
        3, "command line: finetune.arch.depth=3", "as finetune is trained"
    )
    assert found.chosen["evaluate", "method"].by == "conf/config.yaml"
    assert found.chosen["evaluate", "arch"].by == "as at the root: conf/config.yaml"


def test_a_judging_stage_names_the_past_run_whose_values_it_has(tmp_path: Path) -> None:
    past = config.stage_config(config.compose(["method=supervised", "arch.depth=7", "seed=5"]), "finetune")
    (tmp_path / "finetune").mkdir()
    (tmp_path / "finetune" / "config.yaml").write_text(yaml.safe_dump(past))
    found = explained(["stages=[evaluate]", f"output_dir={tmp_path}"])
    for key, value in (("evaluate.arch.depth", 7), ("seed", 5)):
        assert said(found, key) == Said(value, str(tmp_path / "finetune" / "config.yaml"), "as it was trained")


@pytest.fixture
def flavoured(conf: Path) -> Path:  # noqa: F811
    """An experiment of a system that has two flavours."""
    (conf / "experiment" / "lab").mkdir()
    (conf / "flavour" / "lab").mkdir()
    text = (
        "defaults:\n  - override /views@finetune.views: plain\npretrain: {steps: 7, batch_size: 9}\narch: {depth: 3}\n"
    )
    (conf / "experiment" / "lab" / "x.yaml").write_text(BEGIN + text)
    (conf / "flavour" / "lab" / "fixed.yaml").write_text(BEGIN)
    faithful = "defaults:\n  - override /views@finetune.views: trivial\npretrain: {steps: 8}\n"
    (conf / "flavour" / "lab" / "faithful.yaml").write_text(BEGIN + faithful)
    return conf


def test_a_plan_of_no_stage_is_refused_in_words() -> None:
    with pytest.raises(config.ConfigError, match="plan=guide says of no stage"):
        explained(["plan=guide"])


def test_a_flavour_beats_the_experiment_which_beats_the_plan(flavoured: Path) -> None:
    found = explained(["experiment=lab/x", "flavour=faithful"])
    assert origins(found, "pretrain.steps") == [
        "conf/flavour/lab/faithful.yaml",
        "conf/experiment/lab/x.yaml",
        "conf/plan/dino_digits.yaml",
    ]
    assert found.chosen["finetune", "views"].by == "conf/flavour/lab/faithful.yaml"
    assert said(found, "pretrain.arch.depth").how == "inherited from arch.depth"
    assert said(found, "pretrain.arch.depth").by == "conf/experiment/lab/x.yaml"
    plain = explained(["experiment=lab/x"])
    assert said(plain, "pretrain.steps").by == "conf/experiment/lab/x.yaml"
    assert plain.chosen["finetune", "views"].by == "conf/experiment/lab/x.yaml"


def test_a_value_that_takes_the_place_of_a_subtree_shows_what_it_beat() -> None:
    chain = explained(["method=supervised", "plan=supervised", "method.mixing=null"]).trace.said[
        "finetune", "method", "mixing"
    ]
    assert chain[-1].value is None
    assert any(isinstance(one.value, dict) and "probability" in one.value for one in chain[:-1])


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {("a", "b"): 1, ("a", "c"): 2}),
        ({"a": {"b": 1}}, {"a": None}, {("a",): None}),
        ({"a": None}, {"a": {"b": 1}}, {("a", "b"): 1}),
        ({"a": [1, 2, 3]}, {"a": [4]}, {("a", "0"): 4}),
        ({"a": {"b": 1}}, {"a": {}}, {("a", "b"): 1}),
        ({"a": [{"b": 1}]}, {"a": []}, {("a",): []}),
        ({"a": None}, {"a": {}}, {("a",): {}}),
    ],
)
def test_layers_merge_as_omegaconf_merges_them(above: dict, below: dict, expected: dict) -> None:
    from omegaconf import OmegaConf

    trace = Trace()
    for layer in (above, below):
        trace.lay(layer, "x")
    assert {place: chain[-1].value for place, chain in trace.said.items()} == expected
    assert dict(leaves_of(OmegaConf.to_container(OmegaConf.merge(above, below)))) == expected


def test_a_reference_is_shown_with_its_value_and_followed_to_its_end() -> None:
    text = "\n".join(lines("pretrain.dataset.image_size=12", key="pretrain.arch.image_size"))
    assert "pretrain.arch.image_size = 12 = ${..image_size}" in text
    assert "pretrain.dataset.image_size = 12" in text
    assert "command line: pretrain.dataset.image_size=12" in text


def test_only_what_the_scheduled_stages_use_is_shown() -> None:
    tops = {line.partition(":")[0] for line in lines("stages=[pretrain]") if not line.startswith(" ")}
    settings = {"seed", "name", "tags", "stages", "output_dir", "store", "debug", "trainer", "logger"}
    assert tops == settings | {"(plan)", "pretrain"}


def test_the_two_steps_of_debugging_are_shown_as_they_will_run() -> None:
    found = explained(["debug=true"])
    assert said(found, "pretrain.steps") == Said(2, "command line: debug=true", "debug=true")
    assert said(found, "pretrain.evaluate_every_epochs").value is None


def test_colours_change_nothing_but_the_look() -> None:
    import re

    coloured = lines("arch.depth=2", colour=True)
    assert any("\x1b[33mcommand line" in line for line in coloured)
    assert [re.sub("\x1b\\[[0-9;]*m", "", line) for line in coloured] == lines("arch.depth=2")


def test_the_command_explains_without_torch_and_without_colours_into_a_pipe() -> None:
    done, seconds = run("--explain", "pretrain.optimization", "pretrain.optimization.lr=5e-4")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    [line] = [line for line in done.stdout.splitlines() if line.strip().startswith("lr:")]
    assert line.split() == ["lr:", "0.0005", "command", "line:", "pretrain.optimization.lr=5e-4"]
    assert seconds < 1.5


def test_explaining_imports_nothing_heavy() -> None:
    root = config.CONF.parent
    script = (
        f"import sys; sys.path.insert(0, {str(root)!r}); import run\nrun.main(['--explain', 'seed'])\n"
        "print(sorted({'torch', 'timm', 'lightning', 'torchvision', 'wandb', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--explain", "pretrain.arc"], "Did you mean pretrain.arch?"),
        (["--explain", "-m", "seed=0,1"], "-m: --explain shows one experiment"),
        (["--explain", "pretrain.epoch=3"], "Did you mean pretrain.epochs?"),
        (["--explain=seed", "method.student_temperature=hot"], "student_temperature='hot'"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_words(words: list[str], told: str) -> None:
    done, _ = run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert told in done.stderr


def test_the_folder_of_options_is_the_one_that_is_composed_from(conf: Path) -> None:  # noqa: F811
    words = written(conf, "pretrain: {steps: 11}\n")
    assert said(explained(words), "pretrain.steps") == Said(11, "conf/experiment/x.yaml")
