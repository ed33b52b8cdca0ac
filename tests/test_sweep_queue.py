"""Jobs that share a stage: one makes it, the others wait without taking up a slot, and hear of it when it fails."""

from pathlib import Path

from stub_jobs import fabricated, leave_results, leave_stage

from smalldata_vit.sweep_queue import Queue


def sharing(folder: Path, count: int) -> Queue:
    """Jobs with one pretraining and a fine-tuning each."""
    return Queue([fabricated(folder, n, {"pretrain": "one", "finetune": f"own{n}"}) for n in range(count)])


def test_eight_jobs_share_one_pretraining_and_then_all_run(tmp_path: Path) -> None:
    queue = sharing(tmp_path, 8)
    maker = queue.next()
    assert maker is not None
    assert queue.next() is None
    assert {queue.awaited(job) for job in queue.waiting} == {(maker, "pretrain")}
    leave_stage(maker, "pretrain", status="finished")
    queue.look()
    assert [queue.next() is not None for _ in range(8)] == [True] * 7 + [False]


def test_a_job_behind_those_that_wait_may_start(tmp_path: Path) -> None:
    jobs = [fabricated(tmp_path, n, {"pretrain": key}) for n, key in enumerate(["a", "a", "b", "a"])]
    queue = Queue(jobs)
    assert [queue.next(), queue.next(), queue.next()] == [jobs[0], jobs[2], None]


def test_jobs_without_a_store_wait_for_nobody(tmp_path: Path) -> None:
    queue = Queue([fabricated(tmp_path, n, {}) for n in range(3)])
    assert all(queue.next() for _ in range(3))


def test_a_pretraining_that_fails_fails_those_that_wait_for_it_with_its_reason(tmp_path: Path) -> None:
    queue = sharing(tmp_path, 4)
    queue.waiting.append(fabricated(tmp_path, 9, {"pretrain": "another"}))
    maker = queue.next()
    assert maker is not None
    maker.job.status = 1
    leave_results(maker, status="failed", stages={"pretrain": {"status": "failed", "error": "ValueError: no images"}})
    lost = queue.ended(maker)
    assert [planned.job.number for planned, _ in lost] == [1, 2, 3]
    assert {why for _, why in lost} == {"pretrain, which job 0 made for it, failed: ValueError: no images"}
    assert [planned.job.number for planned in queue.waiting] == [9]


def test_a_fine_tuning_that_fails_harms_nobody_else(tmp_path: Path) -> None:
    queue = sharing(tmp_path, 3)
    maker = queue.next()
    assert maker is not None
    leave_stage(maker, "pretrain", status="finished")
    maker.job.status = 1
    leave_results(maker, status="failed", stages={"finetune": {"status": "failed", "error": "broke"}})
    assert queue.ended(maker) == []
    assert queue.next() is not None


def test_the_next_job_goes_on_with_the_stage_of_one_that_was_killed(tmp_path: Path) -> None:
    queue = sharing(tmp_path, 3)
    maker = queue.next()
    assert maker is not None
    maker.job.status = 137
    leave_results(maker, status="running")
    assert queue.ended(maker) == []
    heir = queue.next()
    assert heir is not None
    assert heir.job.number == 1
    assert queue.awaited(queue.waiting[0]) == (heir, "pretrain")
