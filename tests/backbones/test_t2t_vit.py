import math

import pytest
import torch
import torch.nn.functional as F

from smalldata_vit.backbones.performer import Performer, linear_attention, random_features
from smalldata_vit.backbones.sinusoid import at_grid, sinusoid
from smalldata_vit.backbones.soft_split import TokenTransformer, grids_of
from smalldata_vit.backbones.t2t_vit import t2t_vit


def small(**changes):
    arguments = {
        "image_size": 64,
        "width": 24,
        "depth": 2,
        "heads": 3,
        "mlp_ratio": 2,
        "drop_path_rate": 0.0,
        "tokens": "performer",
        "norm_eps": 1e-5,
        "init": "truncated_normal",
        "token_dropout": 0.0,
        "token_width": 16,
    }
    torch.manual_seed(0)
    return t2t_vit(**arguments | changes)


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_sinusoid_table_is_the_formula_of_the_transformer():
    table = sinusoid(11, 6)
    for position in range(11):
        for j in range(6):
            angle = position / 10000 ** (2 * (j // 2) / 6)
            expected = math.cos(angle) if j % 2 else math.sin(angle)
            assert table[0, position, j].item() == pytest.approx(expected, abs=1e-7)


def test_the_position_table_is_a_parameter_that_does_not_train_and_is_saved():
    network = small()
    assert not network.pos_embed.requires_grad
    assert torch.equal(network.state_dict()["pos_embed"], sinusoid(17, 24))


def test_recomputed_positions_are_the_formula_of_the_other_length():
    table = at_grid(sinusoid(17, 24), (4, 4), (2, 3), "recomputed")
    assert torch.equal(table, sinusoid(7, 24))


def test_interpolated_positions_are_the_bicubic_grid_behind_the_same_first_row():
    own = sinusoid(17, 24)
    grid = own[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, size=(7, 7), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    table = at_grid(own, (4, 4), (7, 7), "interpolated")
    torch.testing.assert_close(table[:, 1:], expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(table[:, 0], own[:, 0])


@pytest.mark.parametrize("positions", ["recomputed", "interpolated"])
def test_positions_of_another_size_enter_the_features(positions):
    network = small(positions=positions).eval()
    grown = small(image_size=96).eval()
    grown.load_state_dict(
        network.state_dict() | {"pos_embed": at_grid(network.pos_embed, (4, 4), (6, 6), positions).clone()}
    )
    images = drawn(2, 3, 96, 96)
    torch.testing.assert_close(network(images), grown(images), atol=2e-6, rtol=1e-5)


def test_random_features_are_the_formula_of_positive_features():
    x, w = drawn(2, 3, 4), drawn(5, 4, seed=2)
    features = random_features(x, w)
    for b in range(2):
        for n in range(3):
            for m in range(5):
                exponent = float(w[m] @ x[b, n]) - float(x[b, n] @ x[b, n]) / 2
                assert features[b, n, m].item() == pytest.approx(math.exp(exponent) / math.sqrt(5), rel=1e-5)


def test_products_of_random_features_of_normal_directions_are_the_exponential_kernel_in_the_mean():
    q, k = drawn(1, 1, 4) / 2, drawn(1, 1, 4, seed=3) / 2
    w = drawn(200_000, 4, seed=4)
    estimate = (random_features(q, w) * random_features(k, w)).sum().item()
    assert estimate == pytest.approx(math.exp(float(q[0, 0] @ k[0, 0])), rel=0.02)


def test_linear_attention_is_the_weighted_mean_written_out():
    q, k, v, w = drawn(2, 3, 4), drawn(2, 3, 4, seed=2), drawn(2, 3, 4, seed=3), drawn(6, 4, seed=4)
    mixed = linear_attention(q, k, v, w)
    queries, keys = random_features(q, w), random_features(k, w)
    for b in range(2):
        for i in range(3):
            scores = [float(queries[b, i] @ keys[b, j]) for j in range(3)]
            expected = sum(s * v[b, j] for j, s in enumerate(scores)) / (sum(scores) + 1e-8)
            torch.testing.assert_close(mixed[b, i], expected, atol=1e-6, rtol=1e-5)


def test_the_directions_are_orthogonal_of_length_root_m_and_drawn_from_the_global_generator():
    torch.manual_seed(7)
    one, two = (Performer(10, 16, 1e-5, 0.0).w for _ in range(2))
    torch.manual_seed(7)
    again = Performer(10, 16, 1e-5, 0.0).w
    torch.testing.assert_close(one @ one.T, 8 * torch.eye(8), atol=1e-5, rtol=1e-5)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    assert not one.requires_grad


def test_the_performers_kernel_is_float32_under_autocast():
    layer = Performer(10, 16, 1e-5, 0.0)
    tokens = drawn(2, 9, 10)
    with torch.no_grad():
        exact = layer(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            rough = layer(tokens)
        layer.kqv.bias.add_(12)  # |x|²/2 is in the thousands: the normaliser underflows, and nothing may be nan
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.isfinite(layer(tokens)).all()
    torch.testing.assert_close(rough.float(), exact, atol=0.03, rtol=0.05)


def test_token_dropout_is_of_both_branches_and_in_training_only():
    network = small(token_dropout=0.1)
    rates = [m.p for m in network.tokens_to_token.modules() if isinstance(m, torch.nn.Dropout) and m.p]
    assert rates == [0.1] * 4
    images = drawn(2, 3, 64, 64)
    assert not torch.equal(network(images), network(images))
    assert torch.equal(network.eval()(images), network(images))


def test_token_attention_divides_by_the_root_of_the_width_that_comes_in():
    layer = TokenTransformer(12, 4, 1e-5, "auto")
    tokens = drawn(1, 5, 12)
    q, k, v = layer.attn.qkv(tokens)[0].chunk(3, dim=-1)
    mixed = (q @ k.T / math.sqrt(12)).softmax(dim=-1) @ v
    torch.testing.assert_close(layer.attn(tokens)[0], v + layer.attn.proj(mixed), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("init", "cut"), [("truncated_normal", 0.02), ("normal", 0.02)])
def test_linear_weights_and_class_token_begin_at_002(init, cut):
    network = small(init=init, width=96, heads=3)
    layer = network.blocks[1].attn.qkv
    assert layer.weight.std().item() == pytest.approx(cut, rel=0.03)
    assert layer.bias is None
    assert network.tokens_to_token.project.bias.abs().max() == 0
    assert network.cls_token.std().item() == pytest.approx(cut, rel=0.3)


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_all_norms_have_the_epsilon_of_the_recipe(eps):
    network = small(norm_eps=eps)
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.LayerNorm)} == {eps}


@pytest.mark.parametrize("tokens", ["performer", "transformer"])
def test_the_short_last_block_gives_the_same_features_and_gradients(tokens):
    results = []
    for short in (False, True):
        network = small(tokens=tokens, short_last_block=short)
        features = network(drawn(2, 3, 48, 48))
        (features * torch.linspace(-1, 1, 24)).sum().backward()
        results.append((features.detach(), {n: p.grad for n, p in network.named_parameters() if p.requires_grad}))
    torch.testing.assert_close(results[0][0], results[1][0], atol=5e-6, rtol=1e-4)
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("side", "grids"), [(224, [56, 28, 14]), (112, [28, 14, 7]), (30, [7, 4, 2])])
def test_the_grids_of_the_soft_splits(side, grids):
    assert grids_of(side, side) == [(g, g) for g in grids]


def test_a_soft_split_gathers_the_neighbours_of_each_place():
    network = small()
    seen = {}

    def first(tokens):
        seen["patches"] = tokens
        return tokens[..., :16]

    network.tokens_to_token.attention1.forward = first
    images = drawn(1, 3, 64, 64)
    network(images)
    padded = F.pad(images, (2, 2, 2, 2))
    assert torch.equal(seen["patches"][0, 16 + 3], padded[0, :, 4:11, 12:19].flatten())


def test_what_does_not_fit_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match="24 cannot be shared by 5 heads"):
        small(heads=5)
    with pytest.raises(ValueError, match=r"token_dropout has to be 0, not 0\.1"):
        small(tokens="transformer", token_dropout=0.1)
    with pytest.raises(ValueError, match="2 x 2 pixels"):
        small()(drawn(1, 3, 2, 2))
