import pytest
import torch

from smalldata_vit.backbones.added_attention import attend_with
from smalldata_vit.backbones.locality_attention import LocalityAttention, own_tokens


def written_out(layer, tokens):
    """softmax of learned scale times q · k over the other tokens, head by head."""
    number, width = tokens.shape
    each = width // layer.heads
    query, key, value = (layer.qkv(tokens)[:, i * width : (i + 1) * width] for i in range(3))
    mixed = torch.zeros(number, width)
    for h in range(layer.heads):
        part = slice(h * each, (h + 1) * each)
        for i in range(number):
            others = [j for j in range(number) if j != i]
            scores = torch.stack([query[i, part] @ key[j, part] * layer.head_scale[h] for j in others])
            for weight, j in zip(scores.softmax(dim=0), others, strict=True):
                mixed[i, part] += weight * value[j, part]
    return layer.proj(mixed)


def made(form="explicit"):
    torch.manual_seed(0)
    layer = LocalityAttention(6, 2, form)
    layer.head_scale.data = torch.tensor([0.3, 1.7])
    return layer


@pytest.mark.parametrize("form", ["explicit", "sdpa", "auto"])
def test_each_token_attends_to_the_others_with_the_scale_of_its_head(form):
    layer, tokens = made(form), torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([written_out(layer, t) for t in tokens])
    torch.testing.assert_close(layer(tokens, 5), expected, atol=1e-6, rtol=1e-5)


def test_the_first_tokens_alone_are_what_they_are_among_all():
    layer, tokens = made(), torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(tokens, 1), layer(tokens, 5)[:, :1])


def test_scales_begin_at_one_by_the_root_of_the_head_width():
    assert LocalityAttention(32, 2, "auto").head_scale.tolist() == [0.25, 0.25]


def test_scales_learn():
    layer = made()
    layer(torch.randn(2, 5, 6), 5).square().sum().backward()
    assert layer.head_scale.grad.abs().min() > 0


def test_queries_keys_and_values_have_no_bias():
    assert layer_names(made()) == ["head_scale", "proj.bias", "proj.weight", "qkv.weight"]


def layer_names(layer):
    return sorted(name for name, _ in layer.named_parameters())


def test_a_token_that_is_alone_attends_to_itself():
    layer, token = made(), torch.randn(1, 1, 6)
    torch.testing.assert_close(layer(token, 1)[0, 0], layer.proj(layer.qkv(token)[0, 0, 12:]))


@pytest.mark.parametrize("form", ["explicit", "sdpa"])
def test_row_i_takes_the_added_matrix_i_modulo_their_number(form):
    query, key, value = torch.randn(3, 4, 1, 3, 2, generator=torch.Generator().manual_seed(0))
    added = torch.stack([torch.zeros(1, 3, 3), own_tokens(3, torch.device("cpu"))[None]])
    mixed = attend_with(query, key, value, added, form)
    for row in range(4):
        similarity = query[row, 0] @ key[row, 0].T
        if row % 2:
            similarity.fill_diagonal_(float("-inf"))
        torch.testing.assert_close(mixed[row, 0], similarity.softmax(dim=-1) @ value[row, 0])
