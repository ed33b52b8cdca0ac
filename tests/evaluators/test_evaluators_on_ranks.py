from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from stand_ins import Fixed, Naming, classes, judge, part, shown

from smalldata_vit.contracts import Evaluator, Method, Shown
from smalldata_vit.evaluators.accuracy import Accuracy
from smalldata_vit.evaluators.knn import NearestNeighbours
from smalldata_vit.evaluators.linear import LinearProbe


def all_three() -> list[tuple[Evaluator, Method]]:
    probe = LinearProbe([1, 5], 10.0, [0.1, 1.0, 10.0], normalize=True)
    probe.choose = True
    return [(NearestNeighbours(5, 0.07), Fixed()), (probe, Fixed()), (Accuracy(), Naming())]


def pieces(rank: int, ranks: int) -> list[Shown]:
    """35 training and 15 judged images dealt to the ranks; the last rank repeats image 0, as a padding sampler does."""
    memory, judged = shown(*classes(35, 7, seed=1)), shown(*classes(15, 7, seed=2)[:2])
    repeated = [part(judged, torch.tensor([0]))] if rank == ranks - 1 else []
    return [part(memory, torch.arange(rank, 35, ranks)), part(judged, torch.arange(rank, 15, ranks)), *repeated]


def on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    scores = [judge(evaluator, method, pieces(rank, 2)) for evaluator, method in all_three()]
    alone = pieces(0, 1) if rank == 0 else []
    scores += [judge(evaluator, method, alone) for evaluator, method in all_three()]
    torch.save(scores, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_give_the_numbers_of_one_even_when_one_of_them_sees_no_image(tmp_path: Path) -> None:
    mp.spawn(on_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    expected = [judge(evaluator, method, pieces(0, 1)) for evaluator, method in all_three()]
    assert first == second == [*expected, *expected]
