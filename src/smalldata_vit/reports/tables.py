"""The table at the end of a run: what was gained over the untrained network and over raw pixels, from results.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table

Results = Mapping[str, Any]
"""results.json as it was read: JSON has no narrower type."""

SCHEMA = 1
MISSING = "-"


@dataclass(frozen=True)
class Comparison:
    """Accuracies as fractions: a name per row, a number of labels per class (or `all`) per column."""

    title: str
    columns: list[str]
    rows: list[tuple[str, dict[str, float | None]]]
    remarks: list[str]


def comparison(results: Results) -> Comparison:
    """What there is to compare in a results.json; ValueError where its schema is another one."""
    if results.get("schema") != SCHEMA:
        raise ValueError(f"results.json has schema {results.get('schema')!r}; this version reads schema {SCHEMA}")
    stages = results.get("stages", {})
    pretrain = stages.get("pretrain", {})
    trained, untrained = pretrain.get("metrics", {}), pretrain.get("untrained", {})
    rows = [
        ("k-NN, untrained encoder", _only_all(untrained, "test/knn_accuracy")),
        ("k-NN, pretrained encoder", _only_all(trained, "test/knn_accuracy")),
        ("linear probe, untrained encoder", _by_count(untrained, "test/linear_accuracy@")),
        ("linear probe, pretrained encoder", _by_count(trained, "test/linear_accuracy@")),
    ]
    for stage, found in stages.items():
        if stage != "pretrain":
            rows += _judged_network(stage, found, "pretrain" in stages)
    pixels = _by_count(results.get("baselines", {}).get("pixels", {}), "test/accuracy@")
    rows.append(("SVM on raw pixels", pixels))
    rows = [(name, numbers) for name, numbers in rows if numbers]
    counts = {count for _, numbers in rows for count in numbers}
    columns = sorted(counts, key=lambda count: float("inf") if count == "all" else int(count))
    title = f"{results.get('name') or 'this run'}: test accuracy in %, by labelled images per class"
    if results.get("status") not in (None, "finished"):
        title += f" (status: {results['status']})"
    return Comparison(title, columns, rows, _remarks(stages, pixels))


def show(results: Results, console: Console) -> None:
    """Print the table: with lines on a terminal, else as aligned plain text that no width cuts off."""
    found = comparison(results)
    console.print(found.title, highlight=False, markup=False, soft_wrap=True)
    if console.is_terminal:
        console.print(_lined(found))
    else:
        console.print(_plain(found), highlight=False, markup=False, soft_wrap=True)
    for remark in found.remarks:
        console.print(remark, highlight=False, markup=False, soft_wrap=True)


def markdown(results: Results) -> str:
    """The same as a Markdown table, for a README."""
    found = comparison(results)
    lines = [f"{found.title}", "", "| | " + " | ".join(found.columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(found.columns))
    lines += [f"| {name} | " + " | ".join(cells(found, numbers)) + " |" for name, numbers in found.rows]
    return "\n".join([*lines, *(f"\n{remark}" for remark in found.remarks)]) + "\n"


def _lined(found: Comparison) -> Table:
    table = Table(box=ROUNDED)
    table.add_column("", no_wrap=True)
    for column in found.columns:
        table.add_column(column, justify="right", no_wrap=True)
    for name, numbers in found.rows:
        table.add_row(name, *cells(found, numbers))
    return table


def _plain(found: Comparison) -> str:
    """A line per row; logs and pipes have no width, and rich would shorten numbers to fit the one it assumes."""
    widest = max((len(name) for name, _ in found.rows), default=0)
    lines = [("", found.columns), *((name, cells(found, numbers)) for name, numbers in found.rows)]
    return "\n".join(name.ljust(widest) + "".join(f"{cell:>7}" for cell in cells) for name, cells in lines)


def cells(found: Comparison, numbers: Mapping[str, float | None]) -> list[str]:
    """A row's numbers in percent, as they are shown everywhere."""
    values = [numbers.get(column) for column in found.columns]
    return [MISSING if value is None else f"{100 * value:.1f}" for value in values]


def _only_all(metrics: Mapping[str, Any], name: str) -> dict[str, float | None]:
    """k-NN votes with every training label."""
    return {"all": metrics[name]} if name in metrics else {}


def _by_count(metrics: Mapping[str, Any], prefix: str) -> dict[str, float | None]:
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def _judged_network(
    stage: str, found: Mapping[str, Any], after_pretraining: bool
) -> list[tuple[str, dict[str, float | None]]]:
    """Test and validation accuracy of a stage that was trained on labels."""
    scratch = found.get("start_from") is None if "start_from" in found else not after_pretraining
    name = "network from scratch" if scratch else "fine-tuned network"
    name += "" if stage == "finetune" else f" ({stage})"
    column, metrics = _label_count(found), found.get("metrics", {})
    splits = (("test/accuracy", name), ("val/accuracy", f"{name}, validation"))
    return [(row, {column: metrics[key]}) for key, row in splits if key in metrics]


def _label_count(stage: Mapping[str, Any]) -> str:
    count = stage.get("labels_per_class")
    return "all" if count is None else str(count)


def _remarks(stages: Mapping[str, Any], pixels: Mapping[str, float | None]) -> list[str]:
    """What a reader must not overlook: where pretraining did not help, and a fine-tuning below its own probe."""
    pretrain = stages.get("pretrain", {})
    probe = _by_count(pretrain.get("metrics", {}), "test/linear_accuracy@")
    untrained = _by_count(pretrain.get("untrained", {}), "test/linear_accuracy@")
    remarks = []
    for rival, numbers in (("the untrained encoder's probe", untrained), ("the SVM on raw pixels", pixels)):
        lost = [n for n, p in probe.items() if p is not None and (r := numbers.get(n)) is not None and p <= r]
        if lost:
            remarks.append(f"The probe on the pretrained encoder is not better than {rival} at: {', '.join(lost)}.")
    for stage, found in stages.items():
        reached, bar = found.get("metrics", {}).get("test/accuracy"), probe.get(_label_count(found))
        if stage != "pretrain" and reached is not None and bar is not None and reached < bar:
            remarks.append(
                f"{stage} ends below the linear probe it could have started from: {100 * reached:.1f} against "
                f"{100 * bar:.1f} %. A smaller learning rate, layer decay or fewer steps keep what was learnt."
            )
    return remarks
