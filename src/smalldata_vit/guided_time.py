"""How many seconds guidance costs, and how many its end saves: from the numbers that a stage wrote as it went."""

from collections.abc import Mapping, Sequence
from statistics import median

from smalldata_vit.metrics import Row

ON, PACE = "train/guidance_on", "train/seconds_per_step"


def guided_time(rows: Sequence[Row], steps_per_epoch: int) -> dict[str, float | None] | None:
    """Steps with the guide on and off and seconds of either, None for a stage that nothing guides.

    Between two writings all steps are of one kind, but for once, where guidance ends: those are counted, not timed, and
    so are those up to the first writing, in which everything warms up. The seconds of a step are the median over the
    other writings, for judging and saving fall into some. Where none is left, they and what follows are None.

    `rows`: of the stage's metrics file.
    """
    written: dict[int, dict[str, float]] = {}
    for row in rows:
        if row.name in (ON, PACE):
            written.setdefault(row.step, {})[row.name] = row.value
    if not any(ON in numbers for numbers in written.values()):
        return None
    steps, guided, before = 0, 0, 0
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for step, numbers in sorted(written.items()):
        steps, share = steps + step - before, numbers[ON]
        guided += round(share * (step - before))
        if share in (0, 1) and before > 0:
            seconds[bool(share)].append(numbers[PACE])
        before = step
    on, off = (median(seconds[kind]) if seconds[kind] else None for kind in (True, False))
    return summary(guided, steps - guided, on, off, steps_per_epoch)


def summary(
    steps_on: int, steps_off: int, on: float | None, off: float | None, steps_per_epoch: int
) -> dict[str, float | None]:
    """The record of a stage, of steps and of the seconds that one takes with the guide `on` and `off`."""
    cost = None if on is None or off is None else on - off
    return {
        "steps_on": steps_on,
        "seconds_per_step_on": on,
        "steps_off": steps_off,
        "seconds_per_step_off": off,
        "seconds_per_epoch_guided": None if on is None else on * steps_per_epoch,
        "seconds_per_epoch_unguided": None if off is None else off * steps_per_epoch,
        "seconds_spent": None if cost is None else cost * steps_on,
        "seconds_saved": None if cost is None else cost * steps_off,
    }


def in_words(record: Mapping[str, float | None]) -> str:
    """One line of it for the log."""

    def kind(state: str) -> str:
        seconds = record[f"seconds_per_step_{state}"]
        return f"{record[f'steps_{state}']:,} steps {state}" + ("" if seconds is None else f" of {seconds:.4g} s each")

    spent, saved = record["seconds_spent"], record["seconds_saved"]
    if spent is None or saved is None:
        return f"guidance: {kind('on')}, {kind('off')}; what it cost cannot be told without steps of both kinds"
    return f"guidance: {kind('on')}, {kind('off')}; it cost {spent:.4g} s, and its end saved {saved:.4g} s"


def for_metrics(record: Mapping[str, float | None]) -> dict[str, float]:
    """What of it stands in the metrics file too."""
    names = {
        "train/guidance_seconds_per_epoch_on": "seconds_per_epoch_guided",
        "train/guidance_seconds_per_epoch_off": "seconds_per_epoch_unguided",
        "train/guidance_seconds_spent": "seconds_spent",
        "train/guidance_seconds_saved": "seconds_saved",
    }
    found = {name: record[key] for name, key in names.items()}
    return {name: value for name, value in found.items() if value is not None}
