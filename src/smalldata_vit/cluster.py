"""Processes that somebody else started together: torchrun, SLURM or submitit; which of them this one is.

Lightning joins what was started and never starts ranks beside it. What such a process is told in its environment is
read here, once, and put into the form in which Lightning and torch look for it.
"""

import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets, and whoever else starts ranks in its way."""
OF_A_GROUP = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK")
"""Variables by which a process belongs to a group; left over from another one they make it wait for ever."""
ORDERS = "SMALLDATA_VIT_ORDERS"
"""For the stages of ranks that somebody else started: where rank 0 says what is to be done."""


class RanksError(ValueError):
    """Processes were started together in a way that cannot be right."""


@dataclass(frozen=True)
class Place:
    """Which of the processes that were started together this one is.

    Arguments:
        address: of rank 0's machine, as the others reach it.
        run: what no two groups have in common, a group that was started again included.
        starter: who started them, as a message names it.
    """

    rank: int
    ranks: int
    local_rank: int
    ranks_per_node: int
    address: str
    run: str
    starter: str

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.ranks // self.ranks_per_node

    def refuse_misfit(self, devices: int | str, nodes: int) -> None:
        """RanksError unless as many processes were started as the trainer's settings ask for, node by node."""
        if self.rank != self.rank // self.ranks_per_node * self.ranks_per_node + self.local_rank:
            raise RanksError(
                f"rank {self.rank} is process {self.local_rank} of its machine, with {self.ranks_per_node} on each: "
                f"ranks must follow each other on a machine (srun --distribution=block)"
            )
        if nodes != self.nodes:
            raise RanksError(
                f"trainer.nodes={nodes}, but {self.starter} started ranks on {self.nodes}: trainer.nodes={self.nodes}"
            )
        if devices not in ("auto", self.ranks_per_node):
            raise RanksError(
                f"trainer.devices={devices}, but {self.starter} started {self.ranks_per_node} on each machine: "
                f"trainer.devices={self.ranks_per_node}, or trainer.devices=auto"
            )

    def enter(self, environment: MutableMapping[str, str]) -> None:
        """Put the place where Lightning and torch look for it, without what ties the process to its starter's store.

        The agent of torchrun keeps a store for one process group; every stage has one of its own, at its own port.
        """
        leave(environment)
        environment.update(
            RANK=str(self.rank),
            WORLD_SIZE=str(self.ranks),
            LOCAL_RANK=str(self.local_rank),
            LOCAL_WORLD_SIZE=str(self.ranks_per_node),
            NODE_RANK=str(self.rank // self.ranks_per_node),
            MASTER_ADDR=self.address,
        )


def place(environment: Mapping[str, str]) -> Place | None:
    """The place of this process among those that were started with it, None when it was started alone.

    RanksError if what the environment says contradicts itself.
    """
    found = of_torchrun(environment) or of_slurm(environment) or of_submitit(environment)
    if found is None or found.ranks == 1:
        return None
    if found.ranks % found.ranks_per_node:
        raise RanksError(
            f"{found.starter} started {found.ranks} processes, which are not {found.ranks_per_node} on every machine"
        )
    return found


def of_torchrun(environment: Mapping[str, str]) -> Place | None:
    """What torchrun says."""
    if any(name not in environment for name in TORCHRUN):
        return None
    ranks, per_node = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    return Place(
        rank=int(environment["RANK"]),
        ranks=ranks,
        local_rank=int(environment["LOCAL_RANK"]),
        ranks_per_node=per_node,
        address=address_of(environment["MASTER_ADDR"], ranks // per_node),
        run=" ".join(["torchrun", *(environment.get(name, "") for name in names)]),
        starter="torchrun",
    )


def of_slurm(environment: Mapping[str, str]) -> Place | None:
    """What `srun` says; a batch script's own process belongs to no step, and starts its ranks itself."""
    if "SLURM_PROCID" not in environment or int(environment.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return None
    ranks, per_node = int(environment["SLURM_STEP_NUM_TASKS"]), tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
    nodes = environment.get("SLURM_STEP_NODELIST", environment["SLURM_JOB_NODELIST"])
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return Place(
        rank=int(environment["SLURM_PROCID"]),
        ranks=ranks,
        local_rank=int(environment["SLURM_LOCALID"]),
        ranks_per_node=per_node,
        address=address_of(first_host(nodes), ranks // per_node),
        run=" ".join(["slurm", *(environment.get(name, "") for name in names)]),
        starter="srun",
    )


def of_submitit(environment: Mapping[str, str]) -> Place | None:
    """What submitit's executor for this machine says, which stands in for SLURM."""
    if environment.get("SUBMITIT_EXECUTOR") != "local" or "SUBMITIT_LOCAL_GLOBALID" not in environment:
        return None
    ranks = int(environment["SUBMITIT_LOCAL_NTASKS"])
    return Place(
        rank=int(environment["SUBMITIT_LOCAL_GLOBALID"]),
        ranks=ranks,
        local_rank=int(environment["SUBMITIT_LOCAL_LOCALID"]),
        ranks_per_node=ranks,
        address=address_of("", 1),
        run=f"submitit {environment['SUBMITIT_LOCAL_JOB_ID']}",
        starter="submitit",
    )


def address_of(host: str, nodes: int) -> str:
    """How ranks reach a machine: on a single one no name has to be known anywhere."""
    return host if nodes > 1 else "127.0.0.1"


def tasks_per_node(text: str) -> int:
    """The number in SLURM's `4`, `4(x2)` or `4,4`; RanksError when machines differ."""
    counts = {int(re.sub(r"\(x\d+\)$", "", part)) for part in text.split(",")}
    if len(counts) > 1:
        raise RanksError(f"SLURM put {text} tasks on its machines; all need the same number: srun --ntasks-per-node=")
    return counts.pop()


def first_host(nodes: str) -> str:
    """The first machine of SLURM's `gpu[003-005,9],cpu1`: gpu003."""
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", nodes).split(",")[0]


def leave(environment: MutableMapping[str, str]) -> list[str]:
    """Remove what ties a process to a group; returns the names that were there."""
    agents = [name for name in environment if name.startswith("TORCHELASTIC_")]
    masters = ["MASTER_ADDR", "MASTER_PORT"] if agents else []
    gone = [name for name in (*OF_A_GROUP, *agents, *masters) if name in environment]
    for name in gone:
        del environment[name]
    return gone


def leave_left_overs(environment: MutableMapping[str, str]) -> None:
    """Belong to no group, and say so where variables of one were left over from elsewhere."""
    alone = "TORCHELASTIC_RUN_ID" in environment
    gone = leave(environment)
    if gone and not alone:
        print(
            f"{', '.join(gone)} left over from elsewhere: ignored, for ranks are started by torchrun with all of "
            f"{', '.join(TORCHRUN)}, or by srun",
            file=sys.stderr,
            flush=True,
        )


def started_beside(environment: Mapping[str, str]) -> int | None:
    """How many ranks somebody else started on each machine, None when they are this process's to start."""
    return int(environment["LOCAL_WORLD_SIZE"]) if ORDERS in environment else None
