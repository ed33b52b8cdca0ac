import math

import numpy as np
import pytest
import torch

from smalldata_vit.parts.mixing import Mixing, box_mask
from smalldata_vit.schedules import Progress

EVEN, ODD = Progress(4, 100, 2), Progress(7, 100, 2)


class Scripted(np.random.Generator):
    """A generator that gives the numbers it was told to."""

    def __init__(self, chances: list[float], share: float, centre: list[float]) -> None:
        super().__init__(np.random.Philox(0))
        self.uniform, self.share = [chances, centre], share

    def random(self, *_: object) -> np.ndarray:
        return np.array(self.uniform.pop(0))

    def beta(self, *_: object) -> float:
        return self.share


def kind_of(weight: np.ndarray) -> str:
    if weight.max() == 0:
        return "none"
    return "mixup" if weight.min() == weight.max() else "cutmix"


def boxed_share(height: int, width: int, row: int, column: int, share: float) -> float:
    """CutMix's λ as Gani et al. compute it, a pixel counted at a time."""
    cut_rows, cut_columns = int(height * math.sqrt(1 - share)), int(width * math.sqrt(1 - share))
    inside = 0
    for y in range(height):
        for x in range(width):
            in_rows = max(row - cut_rows // 2, 0) <= y < min(row + cut_rows // 2, height)
            inside += in_rows and max(column - cut_columns // 2, 0) <= x < min(column + cut_columns // 2, width)
    return 1 - inside / (height * width)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.37, 0.75, 0.999])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 14)])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.5, 0.3), (0.99, 0.999)])
def test_the_box_and_its_share_are_those_of_the_formula(
    share: float, height: int, width: int, centre: tuple[float, float]
) -> None:
    mask = box_mask(np.array(centre), share, height, width)
    expected = boxed_share(height, width, int(centre[0] * height), int(centre[1] * width), share)
    assert 1 - mask.mean(dtype=np.float64) == pytest.approx(expected)
    assert set(np.unique(mask)) <= {0.0, 1.0}


def test_cutmix_takes_the_boxs_pixels_from_the_partner_exactly() -> None:
    image = torch.randn(6, 3, 8, 8)
    mixed = Mixing(1.0, 1.0, 1.0, cutmix_share=1.0)(image, 3, 0, EVEN)
    kept = (mixed.image == image).all(1)
    assert bool((kept | (mixed.image == image[mixed.partner]).all(1)).all())
    strangers = mixed.partner != torch.arange(6)
    torch.testing.assert_close(kept[strangers].float().mean(), mixed.share)
    assert sorted(mixed.partner.tolist()) == list(range(6))


def test_mixup_is_the_weighted_mean_of_both_images() -> None:
    image = torch.randn(6, 3, 8, 8)
    mixed = Mixing(1.0, 1.0, 1.0, cutmix_share=0.0)(image, 0, 0, EVEN)
    torch.testing.assert_close(mixed.image, mixed.share * image + (1 - mixed.share) * image[mixed.partner])


def test_without_luck_images_are_left_alone() -> None:
    image = torch.randn(4, 3, 8, 8)
    mixed = Mixing(0.0, 1.0, 1.0)(image, 0, 0, EVEN)
    assert torch.equal(mixed.image, image)
    assert float(mixed.share) == 1.0


@pytest.mark.parametrize("progress", [EVEN, ODD])
def test_the_parity_of_the_epoch_chooses_between_mixup_and_cutmix(progress: Progress) -> None:
    script = Scripted([0.0, 0.9 if progress is ODD else 0.1], share=0.75, centre=[0.5, 0.5])
    _, weight = Mixing(1.0, 1.0, 1.0, switch="epoch_parity").draw(script, 4, 16, 16, progress)
    assert kind_of(weight) == ("mixup" if progress is EVEN else "cutmix")


@pytest.mark.parametrize(("mixes", "cuts", "kind"), [(0.6, 0.1, "none"), (0.4, 0.1, "cutmix"), (0.4, 0.7, "mixup")])
def test_half_of_the_forwards_are_mixed_and_half_of_those_cut(mixes: float, cuts: float, kind: str) -> None:
    script = Scripted([mixes, cuts], share=0.75, centre=[0.5, 0.5])
    _, weight = Mixing(0.5, 1.0, 1.0).draw(script, 4, 8, 8, EVEN)
    assert kind_of(weight) == kind


@pytest.mark.parametrize(("fold", "expected"), [(False, 0.2), (True, 0.8)])
def test_folding_keeps_the_image_the_larger_part(fold: bool, expected: float) -> None:
    script = Scripted([0.0, 0.9], share=0.2, centre=[])
    _, weight = Mixing(1.0, 1.0, 1.0, fold=fold).draw(script, 4, 8, 8, EVEN)
    np.testing.assert_allclose(1 - weight, expected, rtol=1e-6)


def test_draws_follow_the_stated_chances() -> None:
    mixing, counts = Mixing(0.5, 1.0, 1.0), {"none": 0, "mixup": 0, "cutmix": 0}
    generator = np.random.default_rng(0)
    for _ in range(4000):
        _, weight = mixing.draw(generator, 2, 64, 64, EVEN)
        counts[kind_of(weight)] += 1
    # A box can be empty; that happens in under 2 % of the cuts at this size.
    assert counts["mixup"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert counts["cutmix"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_groups_of_views_are_mixed_independently() -> None:
    image, mixing = torch.randn(8, 3, 8, 8), Mixing(1.0, 1.0, 1.0)
    assert not torch.equal(mixing(image, 0, 0, EVEN).image, mixing(image, 0, 1, EVEN).image)


def test_a_chance_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"probability is 1\.5"):
        Mixing(1.5, 1.0, 1.0)
