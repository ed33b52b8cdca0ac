import pytest
import torch
from timm.layers.drop import DropPath as TimmDropPath

from smalldata_vit.backbones.drop_path import DropPath, places
from smalldata_vit.backbones.timm_networks import network


def paths(made):
    return [m.drop_prob for m in made.modules() if isinstance(m, DropPath)]


@pytest.mark.parametrize(
    ("name", "patch_size", "rate"),
    [
        ("resnet18", None, 0.1),
        ("vit_tiny_patch16_224", 4, 0.1),
        ("vit_tiny_patch16_224", None, 0.1),
        ("swin_tiny_patch4_window7_224", 2, 0.1),
        ("pvt_v2_b0", None, 0.1),
        ("mobilenetv3_small_050", None, 0.1),  # its features are wider than timm's own num_features
        ("vgg11", None, 0.0),
    ],
)
def test_features_have_the_width_that_the_network_announces(name, patch_size, rate):
    with torch.device("meta"):
        made = network(name, 32, rate, patch_size)
        assert made(torch.empty(2, 3, 32, 32)).shape == (2, made.num_features)


def test_timms_drop_path_is_replaced_by_ours_with_its_rates():
    made = network("vit_tiny_patch16_224", 32, 0.11, patch_size=8)
    assert not any(isinstance(m, TimmDropPath) for m in made.modules())
    assert sorted(paths(made)) == pytest.approx(sorted([0.01 * i for i in range(1, 12)] * 2))


def test_passes_of_a_timm_network_drop_the_same_paths_as_the_whole():
    torch.manual_seed(0)
    made = network("vit_tiny_patch16_224", 16, 0.5, patch_size=8)
    images = torch.randn(4, 3, 16, 16)
    torch.manual_seed(1)
    whole = made(images)
    for start, stop in [(0, 1), (1, 4)]:
        torch.manual_seed(1)
        with places(start, stop, 4):
            torch.testing.assert_close(made(images[start:stop]), whole[start:stop], atol=1e-5, rtol=1e-4)


def test_a_timm_vit_and_swin_see_local_crops_too():
    with torch.device("meta"):
        for name in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):
            made = network(name, 32, 0.1, patch_size=4)
            assert made(torch.empty(2, 3, 16, 16)).shape == (2, made.num_features)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "resnet19"}, r"no network 'resnet19'.*Did you mean resnet18"),
        ({"name": "vgg11"}, r"vgg11 has no drop path: drop_path_rate has to be 0, not 0\.1"),
        ({"name": "resnet18", "patch_size": 4}, r"resnet18 has no patch size to set.*not 4"),
        ({"name": "levit_128", "drop_path_rate": 0.0}, r"levit_128 sees images of 224 px only, not 32"),
        ({"name": "vit_tiny_patch16_224", "image_size": 8}, r"cannot see images of 8 px.*patch size \(16\)"),
    ],
)
def test_what_a_network_cannot_do_is_refused_with_the_numbers(arguments, says):
    with pytest.raises(ValueError, match=says):
        network(**{"image_size": 32, "drop_path_rate": 0.1} | arguments)


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("vit_tiny_patch16_224", [(192, 4, 4)] * 12),
        ("resnet50", [(64, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]),
        ("pvt_v2_b0", [(32, 16, 16), (64, 8, 8), (160, 4, 4), (256, 2, 2)]),
    ],
)
def test_intermediates_are_counted_as_timm_counts_them(name, maps):
    with torch.device("meta"):
        found = network(name, 64, 0.0).forward_intermediates(torch.empty(2, 3, 64, 64), intermediates_only=True)
    assert [tuple(m.shape[1:]) for m in found] == maps
