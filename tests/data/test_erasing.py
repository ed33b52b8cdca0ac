import random

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest
from timm.data.random_erasing import RandomErasing as Timms
from torchvision.transforms import RandomErasing as Torchvisions

from smalldata_vit.data.erasing import RandomErasing, normal_noise

MEAN, STD = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.tensor([0.2, 0.25, 0.3])[:, None, None]


def drawn(erasing, count, size=32, seed=0):
    return erasing.draw(np.random.default_rng(seed).random((count, 1, erasing.numbers)), size)


def test_rectangles_have_torchvisions_distribution():
    n, scale, ratio = 20_000, (0.02, 0.33), (0.3, 3.3)
    boxes = drawn(RandomErasing(1.0, scale, ratio, "mean"), n)["box"][:, 0, 0].double()
    picture = torch.empty(3, 32, 32)
    torch.manual_seed(0)
    theirs = torch.tensor([Torchvisions.get_params(picture, scale, ratio)[:4] for _ in range(n)]).double()
    for a, b in zip(boxes.unbind(1), theirs.unbind(1), strict=True):
        assert ks_2samp(a.numpy(), b.numpy(), method="asymp").statistic < 0.0163  # 1 % critical value at n = 20,000


def test_ganis_rectangles_have_the_distribution_of_their_loop():
    n, size = 20_000, 32
    erasing = RandomErasing(1.0, (0.02, 0.4), (0.3, 1 / 0.3), "unnormalised_mean", tries=100, shape="uniform")
    boxes = drawn(erasing, n)["box"][:, 0, 0].double().numpy()
    generator, theirs = np.random.default_rng(1), np.zeros((n, 4))
    for i in range(n):
        for _ in range(100):
            area, ratio = generator.uniform(0.02, 0.4) * size * size, generator.uniform(0.3, 1 / 0.3)
            height, width = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if width < size and height < size:
                top, left = generator.integers(0, size - height + 1), generator.integers(0, size - width + 1)
                theirs[i] = top, left, height, width
                break
    for column in range(4):
        assert ks_2samp(boxes[:, column], theirs[:, column], method="asymp").statistic < 0.0163


@pytest.mark.parametrize(
    ("fill", "value"), [("black", -MEAN / STD), ("mean", torch.zeros(3, 1, 1)), ("unnormalised_mean", MEAN)]
)
def test_a_rectangle_is_filled_and_the_rest_stays(fill, value):
    erasing, images = RandomErasing(0.5, (0.02, 0.4), (0.3, 3.3), fill), torch.randn(40, 3, 32, 32)
    some = {key: v.flatten(0, 1) for key, v in drawn(erasing, 40).items()}
    made = erasing(images.clone(), some, MEAN, STD)
    for image, box, before in zip(made, some["box"][:, 0].tolist(), images, strict=True):
        top, left, height, width = box
        expected = before.clone()
        expected[:, top : top + height, left : left + width] = value
        assert torch.equal(image, expected)
    assert 10 < sum(box[2] > 0 for box in some["box"][:, 0].tolist()) < 30


def test_noise_is_standard_normal_differs_between_views_and_is_a_function_of_its_seed():
    seeds = torch.arange(20)
    noise = normal_noise(seeds, 32)
    assert kstest(noise.double().flatten().numpy(), "norm").statistic < 1.63 / noise.numel() ** 0.5
    correlation = torch.corrcoef(noise.flatten(1)) - torch.eye(20)
    assert correlation.abs().max() < 5 / (3 * 32 * 32) ** 0.5
    assert torch.equal(normal_noise(seeds[7:9], 32), noise[7:9])


def test_noise_fills_the_rectangle_alone():
    erasing, images = RandomErasing(1.0, (0.1, 0.2), (0.5, 2.0), "noise"), torch.full((4, 3, 16, 16), 9.0)
    some = {key: v.flatten(0, 1) for key, v in drawn(erasing, 4, 16).items()}
    made = erasing(images, some, MEAN, STD)
    areas = [height * width * 3 for _, _, height, width in some["box"][:, 0].tolist()]
    assert (made != 9).flatten(1).sum(1).tolist() == areas


def timms_boxes(n, size, count):
    """The rectangles of timm's loop, (n, 4) for one in a view; its noise is replaced by a mark to read them from."""
    theirs = Timms(1.0, 0.02, 0.33, 0.3, 3.3, mode="pixel", min_count=count, max_count=count, device="cpu")
    random.seed(0)
    boxes = []
    for _ in range(n):
        image = torch.full((1, size, size), torch.nan)
        theirs(image)
        rows, columns = torch.isfinite(image[0]).nonzero().unbind(1)
        boxes.append([rows.min(), columns.min(), rows.max() - rows.min() + 1, columns.max() - columns.min() + 1])
    return np.array(boxes, dtype=float)


def test_rectangles_have_timms_distribution():
    n = 10_000
    boxes = drawn(RandomErasing(1.0, (0.02, 0.33), (0.3, 3.3), "noise"), n)["box"][:, 0, 0].double().numpy()
    for ours, theirs in zip(boxes.T, timms_boxes(n, 32, 1).T, strict=True):
        assert ks_2samp(ours, theirs, method="asymp").statistic < 0.0231  # 1 % critical value at n = 10,000


def test_several_rectangles_share_the_area_and_every_count_is_equally_likely():
    n = 20_000
    some = drawn(RandomErasing(1.0, (0.3, 0.3), (1.0, 1.0), "noise", count=(1, 3)), n, size=64)["box"][:, 0]
    counts = (some[..., 2] > 0).sum(1)
    assert abs(np.bincount(counts.numpy(), minlength=4)[1:] - n / 3).max() < 4.5 * (n * 2 / 9) ** 0.5
    for count in (1, 2, 3):
        side = round((64 * 64 * 0.3 / count) ** 0.5)
        assert (some[counts == count][:, :count, 2:] == side).all()


def test_later_rectangles_lie_over_earlier_ones_each_with_noise_of_its_own():
    erasing, images = RandomErasing(1.0, (0.5, 0.5), (1.0, 1.0), "noise", count=(3, 3)), torch.full((4, 3, 16, 16), 9.0)
    some = {key: v.flatten(0, 1) for key, v in drawn(erasing, 4, 16).items()}
    made, expected = erasing(images, some, MEAN, STD), images.clone()
    for i in range(4):
        for box, seed in zip(some["box"][i].tolist(), some["seed"][i], strict=True):
            top, left, height, width = box
            there = (slice(None), slice(top, top + height), slice(left, left + width))
            expected[i][there] = normal_noise(seed[None], 16)[0][there]
    assert torch.equal(made, expected)


def test_a_rectangle_of_one_colour_has_it_in_all_of_its_pixels():
    erasing, images = RandomErasing(1.0, (0.3, 0.5), (1.0, 1.0), "colour"), torch.full((400, 3, 8, 8), 9.0)
    some = {key: v.flatten(0, 1) for key, v in drawn(erasing, 400, 8).items()}
    colours = []
    for image, box in zip(erasing(images, some, MEAN, STD), some["box"][:, 0].tolist(), strict=True):
        top, left, height, width = box
        inside = image[:, top : top + height, left : left + width].flatten(1)
        assert (inside == inside[:, :1]).all()
        colours.append(inside[:, 0])
    assert kstest(torch.cat(colours).double().numpy(), "norm").pvalue > 1e-3


def test_a_count_of_rectangles_below_one_is_refused():
    with pytest.raises(ValueError, match=r"count=\[0, 2\]"):
        RandomErasing(1.0, (0.1, 0.2), (0.5, 2.0), "noise", count=(0, 2))
