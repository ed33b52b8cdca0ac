"""The CNNs that guide: sizes as published, timm's contract, their start."""

import math

import pytest
import torch
from torch import nn

from smalldata_vit.backbones.resnet_cifar import resnet_cifar


@pytest.mark.parametrize(("depth", "parameters"), [(20, 278_324), (56, 861_620), (110, 1_736_564)])
def test_the_networks_have_the_published_numbers_of_weights_with_a_head_for_a_hundred_classes(
    depth: int, parameters: int
) -> None:
    network, head = resnet_cifar(depth), nn.Linear(64, 100)
    assert network.num_features == 64
    assert sum(p.numel() for part in (network, head) for p in part.parameters()) == parameters


def test_a_state_of_resnet_56_with_its_head_has_344_entries() -> None:
    assert len(resnet_cifar(56).state_dict()) + len(nn.Linear(64, 100).state_dict()) == 344


def test_its_intermediates_are_the_three_stages_after_relu_on_halved_grids() -> None:
    network = resnet_cifar(20).eval()
    last, maps = network.forward_intermediates(torch.randn(2, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert all(bool((m >= 0).all()) for m in maps)
    assert torch.equal(last, maps[-1])


def test_its_features_are_the_mean_of_its_last_stage_whatever_is_asked_beside_them() -> None:
    network, image = resnet_cifar(20).eval(), torch.randn(2, 3, 32, 32)
    last, [second] = network.forward_intermediates(image, indices=[1])
    torch.testing.assert_close(network(image), last.mean((2, 3)))
    assert torch.equal(network.forward_head(last), network(image))
    assert torch.equal(second, network.forward_intermediates(image, intermediates_only=True)[1])


def test_a_stage_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="3"):
        resnet_cifar(20).forward_intermediates(torch.zeros(1, 3, 8, 8), indices=[3])


@pytest.mark.parametrize(("depth", "nearest"), [(18, "14 or 20"), (57, "56 or 62"), (2, "8 or 14")])
def test_a_depth_that_makes_no_three_equal_stages_is_refused_with_the_nearest_that_do(depth: int, nearest: str) -> None:
    with pytest.raises(ValueError, match=nearest):
        resnet_cifar(depth)


def test_convolutions_start_normal_with_the_root_of_two_over_fan_out() -> None:
    torch.manual_seed(0)
    weight = resnet_cifar(56).get_submodule("stages.2.5.conv1").get_parameter("weight")
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)


def test_drop_path_grows_in_a_straight_line_and_is_off_by_default() -> None:
    def rates(network: nn.Module) -> list[float]:
        return [block.drop_path.drop_prob for stage in network.stages for block in stage]

    assert rates(resnet_cifar(8, drop_path_rate=0.2)) == pytest.approx([0.0, 0.1, 0.2])
    assert rates(resnet_cifar(8)) == [0.0] * 3
