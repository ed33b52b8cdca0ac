import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from smalldata_vit.backbones.drop_path import places
from smalldata_vit.backbones.vit import attend, vit


def small(**changes):
    arguments = {
        "image_size": 16,
        "patch_size": 4,
        "width": 24,
        "depth": 3,
        "heads": 3,
        "mlp_ratio": 2,
        "drop_path_rate": 0.0,
    }
    torch.manual_seed(0)
    return vit(**arguments | changes)


def pictures(n=4, side=16, seed=1):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def weights(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("image_size", "patch_size", "classes", "printed"),
    [(32, 4, 10, 2_697_610), (32, 4, 100, 2_714_980), (64, 8, 200, 2_761_928), (64, 4, 200, 2_771_144)],
)
def test_the_gani_vit_has_the_published_number_of_weights(image_size, patch_size, classes, printed):
    with torch.device("meta"):
        assert weights(vit(image_size, patch_size, 192, 9, 12, 2, 0.1)) + 193 * classes == printed


@pytest.mark.parametrize(
    ("image_size", "classes", "printed"), [(224, 100, 5_543_716), (224, 102, 5_544_102), (112, 2040, 5_889_912)]
)
def test_deit_tiny_has_the_published_number_of_weights(image_size, classes, printed):
    with torch.device("meta"):
        assert weights(vit(image_size, 16, 192, 12, 3, 4, 0.1)) + 193 * classes == printed


@pytest.mark.parametrize("pooling", ["class_token", "mean"])
def test_with_the_same_weights_it_is_timms_network(pooling):
    ours = small(pooling=pooling).eval()
    token = pooling == "class_token"
    theirs = VisionTransformer(
        img_size=16, patch_size=4, num_classes=0, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2, class_token=token,
        global_pool="token" if token else "avg", fc_norm=False,
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(pictures()), theirs(pictures()), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("positions", "how"), [("scale_factor", {"scale_factor": 2.1 / 4}), ("size", {"size": (2, 2)})]
)
def test_a_half_size_crop_is_seen_through_the_resized_table(positions, how):
    ours = small(positions=positions).eval()
    theirs = VisionTransformer(img_size=8, patch_size=4, num_classes=0, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2)
    state = ours.state_dict()
    table = state["pos_embed"]
    grid = F.interpolate(table[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2), mode="bicubic", **how)
    state["pos_embed"] = torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    theirs.load_state_dict(state)
    torch.testing.assert_close(ours(pictures(side=8)), theirs.eval()(pictures(side=8)), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("side", [16, 8, 24])
@pytest.mark.parametrize("attention", ["explicit", "sdpa"])
def test_the_short_last_block_gives_the_same_features_and_gradients_with_drop_path_on(side, attention):
    whole, short = (
        small(drop_path_rate=0.4, drop_path_shape="constant", short_last_block=s, attention=attention)
        for s in (False, True)
    )
    results = []
    for network in (whole, short):
        torch.manual_seed(5)
        features = network(pictures(8, side))
        (features * torch.linspace(-1, 1, 24)).sum().backward()
        results.append(features.detach())
    assert (results[0] - results[1]).abs().max() < 5e-6
    for (name, a), b in zip(whole.named_parameters(), short.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_passes_that_are_slices_of_the_batch_drop_the_same_paths_as_the_whole():
    network, images = small(drop_path_rate=0.5, drop_path_shape="constant"), pictures(6)
    views = torch.stack([images, images.flip(-1)], dim=1)  # (B, V, 3, H, W)
    torch.manual_seed(3)
    whole = network(views.transpose(0, 1).reshape(12, 3, 16, 16)).reshape(2, 6, -1)
    parts = []
    for start, stop in [(0, 2), (2, 6)]:
        torch.manual_seed(3)
        with places(start, stop, 6):
            rows = views[start:stop].transpose(0, 1).reshape(-1, 3, 16, 16)
            parts.append(network(rows).reshape(2, stop - start, -1))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=2e-6, rtol=1e-5)


def test_both_forms_of_attention_are_the_written_out_softmax():
    q, k, v = (torch.randn(2, 3, n, 4, generator=torch.Generator().manual_seed(n)) for n in (2, 5, 5))
    expected = torch.empty(2, 3, 2, 4)
    for b in range(2):
        for h in range(3):
            for i in range(2):
                scores = [math.exp(float(q[b, h, i] @ k[b, h, j]) / 2) for j in range(5)]
                expected[b, h, i] = sum(s * v[b, h, j] for j, s in enumerate(scores)) / sum(scores)
    for form in ("explicit", "sdpa", "auto"):
        torch.testing.assert_close(attend(q, k, v, form), expected, atol=1e-6, rtol=1e-5)


def test_auto_attention_is_explicit_only_in_bf16_on_a_cpu(monkeypatch):
    calls = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v: calls.append(q.dtype) or fused(q, k, v))
    network = small()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(network(pictures())).all()
    assert calls == []
    network(pictures())
    assert calls == [torch.float32] * 3


def test_an_8_px_view_is_refused_by_patches_of_16_with_the_numbers():
    network = small(image_size=32, patch_size=16)
    with pytest.raises(ValueError, match=r"8 x 8 pixels .* patches of 16.*: 16\."):
        network(pictures(side=8))


def test_an_image_size_that_patches_do_not_tile_is_refused_with_the_nearest_ones():
    with pytest.raises(ValueError, match="28 or 32"):
        small(image_size=30)


def test_a_width_that_heads_do_not_share_is_refused():
    with pytest.raises(ValueError, match="24 cannot be shared by 5 heads"):
        small(heads=5)


def test_position_table_and_class_token_are_found_by_name_for_weight_decay():
    network = small()
    names = dict(network.named_parameters())
    assert {"pos_embed", "cls_token"} <= network.no_weight_decay()
    assert names["pos_embed"].shape == (1, 17, 24)
    assert names["cls_token"].shape == (1, 1, 24)


def test_features_of_all_blocks_can_be_asked_for():
    last, blocks = small().forward_intermediates(pictures(side=8))
    assert last.shape == (4, 5, 24)
    assert [b.shape for b in blocks] == [(4, 24, 2, 2)] * 3


@pytest.mark.parametrize("pooling", ["class_token", "mean"])
def test_every_weight_receives_a_gradient(pooling):
    network = small(pooling=pooling)
    network(pictures()).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("init", "linear", "table", "token"),
    [
        ("truncated_normal", 0.02, 0.02, 0.02),
        ("width_aware", 1 / math.sqrt(192), 1 / math.sqrt(3), 0.02),
        ("xavier", math.sqrt(2 / (192 + 576)), 1.0, 1.0),
    ],
)
def test_weights_begin_at_the_scale_that_the_name_says(init, linear, table, token):
    network = vit(32, 4, 192, 2, 12, 2, 0.1, init=init)
    layer = network.blocks[1].attn.qkv
    assert layer.weight.std().item() == pytest.approx(linear, rel=0.03)
    assert layer.bias.abs().max() == 0
    assert network.pos_embed.std().item() == pytest.approx(table, rel=0.05)
    assert network.cls_token.std().item() == pytest.approx(token, rel=0.25)
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in network.modules() if isinstance(m, nn.LayerNorm))


def test_the_width_aware_table_has_the_scale_of_the_patch_embedding():
    network = vit(8, 2, 64, 1, 4, 4, 0.0, pooling="mean", init="width_aware")
    network.patch_embed.proj.bias.data.zero_()
    patches = network.patch_embed(pictures(64, 8))
    assert patches.std().item() == pytest.approx(network.pos_embed.std().item(), rel=0.1)


def test_the_same_seed_gives_the_same_start_at_any_drop_path_rate():
    for a, b in zip(small().parameters(), small(drop_path_rate=0.3).parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_runs_without_numbers_at_every_size():
    with torch.device("meta"):
        network = small(drop_path_rate=0.1)
        assert network(torch.empty(2, 3, 8, 8)).shape == (2, 24)


COMPILED = """
import warnings
import torch
from smalldata_vit.backbones.drop_path import places
from smalldata_vit.backbones.vit import vit

warnings.simplefilter("error")
network = vit(16, 4, 24, 3, 3, 2, drop_path_rate=0.5)
compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
for start in range(0, 40, 4):
    for side in (16, 8):
        results = []
        for made in (network, compiled):
            torch.manual_seed(side)
            with places(start, start + 4, 40, rates=[0.25, 0.25, 0.5, 0.5]):
                results.append(made(torch.randn(4, 3, side, side)))
        torch.testing.assert_close(*results, atol=2e-6, rtol=1e-5)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
"""


def test_it_compiles_into_one_graph_a_size_however_many_passes_there_are():
    # In a process of its own: the shape checks of these tests cannot be compiled.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def test_recomputed_activations_change_neither_output_nor_any_gradient():
    results = []
    for recompute in (False, True):
        network = small(drop_path_rate=0.5, drop_path_shape="constant")
        network.set_grad_checkpointing(recompute)
        torch.manual_seed(3)
        kept_bytes = 0

        def count(tensor):
            nonlocal kept_bytes
            kept_bytes += tensor.numel() * tensor.element_size()
            return tensor

        with places(2, 6, 8) as here:
            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                features = network(pictures(4, 16)).sum() + 2 * network(pictures(4, 8)).square().sum()
            at_forward = kept_bytes
            features.backward()
        results.append((features.detach(), [p.grad for p in network.parameters()], at_forward, here.used))
    (plain, gradients, much, used), (again, theirs, little, used_again) = results
    assert torch.equal(plain, again)
    assert all(torch.equal(a, b) for a, b in zip(gradients, theirs, strict=True))
    assert little < much / 2
    assert used == used_again


def test_a_repeated_forward_that_would_drop_other_paths_is_refused():
    network = small(drop_path_rate=0.5)
    network.set_grad_checkpointing(True)
    with places(0, 4, 4), pytest.raises(RuntimeError, match="drop other paths"):
        network.forward_features(pictures(4, 16).requires_grad_()).sum().backward()
