"""The end of a report: what was handed from stage to stage, and everything that is needed to do it again."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from smalldata_vit.reports import page
from smalldata_vit.reports.records import Run, described, powers
from smalldata_vit.results import read_json

NAMES = 12
"""Weights that are named before the rest is only counted."""
LINES = 40
"""Of a failed stage's log."""


def hand_offs(run: Run) -> str:
    """For each stage where its weights came from and what became of them, by name."""
    parts = []
    for stage, outcome in run.stages.items():
        source, report = outcome.get("start_from"), outcome.get("hand_off")
        if source is None or report is None:
            continue
        counts = [[kind.replace("_", " "), str(len(report[kind])), named(report[kind])] for kind in KINDS]
        digest = str(source.get("sha256", ""))[:16]
        head = f"started from {source['source']}, weights of {source.get('weights')}; head: {source.get('head', 'new')}"
        parts.append(
            f"<h3>{escape(stage)}<small>{escape(head)}</small></h3>"
            + page.table(["weights", "", ""], [[kind, names, count] for kind, count, names in counts], words=2)
            + page.paragraph(f"sha256 of the source begins with {digest}; tables resized by {report['rule']}", "note")
        )
    return "".join(parts)


KINDS = ("loaded", "resized", "new", "left_over")


def named(weights: Any) -> str:
    """The first names, and how many more there are."""
    names = list(weights)
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more


def made_with(run: Run) -> str:
    """The command, the commit, versions, machine, costs by stage, and each stage's whole config."""
    parts = [page.code(run.results.get("command", "")), costs(run)]
    abouts = {stage: about_of(run.stage_folder(stage)) for stage in run.stages}
    for about in [about for about in abouts.values() if about][-1:]:
        versions = {"python": about.get("python"), **about.get("versions", {})}
        said = [("commit", str(about.get("commit"))), ("platform", str(about.get("platform")))]
        said += [("cores", str(about.get("cores"))), *((name, str(v)) for name, v in versions.items())]
        parts.append(page.facts(said))
    for stage in run.stages:
        file = run.stage_folder(stage) / "config.yaml"
        if file.exists():
            parts.append(page.details(f"resolved config of {stage}", page.code(file.read_text())))
    return "".join(parts) + last_lines(run)


def costs(run: Run) -> str:
    """Seconds, steps, images and FLOPs by stage."""
    rows = []
    for stage, outcome in run.stages.items():
        if outcome.get("status") != "finished":
            rows.append([stage, str(outcome.get("status")), "", "", "", ""])
            continue
        seconds, flops = float(outcome["seconds"]), float(outcome["flops"])
        rate = powers(flops / seconds) + "FLOP/s" if seconds > 0 and flops > 0 else ""
        spent = [f"{outcome['steps']:,}", f"{outcome['images_seen']:,}", described(seconds), powers(flops) + "FLOP"]
        rows.append([stage, *spent, rate])
    return page.table(["stage", "steps", "images seen", "time", "cost", "rate"], rows) if rows else ""


def about_of(folder: Path) -> Mapping[str, Any]:
    """What a stage wrote down of its surroundings."""
    file = folder / "about.json"
    return read_json(file) if file.exists() else {}


def last_lines(run: Run) -> str:
    """The end of the log of a stage that failed."""
    for stage, outcome in run.stages.items():
        log = run.stage_folder(stage) / "log.txt"
        if outcome.get("status") == "failed" and log.exists():
            text = "\n".join(log.read_text(errors="replace").splitlines()[-LINES:])
            return page.details(f"the last lines of {stage}’s log", page.code(text))
    return ""
