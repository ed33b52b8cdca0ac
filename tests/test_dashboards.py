"""The views at W&B and the report page, built without a network."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smalldata_vit import wandb_facts
from smalldata_vit.dashboards import __main__ as dashboards
from smalldata_vit.dashboards import panels, published, views
from smalldata_vit.dashboards.published import Published, Run

pytest.importorskip("wandb_workspaces", reason="needs pip install smalldata-vit[dashboards]")
from smalldata_vit.dashboards import drawing, saving

ROOT = Path(__file__).parent.parent
NAMING = ("methods", "parts", "evaluators", "optimization.py", "tally.py", "learner.py", "guided_time.py",
          "wandb_facts.py", "wandb_media.py", "wandb_process.py")  # fmt: skip
"""Where numbers and pictures get their names."""


@pytest.fixture(scope="module")
def names() -> list[re.Pattern[str]]:
    """Every text in the code that names numbers, as a pattern; what it computes in between is free."""
    files = [file for place in NAMING for file in sorted((ROOT / "src/smalldata_vit" / place).rglob("*.py"))]
    files += [ROOT / "src/smalldata_vit" / place for place in NAMING if place.endswith(".py")]
    return [pattern for file in files for pattern in texts(ast.parse(file.read_text()))]


def texts(tree: ast.AST) -> Iterator[re.Pattern[str]]:
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            # What is computed in a name is a number or a word; a text that says no more than `train/` names nothing.
            if len(re.sub(r"\w+/", "", "".join(part or "" for part in parts))) >= 4:
                yield re.compile("".join(r"[a-z0-9]+" if part is None else re.escape(part) for part in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield re.compile(re.escape(node.value))


def is_named(key: str, names: list[re.Pattern[str]]) -> bool:
    """Whether the code has a text for a key, with or without its first part (`train/`)."""
    own = {key, key.removeprefix("untrained/").split("/", 1)[-1]}
    return any(pattern.fullmatch(word) for pattern in names for word in own)


@pytest.mark.parametrize("view", views.ALL, ids=lambda view: view.name)
def test_every_number_of_a_view_has_its_name_in_the_code(view: panels.View, names: list[re.Pattern[str]]) -> None:
    drawn = panels.history(view) | panels.finals(view) | panels.media(view)
    of_wandb = {key for key in drawn if key.startswith("system/")}
    costs = {f"cost/{kind}{name}" for kind in ("", "total_") for name in wandb_facts.COSTS}
    assert [key for key in sorted(drawn - of_wandb - costs) if not is_named(key, names)] == []


@pytest.mark.parametrize("key", ["train/centre_shift", "val/acuracy", "cost/euros", "train/cross_entropy_of_what"])
def test_a_number_that_no_run_logs_would_be_found(key: str, names: list[re.Pattern[str]]) -> None:
    assert not is_named(key, names)


@pytest.mark.parametrize("view", views.ALL, ids=lambda view: view.name)
def test_a_view_can_be_built_and_read_back(view: panels.View) -> None:
    built = drawing.workspace(view, "e", "p")
    model = built._to_model()
    bank = model.spec.section.panel_bank_config.sections
    assert [section.name for section in bank] == [section.name for section in view.sections]
    assert [len(section.panels) for section in bank] == [len(section.panels) for section in view.sections]
    text = model.spec.model_dump_json(by_alias=True, exclude_none=True)
    assert all(f'{key}"' in text for key in panels.history(view) | panels.finals(view) | panels.media(view))
    assert type(built)._from_model(model).name == view.name


def test_runs_of_a_view_are_chosen_and_grouped_without_a_click() -> None:
    [runs] = drawing.workspace(views.COMPARISON, "e", "p")._to_model().spec.section.run_sets
    said = [(one["key"]["name"], one["op"], one["value"]) for one in runs.filters["filters"]]
    assert said == [("stage", "IN", ["finetune", "finetune_448"]), ("state", "=", "finished")]
    assert [(key.section, key.name) for key in runs.grouping] == [
        ("config", "method.value"),
        ("config", "dataset.value"),
    ]


def test_runs_that_nothing_guides_are_not_in_the_view_of_guidance() -> None:
    [runs] = drawing.workspace(views.GUIDANCE, "e", "p")._to_model().spec.section.run_sets
    assert ("guidance", "!=", "none") in [
        (one["key"]["name"], one["op"], one["value"]) for one in runs.filters["filters"]
    ]


def test_lines_of_a_group_are_a_mean_with_its_spread_over_our_own_step() -> None:
    config = drawing.panel(panels.Lines("t", ["val/accuracy"]), 0)._to_model().config
    assert (config.x_axis, config.group_agg, config.group_area) == ("step", "mean", "stddev")


def test_panels_of_a_section_do_not_cover_each_other() -> None:
    placed = [drawing.panel(panels.Lines("t", ["train/loss"]), number).layout for number in range(7)]
    assert len({(one.x, one.y) for one in placed}) == 7


def test_views_keep_their_names_so_that_a_second_call_replaces_the_first() -> None:
    found = [drawing.workspace(view, "e", "p")._internal_name for view in views.ALL]
    assert found == [drawing.workspace(view, "e", "p")._internal_name for view in views.ALL]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"nw-[0-9a-f]{11}-v", name) for name in found)


def test_a_view_that_is_there_is_replaced_and_another_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    there = drawing.internal_name(views.SPEEDS.name).removeprefix("nw-").removesuffix("-v")

    def found(entity: str, project: str, name: str) -> dict[str, str]:
        if name != there:
            raise ValueError(f"Workspace `{name}` not found")
        return {"id": "known"}

    sent: list[Any] = []

    def upsert(view: Any) -> dict[str, Any]:
        sent.append(view)
        return {"upsertView": {"view": {"name": view.name, "id": view.id or "made"}}}

    monkeypatch.setattr(saving.internal, "get_view_dict", found)
    monkeypatch.setattr(saving.internal, "upsert_view2", upsert)
    workspace = type(drawing.workspace(views.SPEEDS, "e", "p"))
    monkeypatch.setattr(workspace, "url", property(lambda view: f"https://wandb.example/{view._internal_id}"))
    addresses = [saving.save_view(drawing.workspace(view, "e", "p")) for view in (views.SPEEDS, views.GUIDANCE)]
    assert [one.id for one in sent] == ["known", ""]
    assert addresses == ["https://wandb.example/known", "https://wandb.example/made"]


def test_a_report_that_is_there_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    page = SimpleNamespace(entity="e", project="p", title=drawing.TITLE, id="", url="u")
    page.save = lambda: page
    others = [SimpleNamespace(display_name="another", id="1"), SimpleNamespace(display_name=drawing.TITLE, id="2")]
    assert saving.save_report(SimpleNamespace(reports=lambda path: others), page) == "u"
    assert page.id == "2"


def test_the_report_has_the_table_and_the_comparison() -> None:
    built = drawing.report("| a |\n| --- |", views.ALL, "", "")
    kinds = [type(block).__name__ for block in built.blocks]
    assert kinds == ["P", "MarkdownBlock", "H2", "PanelGrid"]
    grid = built.blocks[-1]._to_model().metadata
    assert [len(grid.run_sets), len(grid.panel_bank_section_config.panels)] == [1, 6]


def run(flavour: str, accuracy: float, **more: Any) -> Run:
    config = {"experiment": "gani/vit_cifar10", "dataset": "cifar10", "stage": "finetune", "flavour": flavour}
    return Run({**config, **more}, {"test/accuracy": accuracy})


def test_ours_stands_beside_the_published_number_by_flavour_with_spread_and_count() -> None:
    row = Published("gani/vit_cifar10", "cifar10", "finetune", {}, "test/accuracy", 96.41, "a table")
    mine = [run("fixed", 0.9), run("fixed", 0.92), run("faithful", 0.95), run("fixed", 0.5, stage="finetune_448")]
    last = published.table([row], mine).splitlines()[-1]
    assert last == "| gani/vit_cifar10 | cifar10 | 96.41 | 91.00 ± 1.41 (2) | 95.00 (1) | a table |"


def test_a_number_with_settings_of_its_own_is_compared_only_with_runs_that_have_them() -> None:
    row = Published("gani/vit_cifar10", "cifar10", "finetune", {"epochs": "100"}, "test/accuracy", 90, "t")
    assert [published.is_of(run("fixed", 0.5, epochs=epochs), row) for epochs in (100.0, 300)] == [True, False]


def test_every_published_number_belongs_to_an_experiment_and_a_dataset_of_ours() -> None:
    rows = published.read()
    assert len(rows) > 400
    for row in rows:
        assert (ROOT / "conf/experiment" / f"{row.experiment}.yaml").exists(), row
        assert (ROOT / "conf/dataset" / f"{row.dataset}.yaml").exists(), row
        assert 5 < row.percent < 100, row


def test_published_numbers_agree_with_the_notes_of_their_experiments() -> None:
    wrong = []
    for row in published.read():
        note = (ROOT / "conf/experiment" / f"{row.experiment}.yaml").read_text()
        numbers = {float(number) for number in re.findall(r"\d+\.\d+|\d+", note)}
        if row.percent not in numbers:
            wrong.append((row.experiment, row.dataset, row.percent))
    assert wrong == []


def test_a_line_that_is_no_number_is_named(tmp_path: Path) -> None:
    file = tmp_path / "published.csv"
    file.write_text("experiment,dataset,stage,settings,metric,percent,source\na,b,finetune,,test/accuracy,much,t\n")
    with pytest.raises(ValueError, match=r"published\.csv.*much"):
        published.read(file)


def test_without_an_account_one_is_told_to_log_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert dashboards.main(["--entity", "e", "--project", "p"]) == 1
    assert "type `wandb login`, or set WANDB_API_KEY" in capsys.readouterr().err


def test_without_the_extra_one_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from smalldata_vit import dashboards as package

    for name in ("drawing", "saving"):
        monkeypatch.delattr(package, name)
        monkeypatch.setitem(sys.modules, f"smalldata_vit.dashboards.{name}", None)
    assert dashboards.main(["--entity", "e"]) == 1
    assert "pip install smalldata-vit[dashboards]" in capsys.readouterr().err


def test_a_server_that_refuses_is_a_sentence_and_not_a_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(entity: str) -> list[Any]:
        raise ConnectionError("permission denied")

    monkeypatch.setattr(saving, "logged_in", lambda seconds: SimpleNamespace(projects=refuse))
    assert dashboards.main(["--entity", "e", "--project", "p"]) == 1
    assert "W&B did not take the dashboards of e/p (ConnectionError: permission denied)" in capsys.readouterr().err
