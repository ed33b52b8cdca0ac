import numpy as np
import pytest

from smalldata_vit.data.split import places, shares, stratified

LABELS = np.array([0] * 50 + [1] * 30 + [2] * 3 + [3])
FILES = [f"image {i}" for i in range(len(LABELS))]


@pytest.mark.parametrize(
    ("counts", "total", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([10, 10, 10], 10, [4, 3, 3]),  # equal remainders: the first class
        ([178, 182, 177, 183, 181, 182, 181, 179, 174, 180], 360, [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]),
        ([1, 1, 98], 50, [0, 0, 50]),  # the only image of a class stays outside
        ([2, 2], 4, [1, 1]),
        ([5, 5], 0, [0, 0]),
        ([0, 10], 3, [0, 3]),
    ],
)
def test_shares_are_those_of_the_largest_remainder(counts: list[int], total: int, expected: list[int]) -> None:
    assert shares(np.array(counts), total).tolist() == expected


def test_a_stratified_choice_has_the_classes_shares_and_repeats_itself() -> None:
    chosen = stratified(LABELS, FILES, 20, 7, "validation")
    assert np.bincount(LABELS[chosen], minlength=4).tolist() == [12, 7, 1, 0]
    assert np.array_equal(chosen, stratified(LABELS, FILES, 20, 7, "validation"))
    assert not np.array_equal(chosen, stratified(LABELS, FILES, 20, 8, "validation"))
    assert not np.array_equal(chosen, stratified(LABELS, FILES, 20, 7, "test"))


def test_the_order_in_which_images_are_listed_decides_nothing() -> None:
    mixed = np.random.default_rng(0).permutation(len(LABELS))
    chosen = stratified(LABELS, FILES, 20, 7, "validation")
    assert np.array_equal(stratified(LABELS[mixed], [FILES[i] for i in mixed], 20, 7, "validation"), chosen[mixed])


def test_an_added_image_moves_few_others() -> None:
    before = stratified(LABELS, FILES, 20, 7, "validation")
    after = stratified(np.append(LABELS, 0), [*FILES, "new image"], 20, 7, "validation")[:-1]
    assert (before != after).sum() <= 2


def test_places_number_the_images_of_each_class_without_gaps() -> None:
    place = places(LABELS, FILES, 0, "labels")
    for c, count in enumerate(np.bincount(LABELS)):
        assert sorted(place[np.equal(LABELS, c)]) == list(range(count))


def test_places_are_a_fixed_function_of_seed_and_name() -> None:
    # Written down once; a change would give every user another labelled subset for the same seed.
    files = [f"{i}.png" for i in range(8)]
    assert places(np.zeros(8, dtype=np.int64), files, 0, "labels").tolist() == [5, 4, 6, 2, 0, 1, 7, 3]
