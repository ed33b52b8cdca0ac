import pytest
import timm
import torch
import torch.nn.functional as F

from smalldata_vit.backbones.convit import convit, displacements, gated_attention

TINY = {"patch_size": 16, "width": 192, "depth": 12, "heads": 4, "mlp_ratio": 4, "drop_path_rate": 0.0}


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def twins(side):
    torch.manual_seed(0)
    ours = convit(image_size=64, **TINY, gated_blocks=10).eval()
    return ours, timm.create_model("convit_tiny", num_classes=0, img_size=side).eval()


def test_displacements_are_columns_rows_and_squared_distance_from_each_token_to_each():
    table = displacements((2, 3), torch.device("cpu"))
    for i in range(6):
        for j in range(6):
            rows, columns = j // 3 - i // 3, j % 3 - i % 3
            assert table[i, j].tolist() == [columns, rows, columns**2 + rows**2]


def test_gated_attention_is_the_mix_of_two_softmaxes_written_out():
    layer, tokens = twins(64)[0].blocks[0].attn, drawn(1, 6, 192)
    layer.gating_param.data = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    q, k = layer.qk(tokens)[0].chunk(2, dim=-1)
    v, position = layer.v(tokens)[0], layer.pos_proj(displacements((2, 3), torch.device("cpu")))
    heads = []
    for h in range(4):
        own, gate = slice(48 * h, 48 * h + 48), layer.gating_param[h].sigmoid()
        content = (q[:, own] @ k[:, own].T / 48**0.5).softmax(dim=-1)
        heads.append(((1 - gate) * content + gate * position[..., h].softmax(dim=-1)) @ v[:, own])
    expected = layer.proj(torch.cat(heads, dim=-1))
    torch.testing.assert_close(gated_attention(layer, tokens, (2, 3))[0], expected, atol=1e-6, rtol=1e-5)


def test_with_the_same_weights_it_is_timms_network():
    ours, theirs = twins(64)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(ours(drawn(2, 3, 64, 64)), theirs(drawn(2, 3, 64, 64)), atol=5e-6, rtol=1e-4)


def test_the_blocks_are_timms_intermediates():
    ours, theirs = twins(64)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = drawn(2, 3, 64, 64)
    found = (n.forward_intermediates(images, indices=[0, 6, 11], intermediates_only=True) for n in (ours, theirs))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("side", [32, 96])
def test_another_size_is_seen_through_the_resampled_table(side):
    ours, theirs = twins(side)
    grid = side // 16
    state = ours.state_dict()
    table = state["pos_embed"].reshape(1, 4, 4, 192).permute(0, 3, 1, 2)
    state["pos_embed"] = F.interpolate(table, size=(grid, grid), mode="bicubic").flatten(2).transpose(1, 2)
    theirs.load_state_dict(state, strict=True)
    images = drawn(2, 3, side, side)
    torch.testing.assert_close(ours(images), theirs(images), atol=5e-6, rtol=1e-4)


def test_a_forward_leaves_the_shape_of_every_buffer():
    network = twins(64)[0]
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(drawn(2, 3, 64, 64))
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, before[name])


def test_gated_values_begin_as_the_identity_and_positions_as_a_convolution():
    layer = twins(64)[0].blocks[0].attn
    assert torch.equal(layer.v.weight, torch.eye(192))
    assert sorted(map(tuple, layer.pos_proj.weight.tolist())) == [(-1, -1, -1), (-1, 1, -1), (1, -1, -1), (1, 1, -1)]


def test_what_does_not_fit_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match="12 of 12 blocks cannot be gated"):
        convit(image_size=64, **TINY, gated_blocks=12)
    with pytest.raises(ValueError, match="192 cannot be shared by 5 heads"):
        convit(image_size=64, **TINY | {"heads": 5}, gated_blocks=10)
    with pytest.raises(ValueError, match="40 is not a multiple of 16"):
        twins(64)[0](drawn(1, 3, 40, 40))
