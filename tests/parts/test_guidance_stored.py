"""A guide's stored maps, with a view's crop and flip replayed on them, against what the guide says of the view."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smalldata_vit.backbones.resnet_cifar import resnet_cifar
from smalldata_vit.backbones.vit import vit
from smalldata_vit.contracts import Batch, DataFacts
from smalldata_vit.methods.supervised import Supervised
from smalldata_vit.parts.guidance import Guidance
from smalldata_vit.parts.guidance_stored import StoredMaps
from smalldata_vit.parts.mixing import Mixing
from smalldata_vit.schedules import Constant, Progress

START = Progress(0, 20, 2)
FACTS = DataFacts(num_images=6, num_classes=5, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3)


def batch(views: Tensor, box: Any = (0, 0, 8, 8), flip: Any = False, index: Any = None) -> Batch:
    """Views (B, V, 3, H, W), all cut and mirrored alike unless told of each."""
    images, each = views.shape[:2]
    boxes = torch.tensor(box, dtype=torch.float32).expand(images, each, 4)
    flips = torch.tensor(flip).expand(images, each)
    index = torch.arange(images) if index is None else index
    return Batch([views], [boxes], [flips], index % 5, index, seed=0)


def pictures(count: int = 6, side: int = 8) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def stored(maps: list[Tensor], height: int = 8, width: int = 8) -> StoredMaps:
    return StoredMaps(maps, torch.tensor([[height, width]], dtype=torch.float32).expand(len(maps[0]), 2))


def pooled(images: Tensor) -> Tensor:
    """What a guide of one 2 x 2 mean gives."""
    return F.avg_pool2d(images, 2)


def guided(features: str = "stored", **changed: Any) -> Supervised:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"weight": Constant(2.5), "features": features, **changed}
    guidance = partial(Guidance, guide=partial(resnet_cifar, 8, 4), image_size=8, **settings)
    return Supervised(partial(vit, 8, 2, 12, 3, 3, 2, drop_path_rate=0.0), FACTS, guidance=guidance)


def test_without_crop_and_flip_the_stored_maps_give_the_loss_and_the_gradients_of_the_live_guide() -> None:
    live, kept, images = guided("live"), guided(), pictures()
    kept.guidance.stored = stored(kept.guidance.guide(images))
    some = torch.tensor([4, 0, 3])
    given = batch(images[some][:, None], index=some)
    for method in (live, kept):
        method(given, START).total.backward()
    torch.testing.assert_close(kept(given, START).terms["guidance"], live(given, START).terms["guidance"])
    for (name, one), other in zip(live.named_parameters(), kept.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    for mine, theirs in zip(kept.guidance.stored(given, 0), live.guidance.guide(images[some]), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_a_flip_gives_what_a_guide_that_pools_says_of_the_mirrored_view() -> None:
    images = pictures()
    (made,) = stored([pooled(images)])(batch(images[:, None], flip=True), 0)
    torch.testing.assert_close(made, pooled(images.flip(3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", [(0, 0, 4, 8), (4, 2, 4, 4), (2, 4, 6, 4), (0, 6, 8, 2)])
def test_a_box_that_ends_between_cells_gives_the_map_cut_and_then_resized(box: tuple[int, ...], flip: bool) -> None:
    images, (top, left, height, width) = pictures(), (side // 2 for side in box)
    (made,) = stored([pooled(images)])(batch(images[:, None], box, flip), 0)
    cut = pooled(images)[:, :, top : top + height, left : left + width]
    expected = F.interpolate(cut, size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(made, expected.flip(3) if flip else expected, rtol=1e-5, atol=1e-5)


def test_a_half_of_a_picture_gives_what_a_guide_that_pools_says_of_the_resized_half() -> None:
    """Exactly so for a guide and a resize that are linear: pixels are repeated, and cells grow by the same rule."""
    images = F.interpolate(pictures(side=2), scale_factor=4)
    (made,) = stored([F.avg_pool2d(images, 4)])(batch(images[:, None], (0, 0, 4, 8)), 0)
    view = F.interpolate(images[:, :, :4], size=(8, 8))
    torch.testing.assert_close(made, F.avg_pool2d(view, 4), rtol=1e-5, atol=1e-6)


def test_several_views_of_an_image_come_view_after_view_as_the_method_flattens_them() -> None:
    images = pictures()
    given = batch(images[:, None].expand(-1, 2, -1, -1, -1), flip=[[False, True]])
    (made,) = stored([pooled(images)])(given, 0)
    torch.testing.assert_close(made, torch.cat([pooled(images), pooled(images.flip(3))]), rtol=1e-5, atol=1e-6)


def test_boxes_are_shares_of_pictures_that_are_larger_than_what_the_guide_saw() -> None:
    images = pictures()
    (made,) = stored([pooled(images)], height=64, width=16)(batch(images[:, None], (32, 0, 32, 16)), 0)
    expected = F.interpolate(pooled(images)[:, :, 2:], size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_a_box_within_a_cell_gives_one_value_everywhere() -> None:
    images = pictures()
    (made,) = stored([pooled(images)])(batch(images[:, None], (2.5, 2.5, 1, 1)), 0)
    torch.testing.assert_close(made, pooled(images)[:, :, 1:2, 1:2].expand_as(made), rtol=1e-5, atol=1e-5)


def test_what_lies_outside_a_picture_is_the_edge_of_its_map() -> None:
    images = pictures()
    (made,) = stored([pooled(images)])(batch(images[:, None], (-2, 0, 8, 8)), 0)
    maps = pooled(images)
    torch.testing.assert_close(made, torch.cat([maps[:, :, :1], maps[:, :, :3]], 2), rtol=1e-5, atol=1e-5)


def test_while_the_weight_is_0_the_maps_are_not_read() -> None:
    assert guided(weight=Constant(0.0))(batch(pictures()[:, None]), START).terms["guidance"].item() == 0.0


def test_maps_that_nobody_computed_are_missed_with_a_sentence() -> None:
    with pytest.raises(RuntimeError, match="were not computed before training"):
        guided()(batch(pictures()[:, None]), START)


def test_a_guide_whose_maps_depend_on_the_pass_is_refused() -> None:
    with pytest.raises(ValueError, match=r"guidance\.bn_mode=eval"):
        guided(bn_mode="train")


def test_blends_of_images_are_refused() -> None:
    guidance = partial(Guidance, guide=partial(resnet_cifar, 8, 4), image_size=8, weight=Constant(1), features="stored")
    with pytest.raises(ValueError, match=r"method\.mixing=null"):
        Supervised(partial(vit, 8, 2, 12, 3, 3, 2, 0.0), FACTS, mixing=Mixing(1.0, 1.0, 1.0), guidance=guidance)


def test_a_pause_is_unguided_and_ends() -> None:
    guidance = guided("live").guidance
    with guidance.paused():
        assert guidance.weight(START) == 0.0
    assert guidance.weight(START) == 2.5
