"""What a person sees of a sweep: the table that moves, the lines without a terminal, and what is said at the end."""

import io
import signal
from pathlib import Path

import pytest
from rich.console import Console
from stub_jobs import fabricated, leave_results

from smalldata_vit import live_table, sweep_cells
from smalldata_vit.metrics import MetricsFile
from smalldata_vit.shares import Machine, Shares
from smalldata_vit.sweep_display import Display
from smalldata_vit.sweep_plan import Planned
from smalldata_vit.sweep_queue import Queue
from smalldata_vit.sweep_record import Record
from smalldata_vit.sweep_table import failures, summary
from smalldata_vit.sweep_words import shortened
from smalldata_vit.sweeps import Round, Sweep

LONG = ["finetune.optimization.lr=0.001", "finetune.dataset.labels_per_class=10"]


def a_sweep(folder: Path) -> tuple[list[Planned], Queue, Display]:
    """Job 0 is at a quarter, 1 waits for it, 2 starts, 3 failed, 4 was finished before."""
    jobs = [fabricated(folder, n, {"pretrain": "p" if n < 2 else str(n)}) for n in range(5)]
    queue = Queue(jobs[:3])
    queue.next()
    queue.next()
    jobs[3].job.status, jobs[4].job.status, jobs[4].job.reason = 1, 0, "finished before"
    leave_results(jobs[4], stages={"finetune": {"metrics": {"val/accuracy": 0.5}}})
    for planned in jobs:
        planned.job.words = [*LONG, f"seed={planned.job.number}"]
    display = Display(jobs, folder, 3, moves=False)
    MetricsFile(jobs[0].job.folder / "finetune" / "metrics.csv").write(30, 1, 1, {"val/accuracy": 0.75})
    (jobs[0].job.folder / "job.log").write_text("finetune: Supervised on 50 images, 120 steps of 50 (…)\n")
    return jobs, queue, display


def drawn(folder: Path, width: int) -> list[str]:
    """The lines of the table on a terminal of that width."""
    _, queue, display = a_sweep(folder)
    out = io.StringIO()
    Console(file=out, width=width).print(display.table(queue, width, 20))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_on_a_wide_terminal_the_table_says_everything(tmp_path: Path) -> None:
    assert [line[5:] for line in drawn(tmp_path, 140)[2:7]] == [
        f"{'lr=0.001 labels_per_class=10 seed=0':48}  {'finetune':26}  ━━━╌╌╌╌╌╌╌╌╌  25 %{'':15}val/accuracy 0.7500",
        f"{'lr=0.001 labels_per_class=10 seed=1':48}  waits for job 0's pretrain",
        f"{'lr=0.001 labels_per_class=10 seed=2':48}  starts",
        f"{'lr=0.001 labels_per_class=10 seed=3':48}  failed (1)",
        f"{'lr=0.001 labels_per_class=10 seed=4':48}  finished before{'':46}val/accuracy 0.5000",
    ]


def test_on_a_narrow_terminal_the_table_gives_up_bars_and_names_and_keeps_the_overrides(tmp_path: Path) -> None:
    assert drawn(tmp_path, 80)[2:7] == [
        "  0  lr=0.001 labe…s=10 seed=0  finetune         25 %                   0.7500",
        "  1  lr=0.001 labe…s=10 seed=1  waits for job 0",
        "  2  lr=0.001 labe…s=10 seed=2  starts",
        "  3  lr=0.001 labe…s=10 seed=3  failed (1)",
        "  4  lr=0.001 labe…s=10 seed=4  finished before                         0.5000",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_of_the_table_is_longer_than_the_terminal(tmp_path: Path, width: int) -> None:
    lines = drawn(tmp_path, width)
    assert max(map(len, lines)) <= width


def test_the_foot_of_the_table_counts_the_jobs(tmp_path: Path) -> None:
    assert drawn(tmp_path, 120)[-1] == "2 running, 1 finished, 1 failed, 1 to go, 0 s so far"


def test_a_table_of_a_thousand_jobs_has_the_lines_that_there_is_room_for(tmp_path: Path) -> None:
    jobs = [fabricated(tmp_path, n, {}) for n in range(1000)]
    for planned in jobs[:500]:
        planned.job.status = int(planned.job.number == 7)
    queue = Queue(jobs[500:])
    queue.next()
    shown = [planned.job.number for planned in sweep_cells.chosen(jobs, queue, 12)]
    assert len(shown) == 12
    assert {7, 500, 501} <= set(shown)


def test_without_a_terminal_lines_tell_who_waits_and_from_time_to_time_how_far_the_jobs_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, queue, display = a_sweep(tmp_path)
    monkeypatch.setattr(live_table, "BETWEEN_LINES", 0.0)
    with display:
        display.looked = -10.0
        display.look(queue)
    words = " ".join(LONG)
    said = [
        f"job 1 waits for job 0's pretrain: {words} seed=1",
        f"job 0 is in finetune 25 %, best val/accuracy 0.7500: {words} seed=0",
        f"job 2 starts: {words} seed=2",
    ]
    assert capsys.readouterr().out.splitlines() == said
    assert [line[20:] for line in (tmp_path / "sweep.log").read_text().splitlines()] == said


def test_that_a_signal_was_passed_on_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, queue, display = a_sweep(tmp_path)
    sweep = Sweep([], tmp_path, received=signal.SIGINT)
    with display:
        going = Round(sweep, queue, Shares(Machine((), 1), 3), Record(tmp_path, []), display)
        going.say_what_came()
        going.say_what_came()
    said = "the 2 jobs that run were asked to save and leave; a second signal ends them at once\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("words", "room", "expected"),
    [
        (["seed=1"], 6, "seed=1"),
        ([], 20, "(as it is)"),
        (["finetune.optimization.lr=0.1"], 28, "finetune.optimization.lr=0.1"),
        (["finetune.optimization.lr=0.1"], 27, "lr=0.1"),
        (["+a.b=1", "~c.d"], 8, "+b=1 ~d"),
        (["dataset.root=/a/long/way/to/pets", "seed=12"], 24, "root=/a/…to/pets seed=12"),
        (["aa=1", "bb=2", "cc=3"], 9, "aa=1 bb=…"),
    ],
)
def test_overrides_that_do_not_fit_keep_what_tells_them_apart(words: list[str], room: int, expected: str) -> None:
    assert shortened(words, room) == expected


def test_keys_that_end_alike_keep_what_is_before() -> None:
    assert shortened(["a.finetune.epochs=3", "a.pretrain.epochs=30"], 37) == "finetune.epochs=3 pretrain.epochs=30"


def test_an_error_that_many_jobs_share_is_told_once_with_all_their_commands(tmp_path: Path) -> None:
    jobs = [fabricated(tmp_path, n, {}).job for n in range(3)]
    for job in jobs[:2]:
        job.status, job.reason = 1, "pretrain failed"
    assert failures(jobs) == [
        "\njobs 0, 1 failed (1): pretrain failed",
        "  to repeat it: python run.py seed=0",
        "  to repeat it: python run.py seed=1",
    ]


def test_the_line_that_repeats_a_job_names_the_threads_that_it_had(tmp_path: Path) -> None:
    planned = fabricated(tmp_path, 0, {})
    planned.job.status, planned.job.threads = 1, 3
    assert "to repeat it: OMP_NUM_THREADS=3 python run.py seed=0" in summary([planned])


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_table_at_the_end_fits_the_terminal(tmp_path: Path, width: int) -> None:
    jobs, *_ = a_sweep(tmp_path)
    table = summary(jobs, width).splitlines()[1:7]
    assert [line.split()[0] for line in table] == ["job", "0", "1", "2", "3", "4"]
    assert max(map(len, table)) <= width


def test_the_table_at_the_end_is_whole_where_nobody_watches(tmp_path: Path) -> None:
    jobs, *_ = a_sweep(tmp_path)
    assert f"{' '.join(LONG)} seed=4  skipped" in summary(jobs)
