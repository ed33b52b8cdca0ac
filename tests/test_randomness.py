import numpy as np

from smalldata_vit import randomness


def test_numbers_depend_on_every_part_and_on_their_order() -> None:
    keys = {randomness.key(*parts) for parts in [(1, 2), (2, 1), (12,), ("1", 2), (1, "2"), (1, 2, 0)]}
    assert len(keys) == 6


def test_a_key_is_the_same_on_every_machine() -> None:
    assert randomness.key(0, "order", 3) == 1855528780364446383


def test_generators_of_equal_parts_agree_and_of_different_parts_do_not() -> None:
    first, again, other = (randomness.generator(0, "views", s).random(100) for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_epoch_s_order_holds_every_image_once_and_differs_between_epochs() -> None:
    first, second = (randomness.permutation(0, epoch, 50) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)
