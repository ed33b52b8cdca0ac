import torch
from torch.utils._python_dispatch import TorchDispatchMode
from view_samples import pictures

from smalldata_vit.contracts import Ragged
from smalldata_vit.data.crops import PaddedCrop, RandomResizedCrop
from smalldata_vit.data.resampling import resize_crops

SIZES = [(20, 33), (70, 41), (32, 32), (9, 64)]


def ragged(images):
    """Pictures in one buffer, behind some bytes that are no picture's."""
    flat = [image.permute(1, 2, 0).flatten() for image in images]
    ends = torch.tensor([len(f) for f in flat]).cumsum(0) + 5
    begins = ends - torch.tensor([len(f) for f in flat])
    heights, widths = (torch.tensor([image.shape[side] for image in images]) for side in (1, 2))
    longest = int(max(heights.max(), widths.max()))
    return Ragged(torch.cat([torch.full((5,), 7, dtype=torch.uint8), *flat]), begins, heights, widths, longest)


def some(sizes=SIZES, views=3, size=16, interpolation="bicubic"):
    images = [pictures(1, *each, seed=i)[0] for i, each in enumerate(sizes)]
    crop = RandomResizedCrop([0.1, 1.0], [0.75, 1.33], interpolation)
    uniform = torch.rand(len(images), views, crop.numbers, generator=torch.Generator().manual_seed(0)).double().numpy()
    heights, widths = (torch.tensor([each[side] for each in sizes]).numpy() for side in (0, 1))
    boxes = crop.draw(uniform, heights, widths, size)
    return crop, images, boxes, torch.arange(len(images) * views).reshape(len(images), views) % 2 == 0


def check_against_matrices(size, interpolation):
    crop, images, boxes, flips = some(size=size, interpolation=interpolation)
    made = crop(ragged(images), boxes, flips, size).unflatten(0, (len(images), -1))
    for i, image in enumerate(images):
        alone = resize_crops(image[None], boxes[i : i + 1], flips[i : i + 1], size, interpolation)
        torch.testing.assert_close(made[i], alone, atol=3e-6, rtol=0)


def test_crops_gathered_from_one_buffer_are_those_of_each_picture_alone():
    check_against_matrices(16, "bicubic")


def test_bilinear_crops_gathered_from_one_buffer_are_those_of_each_picture_alone():
    check_against_matrices(16, "bilinear")


def test_enlarged_crops_gathered_from_one_buffer_are_those_of_each_picture_alone():
    check_against_matrices(80, "bicubic")


def test_a_slice_of_ragged_pictures_is_those_pictures():
    crop, images, boxes, flips = some()
    whole = crop(ragged(images), boxes, flips, 16)
    assert torch.equal(crop(ragged(images)[1:3], boxes[1:3], flips[1:3], 16), whole[3:9])


def test_a_padded_crop_of_ragged_pictures_is_that_of_a_list_within_rounding():
    crop, (_, images, boxes, flips) = PaddedCrop(padding=2), some(views=2)
    boxes = torch.stack(
        [torch.zeros(4, 2), torch.ones(4, 2), *torch.tensor(SIZES)[:, :, None].expand(-1, -1, 2).unbind(1)], 2
    )
    made = crop(ragged(images), boxes, flips, 16).int()
    listed = crop(images, boxes, flips, 16).int()
    assert (made - listed).abs().max() <= 9  # a cubic resize in 8 bits clips between its two passes
    assert (made - listed).abs().double().mean() < 0.5


class Counted(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_the_number_of_operations_does_not_grow_with_that_of_pictures():
    counts = []
    for sizes in (SIZES[1:2], SIZES * 3):
        crop, images, boxes, flips = some(sizes)
        buffer = ragged(images)
        with Counted() as counted:
            crop(buffer, boxes, flips, 16)
        counts.append(counted.count)
    assert counts[0] == counts[1]
