import pytest
import torch
from torch import Tensor

from smalldata_vit.parts.queue import Queue


def keys(*numbers: int) -> tuple[Tensor, Tensor]:
    return torch.tensor([[float(n)] * 2 for n in numbers]), torch.tensor(numbers)


def test_it_starts_with_random_directions_of_no_image() -> None:
    queue = Queue(50, 3)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(50))
    assert queue.image.unique().tolist() == [-1]
    assert not queue.keys.requires_grad


def test_new_keys_take_the_places_of_the_oldest_around_the_end() -> None:
    queue = Queue(5, 2)
    for numbers in [(1, 2, 3), (4, 5, 6), (7,)]:
        queue.push(*keys(*numbers))
    assert queue.image.tolist() == [6, 7, 3, 4, 5]
    assert queue.keys[:, 0].tolist() == [6.0, 7.0, 3.0, 4.0, 5.0]
    assert int(queue.place) == 2


def test_of_more_keys_than_it_holds_the_last_stay() -> None:
    queue = Queue(3, 2)
    queue.push(*keys(1))
    queue.push(*keys(2, 3, 4, 5))
    assert sorted(queue.image.tolist()) == [3, 4, 5]
    queue.push(*keys(6))
    assert sorted(queue.image.tolist()) == [4, 5, 6]


def test_it_goes_on_where_a_saved_one_stopped() -> None:
    one, again = Queue(4, 2), Queue(4, 2)
    one.push(*keys(1, 2, 3))
    again.load_state_dict(one.state_dict())
    for queue in (one, again):
        queue.push(*keys(4, 5))
    assert torch.equal(one.keys, again.keys)
    assert again.image.tolist() == [5, 2, 3, 4]


def test_a_push_reads_nothing_back_from_the_device() -> None:
    with torch.device("meta"):  # which has no values to read
        queue = Queue(4, 2)
        queue.push(torch.empty(3, 2), torch.empty(3, dtype=torch.int64))
        assert queue.place.is_meta


def test_a_queue_without_places_is_refused() -> None:
    with pytest.raises(ValueError, match="queue of 0 keys"):
        Queue(0, 2)
