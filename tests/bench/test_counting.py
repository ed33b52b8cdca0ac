"""What a step is made of, counted."""

import threading

import pytest
import torch

from smalldata_vit.bench.counting import Counting, counting, not_views


def total(mode: Counting, kind: str) -> int:
    return mode.counts.total(kind)


def test_a_product_is_one_operation_with_its_bytes_and_its_flop() -> None:
    left, right, mode = torch.ones(3, 5), torch.ones(5, 7), Counting()
    with counting(mode):
        left @ right
    assert total(mode, "operations") == 1
    assert total(mode, "traffic") == 4 * (3 * 5 + 5 * 7 + 3 * 7)
    assert total(mode, "flops") == 2 * 3 * 5 * 7


def test_views_of_memory_are_no_operations() -> None:
    given, mode = torch.ones(4, 6), Counting()
    with counting(mode):
        given.view(6, 4).t()[:2].unsqueeze(0).expand(3, -1, -1).detach()
    assert total(mode, "operations") == 0


def test_an_operation_in_place_counts() -> None:
    given, mode = torch.ones(4), Counting()
    with counting(mode):
        given.add_(1)
    assert total(mode, "operations") == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t[0].item(),
        lambda t: t.tolist(),
        lambda t: t.numpy(),
        lambda t: t.cpu(),
        lambda t: bool(t[0] > 0),
        lambda t: float(t[0]),
        lambda t: t.nonzero(),
        lambda t: t[t > 0],
        lambda t: torch.equal(t, t),
        lambda t: t.unique(),
    ],
    ids=["item", "tolist", "numpy", "cpu", "bool", "float", "nonzero", "mask", "equal", "unique"],
)
def test_what_the_host_has_to_know_is_counted_as_a_read(read) -> None:
    mode = Counting()
    with counting(mode):
        read(torch.ones(3))
    assert total(mode, "reads") == 1


def test_arithmetic_and_copies_within_a_device_are_no_reads() -> None:
    given, mode = torch.ones(3), Counting()
    with counting(mode):
        torch.where(given > 0, given.to(torch.bfloat16).float(), given).sum().clone()
    assert total(mode, "reads") == 0


def test_reads_of_another_thread_are_not_reads_of_the_step() -> None:
    mode = Counting()
    with counting(mode):
        other = threading.Thread(target=lambda: torch.ones(3).tolist())
        other.start()
        other.join()
    assert total(mode, "reads") == 0


def test_the_backward_pass_and_the_optimizer_are_parts_of_their_own() -> None:
    weight, mode = torch.ones(3, requires_grad=True), Counting()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with counting(mode):
        (weight * weight).sum().backward()
        optimizer.step()
    assert {part for part, _, _ in mode.counts.operations} == {"step", "backward", "optimizer"}


def test_a_part_that_is_named_by_hand_can_be_left_out() -> None:
    given, mode = torch.ones(3), Counting()
    with counting(mode):
        given + 1
        mode.part = "views"
        given + 1
    assert (mode.counts.total("operations"), mode.counts.total("operations", not_views)) == (2, 1)


def test_methods_that_were_watched_are_as_before_afterwards() -> None:
    before = {name: getattr(torch.Tensor, name) for name in ("tolist", "numpy", "cpu")}
    with counting(Counting()):
        pass
    assert {name: getattr(torch.Tensor, name) for name in before} == before
