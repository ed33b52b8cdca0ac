"""`report.html` of one output folder: what came out, how it went, what the network saw, and where it is wrong."""

import csv
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from smalldata_vit.atomic import replaced
from smalldata_vit.reports import answers, beheld, judged, page, tables, training_plots
from smalldata_vit.reports.curves import curves_of
from smalldata_vit.reports.made_with import hand_offs, made_with
from smalldata_vit.reports.records import Run, described, powers, read_run
from smalldata_vit.results import read_json

REPORT = "report.html"


def write_run_report(folder: Path) -> Path:
    """Write report.html, table.md and table.csv into an output folder; returns the page's path.

    ValueError: the folder holds no run.
    """
    run = read_run(folder)
    put(folder / REPORT, whole_page(run))
    put(folder / "table.md", tables.markdown(run.results))
    put(folder / "table.csv", as_csv(tables.comparison(run.results)))
    return folder / REPORT


def put(file: Path, text: str) -> None:
    """Replace a text file."""
    with replaced(file) as opened:
        opened.write(text.encode("utf-8", "backslashreplace"))


def as_csv(found: tables.Comparison) -> str:
    """A row a name, a column a number of labels; fractions as results.json has them, nothing where nothing ran."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *found.columns])
    writer.writerows([name, *(numbers.get(column) for column in found.columns)] for name, numbers in found.rows)
    return text.getvalue()


def whole_page(run: Run) -> str:
    """The page as text."""
    found = tables.comparison(run.results)
    sections = {"Result": result(run, found), "Training": "", "What the network saw": "", "Mistakes": ""}
    sections |= {"Calibration": "", "Attention": beheld.attention(run.folder), "Schedules": "", "Speed": ""}
    for stage, outcome in run.stages.items():
        for name, body in of_stage(run, stage, outcome).items():
            sections[name] += titled(run, stage, body, name == "Training")
    sections |= {"Hand-off": hand_offs(run), "Made with": made_with(run)}
    return page.page(title(run), above(run), answers.answer(run), facts(run), sections)


def title(run: Run) -> str:
    """Of the browser's tab."""
    return f"{run.results.get('name', run.folder.name)} · seed {run.seed}"


def above(run: Run) -> str:
    """The line above the answer: which run, and how it ended."""
    kind = "good" if run.status == "finished" else "bad"
    return (
        f'<div class="over"><b>{escape(str(run.results.get("name", run.folder.name)))}</b>'
        f"<span>seed {run.seed}</span><span>{escape(str(run.folder))}</span>"
        f'<span class="state {kind}">{escape(run.status)}</span></div>'
    )


def facts(run: Run) -> str:
    """What was trained on what, and what it cost."""
    last = run.last
    config = config_of(run)
    said = [
        ("dataset", str(config.get("dataset", {}).get("name", ""))),
        ("network", network(config.get("arch", {}))),
        ("training images", f"{last['train_images']:,}" if "train_images" in last else ""),
        ("stages", " → ".join(run.stages)),
        ("training time", described(run.total("seconds"))),
        ("training cost", powers(run.total("flops")) + "FLOP"),
        ("device", f"{last.get('devices', 1)} × {last['device']}, {last.get('precision')}" if "device" in last else ""),
    ]
    return page.facts(said)


def network(arch: Mapping[str, Any]) -> str:
    """The class or name of a network with its size."""
    kind = str(arch.get("name") or str(arch.get("_target_", "")).rpartition(".")[2])
    sizes = [f"{key.replace('_', ' ')} {arch[key]}" for key in ("depth", "width", "heads", "patch_size") if key in arch]
    return ", ".join([kind, *sizes])


def config_of(run: Run) -> Mapping[str, Any]:
    """The resolved config of the last stage that has one."""
    written = [run.stage_folder(stage) for stage in run.stages]
    there = [folder for folder in written if (folder / "config.yaml").exists()]
    return config_of_stage(there[-1]) if there else {}


def result(run: Run, found: tables.Comparison) -> str:
    """The table of the command line, and what a reader must not overlook."""
    warnings = [(name, text) for name, stage in run.stages.items() for text in stage.get("warnings", ())]
    parts = [page.paragraph(remark, "remark") for remark in found.remarks]
    parts += [page.paragraph(f"{name}: {text}", "warning") for name, text in warnings]
    if found.rows:
        cells = [[name, *map(dashed, tables.cells(found, numbers))] for name, numbers in found.rows]
        parts.insert(0, page.table(["test accuracy in %, by labelled images per class", *found.columns], cells))
    return "".join(parts)


def dashed(cell: str) -> str:
    """A cell of the page, where an empty one is not so loud."""
    return "–" if cell == tables.MISSING else cell


def of_stage(run: Run, stage: str, outcome: Mapping[str, Any]) -> dict[str, str]:
    """The parts of the page that a stage fills, by section."""
    folder = run.stage_folder(stage)
    numbers = training_plots.Numbers(curves_of(folder))
    config, record = config_of_stage(folder), record_of(folder)
    learning, alive = training_plots.learning(numbers), training_plots.collapse(numbers)
    set_to = training_plots.settings_over_time(numbers, config, int(outcome.get("steps") or 0))
    speed, rest = training_plots.pace(numbers), training_plots.others(numbers)
    matrix = outcome.get("evaluators", {}).get("accuracy", {}).get("confusion", [])
    names, arrays = judged.class_names(record, len(matrix)), judged.read_predictions(folder)
    return {
        "Training": page.panels([*learning, *alive, *rest]),
        "What the network saw": beheld.views(folder),
        "Mistakes": judged.confusion(matrix, names) + judged.mistakes(arrays, names),
        "Calibration": judged.calibration(arrays),
        "Schedules": page.panels(set_to),
        "Speed": page.panels(speed),
    }


def config_of_stage(folder: Path) -> Mapping[str, Any]:
    """A stage's resolved config, empty if it left none."""
    import yaml  # type: ignore[import-untyped]

    file = folder / "config.yaml"
    # libyaml reads ten times faster; not every build of PyYAML has it.
    safe = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    return safe(file.read_text()).get_single_data() if file.exists() else {}


def record_of(folder: Path) -> Mapping[str, Any]:
    """What a stage wrote down of its data."""
    file = folder / "data.json"
    return read_json(file) if file.exists() else {}


def titled(run: Run, stage: str, body: str, at_length: bool) -> str:
    """A part below its stage's name, at length with what it took."""
    if not body:
        return ""
    outcome = run.stages[stage]
    told = f"{outcome['steps']:,} steps in {described(outcome['seconds'])}" if outcome.get("steps") else ""
    told = told if at_length else ""
    return f"<h3>{escape(stage)}<small>{escape(told)}</small></h3>{body}"
