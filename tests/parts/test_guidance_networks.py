"""The student that gives maps, the guide that gives others, and which go together."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from smalldata_vit.backbones.resnet_cifar import resnet_cifar
from smalldata_vit.backbones.timm_networks import network
from smalldata_vit.backbones.vit import ViT, vit
from smalldata_vit.parts.guidance_networks import Guide, Tapped, shapes_of
from smalldata_vit.parts.guidance_pairs import by_depth, settled
from smalldata_vit.parts.running_statistics import RunningStatistics

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def student(pooling: str = "class_token", drop_path_rate: float = 0.0) -> ViT:
    torch.manual_seed(0)
    return vit(16, 4, 24, 3, 3, 2, drop_path_rate, pooling=pooling)  # type: ignore[arg-type]


def guide(bn_mode: str = "eval", size: int = 8, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Guide:
    torch.manual_seed(1)
    return Guide(resnet_cifar(8, width=4), [0, 1, 2], size, bn_mode, mean, std, MEAN, STD)  # type: ignore[arg-type]


@pytest.mark.parametrize("pooling", ["class_token", "mean"])
def test_features_with_taps_equal_those_without_and_so_do_gradients_and_dropped_paths(pooling: str) -> None:
    image, weight, gradients, features = torch.randn(4, 3, 16, 16), torch.randn(4, 24), [], []
    for tapped in (False, True):
        network = student(pooling, drop_path_rate=0.5)
        torch.manual_seed(7)
        made = Tapped(network, [0, 1, 2])(image)[0] if tapped else network(image)
        (made * weight).sum().backward()
        features.append(made.detach())
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    torch.testing.assert_close(features[1], features[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_taps_are_outputs_of_blocks_before_the_norm_without_class_token_and_the_last_block_is_not_short() -> None:
    network, image = student().eval(), torch.randn(2, 3, 16, 16)
    _, maps = Tapped(network, [0, 2])(image)
    tokens, expected = network._pos_embed(network.patch_embed(image)), []
    for block in network.blocks:
        tokens = block(tokens)
        expected.append(tokens[:, 1:].transpose(1, 2).reshape(2, 24, 4, 4))
    torch.testing.assert_close(maps, [expected[0], expected[2]])


@pytest.mark.parametrize("name", ["resnet18", "deit_tiny_patch16_224", "pit_ti_224", "pvt_v2_b0"])
def test_timms_networks_give_features_and_maps_in_one_forward_too(name: str) -> None:
    with torch.device("meta"):
        made = network(name, 224 if name == "pit_ti_224" else 64, 0.0).eval()
        shapes = shapes_of(made, 224 if name == "pit_ti_224" else 64)
        side = 224 if name == "pit_ti_224" else 64
        features, maps = Tapped(made, range(len(shapes)))(torch.empty(2, 3, side, side))
    assert features.shape == (2, made.num_features)
    assert [tuple(m.shape[1:]) for m in maps] == shapes


def test_asking_for_shapes_changes_nothing_and_draws_nothing() -> None:
    network = resnet_cifar(8)
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    assert shapes_of(network, 8) == [(16, 8, 8), (32, 4, 4), (64, 2, 2)]
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_network_that_gives_no_maps_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Linear cannot take part in guidance"):
        shapes_of(nn.Linear(3, 3), 8)


def test_the_guide_sees_the_very_view_resized_without_antialiasing() -> None:
    one, view = guide(), torch.randn(2, 3, 20, 20)
    resized = F.interpolate(view, size=(8, 8), mode="bilinear", align_corners=False, antialias=False)
    expected = one.network.eval().forward_intermediates(resized, intermediates_only=True)
    for made, wanted in zip(one(view), expected, strict=True):
        torch.testing.assert_close(made, wanted)
        assert not made.requires_grad


def test_views_normalised_otherwise_than_the_guides_images_are_converted() -> None:
    pixels, other = torch.rand(2, 3, 8, 8), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))

    def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    theirs, same = guide(mean=other[0], std=other[1]), guide()
    for made, wanted in zip(theirs(normalised(MEAN, STD)), same(normalised(*other)), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5)


def test_nothing_of_the_guide_is_trained_and_its_layout_is_channels_last() -> None:
    one = guide()
    assert not any(p.requires_grad for p in one.parameters())
    weight = one.network.get_submodule("stages.1.0.conv2").get_parameter("weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_batch_statistics_move_in_training_mode_alone(bn_mode: str) -> None:
    one = guide(bn_mode).train()
    statistics, before = RunningStatistics(one), one.network.bn1.running_mean.clone()
    statistics.start_step()
    one(torch.randn(4, 3, 8, 8))
    statistics.end_pass(1.0)
    statistics.end_step()
    assert torch.equal(one.network.bn1.running_mean, before) == (bn_mode == "eval")


def test_a_frozen_guides_statistics_survive_passes_of_uneven_weight_to_the_bit() -> None:
    one = guide().train()
    one.network.bn1.running_mean.copy_(torch.tensor([0.1, 0.2, 0.3, 0.7]))
    before, statistics = one.network.bn1.running_mean.clone(), RunningStatistics(one)
    for _ in range(20):
        statistics.start_step()
        for weight in (0.1, 0.2, 0.7):
            statistics.end_pass(weight)
        statistics.end_step()
    assert torch.equal(one.network.bn1.running_mean, before)


def test_only_batch_normalisation_trains_in_training_mode_and_only_while_the_method_does() -> None:
    one = guide("train").train()
    training = {name for name, module in one.network.named_modules() if module.training}
    assert "bn1" in training
    assert not {name for name in training if "bn" not in name and "shortcut.1" not in name}
    assert not any(module.training for module in one.eval().network.modules())


@pytest.mark.parametrize(
    ("blocks", "pairs"),
    [(7, [0, 3, 6]), (12, [0, 6, 11]), (13, [0, 6, 12]), (14, [0, 7, 13]), (2, [0, 1, 1]), (1, [0, 0, 0])],
)
def test_by_default_each_stage_has_the_block_at_its_relative_depth(blocks: int, pairs: list[int]) -> None:
    assert by_depth(blocks, 3) == list(zip(pairs, range(3), strict=True))
    assert settled(None, blocks, 3) == by_depth(blocks, 3)


def test_pairs_that_are_given_are_taken_as_they_are_and_count_from_the_end_where_negative() -> None:
    assert settled([[0, 0], [-1, -1], [3, 1]], 12, 3) == [(0, 0), (11, 2), (3, 1)]


@pytest.mark.parametrize("wrong", [[[12, 0]], [[0, 3]], [[-13, 0]], [[1]], [[0, 1, 2]]])
def test_a_pair_of_places_that_there_are_not_is_refused_with_those_that_there_are(wrong: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="blocks 0 to 11, the guide stages 0 to 2"):
        settled(wrong, 12, 3)


def test_no_pair_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="guides nothing"):
        settled([], 12, 3)
