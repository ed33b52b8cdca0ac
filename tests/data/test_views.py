from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms.functional import pil_to_tensor

from smalldata_vit.data.blur import GaussianBlur
from smalldata_vit.data.colour import ColourJitter, Solarize
from smalldata_vit.data.crops import PaddedCrop, RandomResizedCrop
from smalldata_vit.data.erasing import RandomErasing
from smalldata_vit.data.groups import ViewGroup
from smalldata_vit.data.policies import AutoAugment
from smalldata_vit.data.rotation import Rotation
from smalldata_vit.data.views import AugmentedViews, PlainView

CONF = Path(__file__).parents[2] / "conf" / "views"
STATISTICS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def pictures(count, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)
    return made.permute(0, 3, 1, 2)


def sizes(images):
    return torch.tensor([p.shape[-2] for p in images]), torch.tensor([p.shape[-1] for p in images])


def views_of(name, image_size=32):
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all")(image_size=image_size, **STATISTICS)


def everything(image_size=32):
    """Every operation at once."""
    group = ViewGroup(
        count=2,
        crop=RandomResizedCrop([0.3, 1.0], [0.75, 1.33], "bicubic"),
        size_ratio=1.0,
        flip=0.5,
        rotation=Rotation(20, 0.5),
        jitter=ColourJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        gray=[0.2, 0.3],
        blur=GaussianBlur([1.0, 0.1], [0.1, 2.0]),
        solarize=Solarize([0.0, 0.2], 128),
        policy=AutoAugment("CIFAR10", fill=128),
        erasing=RandomErasing(0.5, [0.02, 0.4], [0.3, 3.3], "noise"),
    )
    return AugmentedViews({"global": group}, image_size, **STATISTICS)


def slices(views, images, drawn, size):
    """The same global batch in passes, put together again."""
    passes = [
        views(images[first : first + size], drawn.take(slice(first, first + size)))[0]
        for first in range(0, len(images), size)
    ]
    return [torch.cat(group) for group in zip(*passes, strict=True)]


NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


@pytest.mark.parametrize("make", [*(partial(views_of, name) for name in NAMES), everything], ids=[*NAMES, "everything"])
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


def test_views_are_the_same_bits_with_another_number_of_threads():
    views, images = everything(), pictures(64)
    drawn = views.draw(0, 5, *sizes(images))
    before = torch.get_num_threads()
    try:
        made = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(views(images, drawn)[0][0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*made)


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


def test_a_plain_view_of_training_is_the_normalised_picture():
    views, images = views_of("plain"), pictures(5)
    made = views(images, views.draw(0, 0, *sizes(images)))[0][0][:, 0]
    mean, std = (torch.tensor(STATISTICS[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(made, (images.float() / 255 - mean) / std, atol=1e-6, rtol=1e-6)


def test_multicrop_has_two_views_of_full_and_eight_of_half_size():
    views, images = views_of("multicrop"), pictures(3)
    made, boxes, _ = views(images, views.draw(0, 0, *sizes(images)))
    assert [tuple(group.shape) for group in made] == [(3, 2, 3, 32, 32), (3, 8, 3, 16, 16)]
    areas = [box[..., 2:].prod(-1) / 32**2 for box in boxes]
    assert areas[0].min() > 0.65
    assert areas[1].max() < 0.55


def test_the_global_views_of_multicrop_differ_in_blur_and_solarize():
    drawn = views_of("multicrop").draw(0, 0, *[torch.full((20_000,), 32)] * 2).groups
    assert drawn[0]["blur"]["on"].double().mean(0).tolist() == pytest.approx([1.0, 0.1], abs=0.01)
    assert drawn[0]["solarize"]["on"].double().mean(0).tolist() == pytest.approx([0.0, 0.2], abs=0.012)
    assert drawn[1]["blur"]["on"].double().mean().item() == pytest.approx(0.5, abs=0.005)
    assert drawn[0]["crop"]["flip"].double().mean().item() == pytest.approx(0.5, abs=0.01)
    assert drawn[0]["gray"]["on"].double().mean().item() == pytest.approx(0.2, abs=0.01)


def test_a_mirrored_view_is_the_mirror_image_of_the_same_box():
    crop = RandomResizedCrop([0.3, 1.0], [0.75, 1.33], "bicubic")
    images, made = pictures(6), []
    for flip in (0.0, 1.0):
        views = AugmentedViews({"global": ViewGroup(1, crop, size=24, flip=flip)}, 32, **STATISTICS)
        made.append(views(images, views.draw(0, 0, *sizes(images)))[0][0])
    torch.testing.assert_close(made[0].flip(-1), made[1], atol=1e-5, rtol=0)


def test_autocast_does_not_reach_the_views():
    views, images = everything(), pictures(8)
    drawn = views.draw(0, 5, *sizes(images))
    with torch.autocast("cpu", torch.bfloat16):
        inside = views(images, drawn)[0][0]
    assert inside.dtype == torch.float32
    assert torch.equal(inside, views(images, drawn)[0][0])


def test_a_low_precision_of_matrix_products_does_not_reach_the_views_and_is_put_back():
    views, images = everything(), pictures(8)
    drawn = views.draw(0, 5, *sizes(images))
    expected = views(images, drawn)[0][0]
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(views(images, drawn)[0][0], expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_pictures_stay_as_they_were():
    views, images = everything(), pictures(8)
    views(images, views.draw(0, 5, *sizes(images)))
    assert torch.equal(images, pictures(8))


def test_a_group_of_no_views_is_left_out():
    groups = {"global": ViewGroup(2, PaddedCrop(0), size=8), "local": ViewGroup(0, PaddedCrop(0), size=8)}
    views = AugmentedViews(groups, 8, **STATISTICS)
    assert len(views(pictures(2, 8, 8), views.draw(0, 0, *sizes(pictures(2, 8, 8))))[0]) == 1


def test_misfits_are_refused_when_the_views_are_built():
    crop = PaddedCrop(0)
    with pytest.raises(ValueError, match=r"size_ratio=0.5 of image_size=9 is 4.5 pixels"):
        AugmentedViews({"local": ViewGroup(1, crop, size_ratio=0.5)}, 9, **STATISTICS)
    with pytest.raises(ValueError, match="names 3 views, but the group has 2"):
        AugmentedViews({"global": ViewGroup(2, crop, size=8, flip=[0.5, 0.5, 0.5])}, 8, **STATISTICS)
    with pytest.raises(ValueError, match="exactly one of them"):
        ViewGroup(1, crop)
    with pytest.raises(ValueError, match="all have count=0"):
        AugmentedViews({"global": ViewGroup(0, crop, size=8)}, 8, **STATISTICS)
    with pytest.raises(ValueError, match="three channels"):
        AugmentedViews({"global": ViewGroup(1, crop, size=8)}, 8, mean=[0.5], std=[0.5])


def test_choices_for_another_number_of_pictures_are_refused():
    views = everything()
    with pytest.raises(ValueError, match="4 pictures, but choices were drawn for 5"):
        views(pictures(4), views.draw(0, 0, *sizes(pictures(5))))


@pytest.mark.parametrize("mode", ["squash", "shorter"])
@pytest.mark.parametrize(
    ("interpolation", "theirs"), [("bicubic", InterpolationMode.BICUBIC), ("bilinear", InterpolationMode.BILINEAR)]
)
@pytest.mark.parametrize("ratio", [1.0, 256 / 224])
def test_evaluation_sees_torchvisions_resize_and_centre_crop_of_a_pillow_image(mode, interpolation, theirs, ratio):
    view = PlainView(28, **STATISTICS, resize_ratio=ratio, interpolation=interpolation, mode=mode)
    images = [pictures(1, 40, 61)[0], pictures(1, 61, 40)[0], pictures(1, 28, 28)[0], pictures(1, 20, 20)[0]]
    before = round(28 * ratio)
    resize = Resize((before, before) if mode == "squash" else before, theirs, antialias=True)
    mean, std = (torch.tensor(STATISTICS[key])[:, None, None] for key in ("mean", "std"))
    for image, made in zip(images, view(images), strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = pil_to_tensor(CenterCrop(28)(resize(picture))).float() / 255
        assert ((made * std + mean) - expected).abs().max() * 255 < 1.01  # weights in fixed point
    assert np.array_equal(view(torch.stack(images[:1] * 2))[1], view(images)[0])
