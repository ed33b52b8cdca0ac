"""Ranks that somebody else started: where each stands, and what rank 0 tells the others."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smalldata_vit import cluster, cluster_orders
from smalldata_vit.cluster import Place, RanksError
from smalldata_vit.cluster_leader import Leader
from smalldata_vit.cluster_orders import LeaderGone, connected, obey, orders, summon

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "gpu7",
    "MASTER_PORT": "29500",
    "GROUP_RANK": "1",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[003-004]",
    "SLURM_JOB_NODELIST": "gpu[003-004]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
SUBMITIT = {
    "SUBMITIT_EXECUTOR": "local",
    "SUBMITIT_LOCAL_JOB_ID": "99",
    "SUBMITIT_LOCAL_NTASKS": "2",
    "SUBMITIT_LOCAL_GLOBALID": "1",
    "SUBMITIT_LOCAL_LOCALID": "1",
}


def a_place(rank: int = 0, ranks: int = 3, run: str = "one run") -> Place:
    return Place(rank, ranks, rank, ranks, "127.0.0.1", run, "torchrun")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (TORCHRUN, (3, 4, 1, 2, "gpu7")),
        (SRUN, (5, 8, 1, 4, "gpu003")),
        (SUBMITIT, (1, 2, 1, 2, "127.0.0.1")),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, (3, 4, 1, 4, "127.0.0.1")),
    ],
    ids=["torchrun", "srun", "submitit", "one machine needs no name"],
)
def test_a_rank_finds_its_place(environment: dict[str, str], expected: tuple) -> None:
    found = cluster.place(environment)
    assert found is not None
    assert (found.rank, found.ranks, found.local_rank, found.ranks_per_node, found.address) == expected


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LOCAL_RANK": "1"},
        TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        SUBMITIT | {"SUBMITIT_LOCAL_NTASKS": "1", "SUBMITIT_LOCAL_GLOBALID": "0"},
    ],
    ids=["nothing", "a left-over", "torchrun with one", "a batch script without srun", "submitit with one"],
)
def test_a_process_that_was_started_alone_has_no_place(environment: dict[str, str]) -> None:
    assert cluster.place(environment) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[003-005,9],cpu1", "gpu003"),
        ("gpu[7,9]", "gpu7"),
        ("gpu[12]", "gpu12"),
        ("rack[1-2]-node3", "rack1-node3"),
    ],
)
def test_the_first_machine_of_a_node_list(nodes: str, first: str) -> None:
    assert cluster.first_host(nodes) == first


def test_machines_with_different_numbers_of_tasks_are_refused() -> None:
    with pytest.raises(RanksError, match=r"4\(x2\),3"):
        cluster.place(SRUN | {"SLURM_STEP_TASKS_PER_NODE": "4(x2),3"})


@pytest.mark.parametrize(
    ("rank", "devices", "nodes", "says"),
    [
        (1, 1, 1, r"trainer\.devices=1, but torchrun started 3 on each machine: trainer\.devices=3"),
        (1, 3, 2, r"trainer\.nodes=2, but torchrun started ranks on 1: trainer\.nodes=1"),
    ],
)
def test_other_numbers_than_were_started_are_refused_with_the_right_ones(
    rank: int, devices: int, nodes: int, says: str
) -> None:
    with pytest.raises(RanksError, match=says):
        a_place(rank).refuse_misfit(devices, nodes)


def test_ranks_that_take_turns_between_machines_are_refused() -> None:
    found = cluster.place(SRUN | {"SLURM_PROCID": "2"})
    assert found is not None
    with pytest.raises(RanksError, match="distribution=block"):
        found.refuse_misfit("auto", 2)


def test_a_place_is_put_where_lightning_looks_and_the_agents_store_is_left() -> None:
    environment = dict(TORCHRUN) | {"TORCHELASTIC_USE_AGENT_STORE": "True", "KEPT": "yes"}
    found = cluster.place(environment)
    assert found is not None
    found.enter(environment)
    assert environment == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "NODE_RANK": "1",
        "MASTER_ADDR": "gpu7",
        "KEPT": "yes",
    }


def test_left_over_variables_of_a_group_are_dropped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "7", "KEPT": "yes"}
    cluster.leave_left_overs(environment)
    assert environment == {"MASTER_PORT": "7", "KEPT": "yes"}
    assert "WORLD_SIZE, LOCAL_RANK left over" in capsys.readouterr().err


@pytest.fixture
def leader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leader]:
    monkeypatch.setattr(cluster_orders, "PATIENCE_SECONDS", 10.0)
    made = Leader(a_place())
    yield made
    made.close()


def hear(rank: int) -> list[dict]:
    """Everything that a rank hears until it is over; then it leaves."""
    heard = []
    for order in orders(a_place(rank)):
        heard.append(order)
        if "end" in order:
            break
    return heard


def test_a_rank_hears_what_was_said_before_it_came_and_after(leader: Leader) -> None:
    leader.say({"stage": "pretrain"})
    heard: list[dict] = []
    rank = threading.Thread(target=lambda: heard.extend(hear(1)))
    rank.start()
    while not leader.hearing:
        rank.join(timeout=0.01)
    leader.say({"stage": "finetune"})
    leader.say({"end": 0})
    rank.join(timeout=10)
    assert heard == [{"stage": "pretrain"}, {"stage": "finetune"}, {"end": 0}]


def test_rank_0_waits_until_all_have_heard_that_it_is_over(leader: Leader, capsys: pytest.CaptureFixture[str]) -> None:
    late = threading.Timer(0.3, lambda: [hear(rank) for rank in (1, 2)])
    late.start()
    leader.end(0, seconds=10)
    assert leader.left == {1, 2}
    assert "did not hear" not in capsys.readouterr().err
    late.join()


def test_a_rank_of_another_run_is_not_answered(leader: Leader) -> None:
    stranger = a_place(1, run="another run")
    with closing(socket.create_connection(("127.0.0.1", leader.listener.getsockname()[1]))) as connection:
        connection.sendall(json.dumps({"run": stranger.run, "rank": 1}).encode() + b"\n")
        connection.settimeout(10)
        assert connection.recv(100) == b""
    with pytest.raises(LeaderGone, match="does it run"):
        connected(stranger, seconds=0.1)


def test_only_rank_0s_stages_give_orders(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cluster_orders.TOLD:
        monkeypatch.setenv(name, "told")
    monkeypatch.setenv(cluster.ORDERS, json.dumps(json.loads(leader.address) | {"secret": "guessed", "rank": 1}))
    with pytest.raises(LeaderGone, match="takes no orders"):
        summon("pretrain")
    assert leader.said == []
    monkeypatch.setenv(cluster.ORDERS, leader.address)
    summon("pretrain")
    [said] = map(json.loads, leader.said)
    assert said["stage"] == "pretrain"
    assert said["told"]["MASTER_PORT"] == os.environ["MASTER_PORT"] != "told", "a port of the stage's own"


@pytest.mark.parametrize(("ended", "stages"), [(0, 2), (143, 2), (1, 1)], ids=["well", "stopped", "failed"])
def test_a_rank_runs_what_it_is_told_and_leaves_early_only_if_it_fails(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, ended: int, stages: int
) -> None:
    """One that was asked to stop waits for rank 0, which may still have something to write."""
    for name in (*cluster_orders.TOLD, "SMALLDATA_VIT_LEADER", cluster.ORDERS):
        monkeypatch.setenv(name, "before")
    told = dict.fromkeys(cluster_orders.TOLD, "told") | {"LD_PRELOAD": "evil.so"}
    leader.say({"stage": "pretrain", "told": told})
    leader.say({"stage": "finetune", "told": told})
    leader.say({"end": 7})
    ran: list[tuple[str, Path]] = []

    def follow(stage: str, folder: Path) -> int:
        ran.append((stage, folder))
        return ended

    status = obey(a_place(1), follow)
    assert (len(ran), status) == (stages, 7 if stages == 2 else ended)
    assert ran[0] == ("pretrain", Path("told"))
    assert "LD_PRELOAD" not in os.environ


def test_a_rank_whose_rank_0_is_gone_says_so(leader: Leader) -> None:
    def go() -> None:
        while not leader.hearing:
            pass
        leader.hearing[1].shutdown(socket.SHUT_RDWR)

    gone = threading.Thread(target=go)
    gone.start()
    with pytest.raises(LeaderGone, match="without a word"):
        obey(a_place(1), lambda stage, folder: 0)
    gone.join()
