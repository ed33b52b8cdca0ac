"""What came out of a run, in one sentence, with the numbers that it has to be held against."""

from html import escape

from smalldata_vit.reports.records import Run, first_number

JUDGED = {
    "accuracy": "accuracy",
    "linear_accuracy@all": "accuracy of a linear probe with all labels",
    "knn_accuracy": "accuracy of k-NN",
}


def answer(run: Run) -> str:
    """What came out, in one sentence of HTML."""
    if run.status == "failed":
        return f"This run failed. {escape(str(run.results.get('error') or 'Its log says why.'))}"
    name = first_number([run])
    if name is None:
        return "Nothing has been judged yet."
    split, kind = name.split("/", 1)
    stage = next(n for n, s in reversed(list(run.stages.items())) if name in s.get("metrics", {}))
    images = {"test": "test", "val": "validation"}[split]
    said = (
        f"<strong>{100 * (run.number(name) or 0):.1f} %</strong> {images} {JUDGED[kind]}{escape(by_whom(run, stage))}"
    )
    rivals = rivals_of(run, stage, split)
    return said + (f"; {escape(rivals)}." if rivals else ".")


def by_whom(run: Run, stage: str) -> str:
    """Which network was judged, and what it had learnt from."""
    outcome = run.stages[stage]
    count, source = outcome.get("labels_per_class"), outcome.get("start_from")
    if count == 0:
        return f" on what {stage} learnt without labels"
    labels = "all labels" if count is None else f"{count} label{'s' if count > 1 else ''} per class"
    return f" with {labels}, " + ("from scratch" if source is None else f"starting from {source['source']}")


def rivals_of(run: Run, stage: str, split: str) -> str:
    """The numbers that the answer has to be held against."""
    count = run.stages[stage].get("labels_per_class")
    column = "all" if count in (None, 0) else str(count)
    pretrain = run.stages.get("pretrain", {})
    probe = f"{split}/linear_accuracy@{column}"
    pixels = run.results.get("baselines", {}).get("pixels", {}).get(f"{split}/accuracy@{column}")
    known = [
        (
            "the pretrained encoder’s linear probe",
            pretrain.get("metrics", {}).get(probe) if stage != "pretrain" else None,
        ),
        ("the untrained encoder’s", pretrain.get("untrained", {}).get(probe) if stage == "pretrain" else None),
        ("an SVM on raw pixels", pixels),
    ]
    said = [f"{name} has {100 * value:.1f} %" for name, value in known if value is not None]
    return " and ".join([*said[:1], *(one.replace(" has", "") for one in said[1:])])
