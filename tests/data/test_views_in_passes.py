from functools import partial

import pytest
import torch
from view_samples import NAMES, STATISTICS, everything, pictures, sizes, slices, views_of

from smalldata_vit.data.blur import GaussianBlur
from smalldata_vit.data.crops import RandomResizedCrop
from smalldata_vit.data.groups import ViewGroup
from smalldata_vit.data.views import AugmentedViews

MAKERS = [*(partial(views_of, name) for name in NAMES), everything]


@pytest.mark.parametrize("make", MAKERS, ids=[*NAMES, "everything"])
def test_views_are_the_same_bits_however_a_batch_is_cut_into_passes(make):
    views, images = make(), pictures(64)
    drawn = views.draw(0, 5, *sizes(images))
    whole, boxes, flips = views(images, drawn)
    for size in (16, 1, 7):
        for a, b in zip(slices(views, images, drawn, size), whole, strict=True):
            assert torch.equal(a, b)
    for group, box, flip in zip(whole, boxes, flips, strict=True):
        assert group.shape[:3] == (64, box.shape[1], 3)
        assert group.dtype == torch.float32
        assert torch.isfinite(group).all()
        assert box.shape == (64, flip.shape[1], 4)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_also_makes_views_of_8_pixels(name):
    views, images = views_of(name, image_size=8), pictures(4, 8, 8)
    made = views(images, views.draw(0, 0, *sizes(images)))[0]
    assert made[0].shape[3:] == (8, 8)
    assert all(torch.isfinite(group).all() for group in made)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", MAKERS, ids=[*NAMES, "everything"])
def test_a_gpu_makes_the_views_of_the_cpu(make):
    views, images, device = make(), pictures(64), torch.device("cuda")
    drawn = views.draw(0, 5, *sizes(images))
    there = views(images.to(device), drawn.to(device))[0]
    for here, group in zip(views(images, drawn)[0], there, strict=True):
        different = (here - group.cpu()).abs() > 1e-4
        # Where a value lies on the edge of an 8-bit step (policies) or of solarize, one rounding decides.
        assert different.double().mean() < 2e-3


def test_views_are_the_same_bits_with_another_number_of_threads():
    views, images = everything(), pictures(12)
    drawn = views.draw(0, 5, *sizes(images))
    before = torch.get_num_threads()
    try:
        made = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made += [views(images, drawn)[0][0], slices(views, images, drawn, 3)[0]]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(made[0], other) for other in made[1:])


def test_a_ragged_batch_is_the_same_bits_however_it_is_cut():
    views = everything()
    images = [pictures(1, 20 + 3 * i, 50 - 2 * i, seed=i)[0] for i in range(8)]
    drawn = views.draw(0, 5, *sizes(images))
    whole = views(images, drawn)[0][0]
    assert torch.equal(slices(views, images, drawn, 3)[0], whole)


def test_choices_are_a_function_of_seed_step_and_place_alone():
    views = everything()
    whole = views.draw(3, 10, torch.full((64,), 32), torch.full((64,), 32))
    half = views.draw(3, 10, torch.full((20,), 32), torch.full((20,), 32))
    for name, choices in whole.take(slice(0, 20)).groups[0].items():
        for key, value in choices.items():
            assert torch.equal(value, half.groups[0][name][key])
    for other in (views.draw(4, 10, *[torch.full((64,), 32)] * 2), views.draw(3, 11, *[torch.full((64,), 32)] * 2)):
        assert not torch.equal(other.groups[0]["crop"]["box"], whole.groups[0]["crop"]["box"])


def test_switching_one_operation_off_leaves_the_choices_of_the_others():
    crop = RandomResizedCrop([0.3, 1.0], [0.75, 1.33], "bicubic")
    groups = [ViewGroup(2, crop, size=16, flip=0.5, blur=blur) for blur in (None, GaussianBlur(1.0, [1, 2]))]
    plain, blurry = (
        AugmentedViews({"global": group}, 32, **STATISTICS).draw(0, 0, *sizes(pictures(9))).groups[0]
        for group in groups
    )
    assert torch.equal(plain["crop"]["box"], blurry["crop"]["box"])
    assert torch.equal(plain["crop"]["flip"], blurry["crop"]["flip"])
