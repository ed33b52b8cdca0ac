import pytest
import torch
from torch import nn

from smalldata_vit.backbones.initialisation import initialise
from smalldata_vit.backbones.vit import vit


class Network(nn.Module):
    """One of everything that is drawn."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 256, kernel_size=4, stride=4)
        self.layer = nn.Linear(256, 128)
        self.inner = nn.ParameterDict({"pos_embed": torch.zeros(1, 64, 256)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 2048))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(49, 64))


def drawn(init, linear_patches=False):
    torch.manual_seed(0)
    network = Network()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    initialise(network, init, linear_patches)
    return network, before


@pytest.mark.parametrize(
    ("init", "layer", "table", "token"),
    [
        ("truncated_normal", 0.02, 0.02, 0.02),
        ("width_aware", 1 / 16, 3**-0.5, 0.02),
        ("xavier", (2 / 384) ** 0.5, 1.0, 1.0),
        ("torch", (3 * 256) ** -0.5, 0.02, 0.02),
    ],
)
def test_layers_and_tables_begin_at_the_scale_that_the_name_says(init, layer, table, token):
    network, _ = drawn(init)
    assert network.layer.weight.std().item() == pytest.approx(layer, rel=0.03)
    assert network.inner["pos_embed"].std().item() == pytest.approx(table, rel=0.03)
    assert network.cls_token.std().item() == pytest.approx(token, rel=0.06)
    assert network.relative_position_bias_table.std().item() == pytest.approx(0.02, rel=0.05)


def test_torchs_start_leaves_every_layer_as_it_is():
    network, before = drawn("torch")
    assert all(torch.equal(p, before[n]) for n, p in network.named_parameters() if n.startswith(("layer", "patches")))


@pytest.mark.parametrize("init", ["truncated_normal", "width_aware"])
def test_the_patch_convolution_keeps_torchs_start(init):
    network, before = drawn(init)
    assert torch.equal(network.patches.weight, before["patches.weight"])


@pytest.mark.parametrize(
    ("init", "scale"), [("truncated_normal", 0.02), ("width_aware", 48**-0.5), ("xavier", (2 / (48 + 256)) ** 0.5)]
)
def test_as_a_linear_layer_it_begins_with_48_inputs_and_256_outputs_and_no_bias(init, scale):
    network, _ = drawn(init, linear_patches=True)
    assert network.patches.weight.std().item() == pytest.approx(scale, rel=0.03)
    assert network.patches.bias.abs().max() == 0


def test_xavier_tables_of_a_plain_vit_are_normal_and_not_cut():
    network = vit(32, 4, 192, 1, 12, 2, 0.1, init="xavier")
    assert network.pos_embed.abs().max() > 3
