import pytest
import timm
import torch
import torch.nn.functional as F

from smalldata_vit.backbones.pit import pit

TINY = {
    "patch_size": 16,
    "stride": 8,
    "head_width": 32,
    "depths": [2, 6, 4],
    "heads": [2, 4, 8],
    "mlp_ratio": 4,
    "drop_path_rate": 0.0,
}


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def twins(side, **changes):
    torch.manual_seed(0)
    ours = pit(image_size=64, **TINY, **changes).eval()
    return ours, timm.create_model("pit_ti_224", num_classes=0, img_size=side).eval()


def test_with_the_same_weights_it_is_timms_network():
    ours, theirs = twins(64)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(ours(drawn(2, 3, 64, 64)), theirs(drawn(2, 3, 64, 64)), atol=5e-6, rtol=1e-4)


def test_the_last_block_of_each_stage_is_timms_intermediate():
    ours, theirs = twins(64)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = drawn(2, 3, 64, 64)
    found = ours.forward_intermediates(images, indices=[1, 7, 11], intermediates_only=True)
    for a, b in zip(found, theirs.forward_intermediates(images, intermediates_only=True), strict=True):
        torch.testing.assert_close(a, b, atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("side", [32, 96])
def test_another_size_is_seen_through_the_resampled_table(side):
    ours, theirs = twins(side)
    grid = (side - 16) // 8 + 1
    state = ours.state_dict()
    state["pos_embed"] = F.interpolate(state["pos_embed"], size=(grid, grid), mode="bicubic")
    theirs.load_state_dict(state, strict=True)
    images = drawn(2, 3, side, side)
    torch.testing.assert_close(ours(images), theirs(images), atol=5e-6, rtol=1e-4)


def test_table_and_class_token_begin_at_002_and_linear_weights_as_torch_makes_them():
    network = twins(64)[0]
    assert network.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.cls_token.std().item() == pytest.approx(0.02, rel=0.3)
    weight = network.transformers[1].blocks[0].mlp.fc1.weight
    assert weight.abs().max().item() == pytest.approx(1 / 128**0.5, rel=1e-3)


def test_images_that_hold_no_patch_are_refused():
    with pytest.raises(ValueError, match="8 x 8 pixels hold no patch of 16"):
        twins(64)[0](drawn(2, 3, 8, 8))
    with pytest.raises(ValueError, match="image_size of 8 px holds no patch of 16"):
        pit(image_size=8, **TINY)
