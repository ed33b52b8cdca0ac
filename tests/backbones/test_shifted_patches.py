import pytest
import torch
from torch import nn

from smalldata_vit.backbones.shifted_patches import ShiftedMerging, ShiftedPatches, flat_patches, with_diagonals


def pictures(n=2, side=8, channels=3, seed=0):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def pixel(images, b, c, y, x):
    inside = 0 <= y < images.shape[2] and 0 <= x < images.shape[3]
    return images[b, c, y, x].item() if inside else 0.0


def written_out(images, patch, shift):
    """(B, h, w, P²·5C): by row and column of the patch, then by image (own, upper left, …), then by channel."""
    moves = [(0, 0), (-shift, -shift), (-shift, shift), (shift, -shift), (shift, shift)]
    images_of, channels, height, width = images.shape
    rows = [
        [
            [
                [
                    pixel(images, b, c, top + y + dy, left + x + dx)
                    for y in range(patch)
                    for x in range(patch)
                    for dy, dx in moves
                    for c in range(channels)
                ]
                for left in range(0, width, patch)
            ]
            for top in range(0, height, patch)
        ]
        for b in range(images_of)
    ]
    return torch.tensor(rows)


@pytest.mark.parametrize(("patch", "shift"), [(4, 2), (2, 1)])
def test_a_patch_holds_five_images_flattened_by_row_column_image_and_channel(patch, shift):
    images = pictures()
    assert torch.equal(flat_patches(with_diagonals(images, shift), patch), written_out(images, patch, shift))


def test_the_first_of_the_five_is_the_image_and_the_second_what_lies_to_the_upper_left():
    images = pictures()
    five = with_diagonals(images, 2)
    assert five.shape == (2, 15, 8, 8)
    assert torch.equal(five[:, :3], images)
    assert torch.equal(five[:, 3:6, 2:, 2:], images[:, :, :-2, :-2])
    assert five[:, 3:6, :2].abs().max() == 0
    assert torch.equal(five[:, 12:, :-2, :-2], images[:, :, 2:, 2:])


def test_shifted_patches_are_normalised_before_they_are_projected():
    layer, images = ShiftedPatches(8, 4, 3, 6), pictures()
    flat = written_out(images, 4, 2)
    mean, variance = flat.mean(dim=-1, keepdim=True), flat.var(dim=-1, keepdim=True, unbiased=False)
    expected = (flat - mean) / (variance + 1e-5).sqrt() @ layer.proj.weight.T + layer.proj.bias
    torch.testing.assert_close(layer(images), expected)
    assert layer(images).shape == (2, 2, 2, 6)


def test_shifted_merging_does_the_same_with_two_by_two_tokens():
    layer, tokens = ShiftedMerging(3), pictures()
    flat = nn.functional.layer_norm(written_out(tokens, 2, 1), (60,))
    expected = flat @ layer.reduction.weight.T + layer.reduction.bias
    torch.testing.assert_close(layer(tokens.permute(0, 2, 3, 1)), expected)


def test_images_that_patches_do_not_tile_are_refused():
    with pytest.raises(ValueError, match="8 or 12"):
        ShiftedPatches(8, 4, 3, 6)(pictures(side=10))


def test_patches_of_one_pixel_are_refused():
    with pytest.raises(ValueError, match="at least 2 pixels"):
        ShiftedPatches(8, 1, 3, 6)


def test_a_grid_of_odd_sides_cannot_be_merged():
    with pytest.raises(ValueError, match="3 x 3 tokens"):
        ShiftedMerging(4)(torch.zeros(1, 3, 3, 4))
