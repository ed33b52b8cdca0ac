import math

import pytest
import torch
import torch.nn.functional as F

from smalldata_vit.backbones.cvt import ConvolutionalAttention, cvt


def small(**changes):
    arguments = {"widths": [8, 12, 16], "depths": [1, 1, 2], "heads": [1, 3, 4], "mlp_ratio": 2, "drop_path_rate": 0.0}
    torch.manual_seed(0)
    return cvt(**arguments | changes)


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_attention_is_the_softmax_written_out_divided_by_the_root_of_the_whole_width():
    torch.manual_seed(0)
    layer, tokens = ConvolutionalAttention(8, 2, "auto").eval(), drawn(1, 17, 8)
    first, maps = tokens[:, :1], tokens[:, 1:].transpose(1, 2).reshape(1, 8, 4, 4)

    def around(convolution, linear):
        return linear(torch.cat([first, convolution(maps).flatten(2).transpose(1, 2)], dim=1))[0]

    q, k, v = (around(getattr(layer, f"conv_proj_{n}"), getattr(layer, f"proj_{n}")) for n in "qkv")
    assert (len(q), len(k)) == (17, 5)
    heads = [(q[:, h : h + 4] @ k[:, h : h + 4].T / math.sqrt(8)).softmax(dim=-1) @ v[:, h : h + 4] for h in (0, 4)]
    expected = layer.proj(torch.cat(heads, dim=-1))
    torch.testing.assert_close(layer(tokens, (4, 4), 1)[0], expected, atol=1e-6, rtol=1e-5)


def test_the_convolution_is_depthwise_with_batch_norm():
    layer, maps = ConvolutionalAttention(4, 1, "auto").conv_proj_k, drawn(2, 4, 6, 6)
    convolved = F.conv2d(maps, layer.conv.weight, stride=2, padding=1, groups=4)
    mean, variance = convolved.mean((0, 2, 3), keepdim=True), convolved.var((0, 2, 3), keepdim=True, unbiased=False)
    torch.testing.assert_close(layer(maps), (convolved - mean) / (variance + 1e-5).sqrt(), atol=1e-5, rtol=1e-4)


def test_only_the_last_stage_has_a_class_token():
    assert [n for n, _ in small().named_parameters() if n.endswith("cls_token")] == ["stages.2.cls_token"]


def test_features_are_the_class_token_after_the_norm():
    network = small().eval()
    final, maps = network.forward_intermediates(drawn(2, 3, 32, 32), output_fmt="NLC")
    assert final.shape == (2, 1 + 4, 16)
    torch.testing.assert_close(network.norm(maps[-1]), final[:, 1:], atol=1e-6, rtol=1e-5)
    assert torch.equal(network(drawn(2, 3, 32, 32)), final[:, 0])


def test_images_need_not_be_square():
    network = small().eval()
    maps = network.forward_intermediates(drawn(2, 3, 32, 64), intermediates_only=True)
    assert [m.shape[2:] for m in maps] == [(8, 16), (4, 8), (2, 4), (2, 4)]


def test_linear_weights_and_class_token_begin_at_002_and_convolutions_as_torch_makes_them():
    network = small(widths=[64, 64, 256])
    assert network.stages[2].blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert network.stages[2].cls_token.std().item() == pytest.approx(0.02, rel=0.2)
    assert network.stages[2].proj.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 64 * 9), rel=0.02)
    assert all(m.bias.abs().max() == 0 for m in network.modules() if isinstance(m, torch.nn.Linear))


def test_activations_cannot_be_made_again_because_batch_norm_would_count_twice():
    with pytest.raises(ValueError, match="BatchNorms would count every image twice"):
        small().set_grad_checkpointing()
