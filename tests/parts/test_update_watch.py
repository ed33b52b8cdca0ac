import pytest
import torch

from smalldata_vit.parts.update_watch import UpdateWatch

SHOWN = torch.tensor([True, True, False, False, False])
LENGTHS = torch.tensor([4.0, 2.0, 1.0, 0.2, 0.0])


def gradient(lengths: torch.Tensor) -> torch.Tensor:
    """Rows of these lengths."""
    return lengths[:, None] * torch.tensor([[0.6, 0.8]])


def watched(threshold: float = 0.1) -> UpdateWatch:
    watch = UpdateWatch(5, threshold)
    watch.look(gradient(LENGTHS))
    watch.count(SHOWN)
    return watch


def test_a_row_counts_as_updated_above_the_threshold_of_the_largest() -> None:
    assert watched().updates.tolist() == [1, 1, 1, 0, 0]
    assert watched(0.3).stats()["rows_updated"].item() == pytest.approx(2 / 5)


def test_the_effective_rows_are_the_participation_ratio_of_the_norms() -> None:
    assert watched().stats()["effective_rows"].item() == pytest.approx(7.2**2 / (5 * (16 + 4 + 1 + 0.04)))


def test_the_ratio_compares_the_rows_of_absent_images_with_those_of_shown_ones() -> None:
    assert watched().stats()["other_to_own_update"].item() == pytest.approx((1.2 / 3) / (6 / 2))


def test_updates_are_counted_since_the_start() -> None:
    watch = watched()
    watch.look(gradient(torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0])))
    watch.count(~SHOWN)
    stats = watch.stats()
    assert stats["updates_per_row"].item() == pytest.approx(4 / 5)
    assert stats["rows_never_updated"].item() == pytest.approx(1 / 5)


def test_numbers_are_finite_when_every_image_was_shown_and_nothing_is_left_to_learn() -> None:
    watch = UpdateWatch(5, 0.1)
    watch.look(torch.zeros(5, 2))
    watch.count(torch.ones(5, dtype=torch.bool))
    assert all(bool(value.isfinite()) for value in watch.stats().values())


def test_the_scale_of_the_gradients_does_not_matter() -> None:
    scaled = UpdateWatch(5, 0.1)
    scaled.look(gradient(LENGTHS) * 65536)
    scaled.count(SHOWN)
    torch.testing.assert_close(scaled.stats(), watched().stats())


def test_a_step_that_was_looked_at_but_not_taken_changes_nothing() -> None:
    watch = watched()
    before = {name: value.clone() for name, value in watch.state_dict().items()}
    watch.look(gradient(LENGTHS * 3))
    assert all(torch.equal(value, before[name]) for name, value in watch.state_dict().items())


def test_counting_without_a_gradient_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"call look\(\) after backward"):
        UpdateWatch(5, 0.1).count(SHOWN)


def test_a_threshold_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"update_threshold is 1\.0"):
        UpdateWatch(5, 1.0)
