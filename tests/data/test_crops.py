import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop as Torchvisions

from smalldata_vit.data.crops import PaddedCrop, RandomResizedCrop, resize_one_by_one, values
from smalldata_vit.data.resampling import resize_crops


def pictures(count, height, width, seed=0):
    """Smooth pictures with sharp edges, as they lie in memory: channels last."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bilinear")
    smooth[:, :, height // 3 : height // 2] = 1 - smooth[:, :, height // 3 : height // 2]
    return (smooth * 255).round().to(torch.uint8).contiguous(memory_format=torch.channels_last)


def drawn(crop, heights, widths, views, size, seed=0):
    uniform = np.random.default_rng(seed).random((len(heights), views, crop.numbers))
    return crop.draw(uniform, np.array(heights), np.array(widths), size)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("source", "size"), [((32, 32), 32), ((32, 32), 16), ((40, 28), 24), ((8, 8), 8), ((8, 8), 20)]
)
def test_resized_crops_are_those_of_torchs_antialiased_resize(source, size, interpolation):
    crop = RandomResizedCrop([0.1, 1.0], [0.75, 1.33], interpolation)
    images, boxes = pictures(6, *source), drawn(crop, [source[0]] * 6, [source[1]] * 6, 3, size)
    flips = torch.arange(18).reshape(6, 3) % 2 == 0
    made = crop(images, boxes, flips, size).reshape(6, 3, 3, size, size)
    for i in range(6):
        for v in range(3):
            top, left, height, width = boxes[i, v].int().tolist()
            cut = images[i : i + 1, :, top : top + height, left : left + width].float() / 255
            expected = F.interpolate(cut, (size, size), mode=interpolation, antialias=True)[0].clamp(0, 1)
            expected = expected.flip(2) if flips[i, v] else expected
            torch.testing.assert_close(made[i, v], expected, atol=3e-6, rtol=0)


def test_resized_crops_are_pillows_but_for_its_rounding():
    crop = RandomResizedCrop([0.2, 1.0], [0.75, 1.33], "bicubic")
    images, boxes = pictures(8, 32, 32), drawn(crop, [32] * 8, [32] * 8, 1, 24)
    made = crop(images, boxes, torch.zeros(8, 1, dtype=torch.bool), 24) * 255
    for image, box, ours in zip(images, boxes, made, strict=True):
        top, left, height, width = box[0].tolist()
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        part = picture.crop((int(left), int(top), int(left + width), int(top + height)))
        theirs = torch.from_numpy(np.array(part.resize((24, 24), Image.Resampling.BICUBIC))).permute(2, 0, 1)
        difference = (ours - theirs).abs()
        assert difference.mean() < 0.5  # of 255
        assert difference.max() < 9  # where Pillow clips between its two passes


def test_large_pictures_are_resized_in_8_bits_to_the_same_views_within_rounding():
    crop = RandomResizedCrop([0.2, 1.0], [0.75, 1.33], "bicubic")
    images, boxes = pictures(3, 96, 80), drawn(crop, [96] * 3, [80] * 3, 2, 56)
    flips = torch.tensor([[True, False], [False, True], [True, True]])
    exact = resize_crops(images, boxes, flips, 56, "bicubic")
    rounded = crop(images, boxes, flips, 56)
    assert rounded.dtype == torch.uint8
    difference = (exact * 255 - rounded).abs()
    assert difference.mean() < 0.5
    assert difference.max() < 9


def test_a_ragged_list_gives_the_views_of_each_picture_alone():
    crop = RandomResizedCrop([0.2, 1.0], [0.75, 1.33], "bilinear")
    sizes = [(20, 33), (70, 41), (32, 32)]
    images = [pictures(1, *size, seed=i)[0] for i, size in enumerate(sizes)]
    boxes = drawn(crop, [h for h, _ in sizes], [w for _, w in sizes], 2, 16)
    flips = torch.tensor([[True, False], [False, True], [True, True]])
    together = crop(images, boxes, flips, 16).reshape(3, 2, 3, 16, 16)
    for i in range(3):
        alone = resize_one_by_one(images[i][None], boxes[i : i + 1], flips[i : i + 1], 16, "bilinear")
        assert torch.equal(together[i], alone)
        exact = resize_crops(images[i][None], boxes[i : i + 1], flips[i : i + 1], 16, "bilinear")
        assert (exact * 255 - together[i]).abs().max() < 1.01


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(32, 32, (0.2, 0.5)), (32, 32, (0.7, 1.0)), (40, 100, (0.3, 1.0)), (100, 30, (0.5, 1.0))],
)
def test_boxes_have_torchvisions_distribution_also_where_no_candidate_fits(height, width, scale):
    n, ratio = 20_000, (0.75, 4 / 3)
    boxes = drawn(RandomResizedCrop(scale, ratio, "bicubic"), [height] * n, [width] * n, 1, 32)[:, 0].double()
    picture = torch.empty(3, height, width)
    torch.manual_seed(0)
    theirs = torch.tensor([Torchvisions.get_params(picture, scale, ratio) for _ in range(n)]).double()
    for a, b in zip(quantities(boxes), quantities(theirs), strict=True):
        assert (
            ks_2samp(a.numpy(), b.numpy(), method="asymp").statistic < 0.0136
        )  # 5 % critical value of two samples of 20,000


def quantities(boxes):
    top, left, height, width = boxes.unbind(1)
    return top, left, height, width, height * width, width / height


def test_a_padded_crop_is_the_picture_moved_and_mirrored_over_black():
    crop, images = PaddedCrop(padding=4), pictures(40, 32, 32)
    boxes = drawn(crop, [32] * 40, [32] * 40, 2, 32)
    flips = torch.rand(40, 2, generator=torch.Generator().manual_seed(1)) < 0.5
    made = values(crop(images, boxes, flips, 32)).reshape(40, 2, 3, 32, 32)
    padded = F.pad(images, (4, 4, 4, 4)).float() / 255
    for i in range(40):
        for v in range(2):
            top, left = (int(x) + 4 for x in boxes[i, v, :2])
            expected = padded[i, :, top : top + 32, left : left + 32]
            assert torch.equal(made[i, v], expected.flip(2) if flips[i, v] else expected)


def test_every_shift_of_a_padded_crop_is_equally_likely():
    boxes = drawn(PaddedCrop(padding=2), [8] * 20_000, [8] * 20_000, 1, 8)[:, 0]
    counts = torch.unique((boxes[:, 0] + 2) * 5 + boxes[:, 1] + 2, return_counts=True)[1]
    assert len(counts) == 25
    assert (counts - 800).abs().max() < 4 * 28  # standard deviation of a count: 28


def test_a_padded_crop_takes_pictures_of_other_and_of_mixed_sizes():
    crop, flips = PaddedCrop(padding=2), torch.zeros(2, 1, dtype=torch.bool)
    boxes = drawn(crop, [40, 20], [20, 40], 1, 16)
    images = [pictures(1, 40, 20)[0], pictures(1, 20, 40)[0]]
    made = crop(images, boxes, flips, 16)
    assert made.shape == (2, 3, 16, 16)
    assert boxes[0, 0, 2:].tolist() == [40, 20]
    assert (boxes[0, 0, :2] * torch.tensor([16 / 40, 16 / 20])).tolist() == pytest.approx(
        (boxes[0, 0, :2] * torch.tensor([16 / 40, 16 / 20])).round().tolist()
    )


@pytest.mark.parametrize("scale", [[0.5], [0.9, 0.5], [0.5, 1.5]])
def test_a_scale_that_is_no_range_of_shares_is_refused(scale):
    with pytest.raises(ValueError, match="scale="):
        RandomResizedCrop(scale, [0.75, 1.33], "bicubic")
