"""Mirroring after the policy: IDMM's order, where the crop's own mirroring is everybody else's."""

import pytest
import torch
from test_view_forms import NoHostReads, differences, fixed
from view_samples import STATISTICS, pictures, sizes

from smalldata_vit.data.crops import RandomResizedCrop
from smalldata_vit.data.erasing import RandomErasing
from smalldata_vit.data.groups import ViewGroup
from smalldata_vit.data.policies_uda import UDARandAugment
from smalldata_vit.data.views import AugmentedViews

IMAGES = pictures(12)


def views(flip, last, policy=True, erasing=None):
    uda = UDARandAugment(1.0, [128, 128, 128], [125, 122, 113]) if policy else None
    crop = RandomResizedCrop([0.3, 1.0], [0.75, 1.33], "bicubic")
    group = ViewGroup(2, crop, size=24, flip=flip, policy=uda, erasing=erasing, flip_last=last)
    return AugmentedViews({"whole": group}, 24, **STATISTICS)


def made(**given):
    some = views(**given)
    return some(IMAGES, some.draw(0, 3, *sizes(IMAGES)))[0][0]


def test_a_view_that_is_mirrored_last_is_the_mirror_image_of_what_the_policy_made():
    assert torch.equal(made(flip=1.0, last=True), made(flip=0.0, last=True).flip(-1))


def test_a_view_that_is_mirrored_first_is_not_as_rotations_and_shears_keep_their_sign():
    apart = (made(flip=1.0, last=False) - made(flip=0.0, last=False).flip(-1)).abs()
    assert (apart.amax((2, 3, 4)) > 0.1).any()


def test_the_same_views_are_mirrored_in_either_order():
    drawn = [views(flip=0.5, last=last).draw(0, 3, *sizes(IMAGES)).groups[0]["crop"]["flip"] for last in (False, True)]
    assert torch.equal(*drawn)
    assert 0 < drawn[0].sum() < drawn[0].numel()


def test_without_a_policy_the_order_changes_nothing():
    first, last = (made(flip=0.5, last=order, policy=False) for order in (False, True))
    torch.testing.assert_close(first, last, atol=1e-5, rtol=0)


def test_what_is_erased_is_not_mirrored():
    erasing = RandomErasing(1.0, [0.1, 0.1], [1.0, 1.0], "mean")
    erased = [
        (made(flip=flip, last=True, policy=False, erasing=erasing) == 0).all(2, keepdim=True) for flip in (0.0, 1.0)
    ]
    assert erased[0].any()
    assert torch.equal(*erased)


@pytest.mark.parametrize("policy", [False, True])
def test_views_of_fixed_shapes_are_mirrored_last_too_and_read_nothing_on_the_host(policy, monkeypatch):
    by_rows = made(flip=0.5, last=True, policy=policy)
    monkeypatch.setattr("smalldata_vit.data.choices.takes_rows", lambda device: False)  # as on an accelerator
    some = fixed(views(flip=0.5, last=True, policy=policy))
    drawn = some.draw(0, 3, *sizes(IMAGES))
    with NoHostReads():
        of_fixed_shapes = some(IMAGES, drawn)[0][0]
    # Where a value lies on the edge of one of a policy's 8-bit steps, one rounding decides.
    assert (differences([of_fixed_shapes], [by_rows]) > 2e-5).double().mean() < 2e-4
