"""What ranks tell each other: sums, rows and wishes."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from smalldata_vit import distributed
from smalldata_vit.contracts import Loss, Seen
from smalldata_vit.tally import Combined, Tally

HERE = torch.device("cpu")


def on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    agreement = distributed.Agreement(delay=2)
    wishes = [agreement([rank == 1 and step == 3, False], HERE) for step in range(7)]
    agreement.forget()
    after = [agreement([False, False], HERE) for _ in range(3)]
    agreement.forget()
    combined = Combined(shares=[4, 2])
    images = [3, 1] if rank == 0 else [2]
    first = 0 if rank == 0 else 4
    for count in images:
        values = torch.arange(first, first + count).float()
        seen = {"mean": Seen(values.mean(), "mean"), "keys": Seen(values.repeat_interleave(2)[:, None], "gather")}
        combined.add(seen, count / 6, count)
        first += count
    everything = combined.everything()
    sums = distributed.totals([torch.ones(2, 2) * rank, torch.tensor(3.0)])
    torch.save([wishes, after, everything, sums], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_know_the_same_wishes_in_the_same_step_and_the_same_sums(tmp_path: Path) -> None:
    mp.spawn(on_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for wishes, after, everything, sums in (first, second):
        assert [w[0] for w in wishes] == [False] * 5 + [True, False], "rank 1's wish of step 3 comes two steps later"
        assert not any(w[1] for w in wishes)
        assert after == [[False, False]] * 3, "wishes that were on their way are forgotten"
        torch.testing.assert_close(everything["mean"], torch.arange(6).float().mean())
        assert everything["keys"].flatten().tolist() == [i for i in range(6) for _ in range(2)]
        assert sums[0].tolist() == [[1, 1], [1, 1]]
        assert sums[1].item() == 6.0


def test_a_process_alone_gets_its_wishes_at_once() -> None:
    assert distributed.Agreement()([True, False], HERE) == [True, False]


def test_a_tally_is_the_mean_over_steps_weighted_by_images() -> None:
    tally = Tally()
    for step in range(2):
        for weight, value in ((0.75, 1.0 + step), (0.25, 5.0)):
            tally.add_pass(Loss({"a": torch.tensor(value)}, {"seen": torch.tensor(2 * value)}), weight)
        tally.add_step({"norm": torch.tensor(4.0 + step)})
        tally.end_step()
    assert tally.read() == {"loss": 2.375, "a": 2.375, "seen": 4.75, "norm": 4.5}


def test_a_term_that_only_some_passes_have_counts_as_zero_in_the_others() -> None:
    tally = Tally()
    tally.add_pass(Loss({"a": torch.tensor(1.0), "b": torch.tensor(3.0)}), 0.5)
    tally.add_pass(Loss({"a": torch.tensor(1.0)}), 0.5)
    tally.end_step()
    assert tally.read() == {"loss": 2.5, "a": 1.0, "b": 1.5}
