import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms.functional import pil_to_tensor
from view_samples import STATISTICS, everything, pictures, sizes, views_of

from smalldata_vit.data.crops import PaddedCrop, RandomResizedCrop
from smalldata_vit.data.groups import ViewGroup
from smalldata_vit.data.views import AugmentedViews, PlainView


def test_a_plain_view_of_training_is_the_normalised_picture():
    views, images = views_of("plain"), pictures(5)
    made = views(images, views.draw(0, 0, *sizes(images)))[0][0][:, 0]
    mean, std = (torch.tensor(STATISTICS[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(made, (images.float() / 255 - mean) / std, atol=1e-6, rtol=1e-6)


OWN = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}


def test_a_stages_own_statistics_go_before_the_datasets_one_by_one():
    group, images = ViewGroup(1, PaddedCrop(0), size=8), pictures(3, 8, 8)
    for own in ({}, {"std": OWN["std"]}, OWN):
        used = STATISTICS | own
        dataset = {f"dataset_{key}": value for key, value in STATISTICS.items()}
        views = AugmentedViews({"global": group}, 8, **dataset, **own)
        made = views(images, views.draw(0, 0, *sizes(images)))[0][0][:, 0]
        mean, std = (torch.tensor(used[key])[:, None, None] for key in ("mean", "std"))
        torch.testing.assert_close(made, (images.float() / 255 - mean) / std, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(PlainView(8, **dataset, **own)(images), made, atol=1e-6, rtol=1e-6)


def test_statistics_that_are_missing_or_wrong_are_refused():
    with pytest.raises(ValueError, match="mean=null, and no dataset gave its own"):
        PlainView(8, dataset_std=[1, 1, 1])
    with pytest.raises(ValueError, match="must be more than 0 everywhere"):
        PlainView(8, mean=[0, 0, 0], std=[1, 0, 1])


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
    ("interpolation", "theirs", "most"),
    [("bicubic", InterpolationMode.BICUBIC, 9), ("bilinear", InterpolationMode.BILINEAR, 1)],
)
@pytest.mark.parametrize("ratio", [1.0, 256 / 224])
def test_evaluation_sees_torchvisions_resize_and_centre_crop_of_a_pillow_image(
    mode, interpolation, theirs, most, ratio
):
    view = PlainView(28, **STATISTICS, resize_ratio=ratio, interpolation=interpolation, mode=mode)
    images = [pictures(1, *size)[0] for size in ((40, 61), (61, 40), (28, 28), (20, 20))]
    before = round(28 * ratio)
    resize = Resize((before, before) if mode == "squash" else before, theirs, antialias=True)
    mean, std = (torch.tensor(STATISTICS[key])[:, None, None] for key in ("mean", "std"))
    for image, made in zip(images, view(images), strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = pil_to_tensor(CenterCrop(28)(resize(picture))).float() / 255
        difference = (made * std + mean - expected).abs() * 255
        assert difference.max() < most + 0.01  # cubic overshoots are clipped between two passes of either order
        assert difference.mean() < 0.5


def test_evaluation_sees_each_picture_alone():
    view = PlainView(16, **STATISTICS, mode="shorter")
    images = pictures(5, 40, 28)
    assert torch.equal(view(images)[2:3], view(images[2:3]))
    assert torch.equal(view(list(images)), view(images))
