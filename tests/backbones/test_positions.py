import pytest
import torch
import torch.nn.functional as F

from smalldata_vit.backbones.positions import resized

GRIDS = [((8, 8), (4, 4)), ((8, 8), (12, 12)), ((4, 4), (2, 2)), ((7, 5), (3, 9)), ((14, 14), (6, 6)), ((2, 2), (1, 1))]


def interpolated(table, old, new, **how):
    grid = table.reshape(1, *old, -1).permute(0, 3, 1, 2)
    return F.interpolate(grid, mode="bicubic", align_corners=False, **how).flatten(2).transpose(1, 2)


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_the_size_rule_gives_torchs_bicubic_numbers_and_gradients(old, new):
    table = torch.randn(1, old[0] * old[1], 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ours, theirs = resized(table, old, new, "size"), interpolated(table, old, new, size=new)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    (mine,) = torch.autograd.grad((ours * weight).sum(), table)
    (reference,) = torch.autograd.grad((theirs * weight).sum(), table)
    torch.testing.assert_close(mine, reference, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_the_scale_factor_rule_gives_the_numbers_of_dinos_interpolation(old, new):
    table = torch.randn(1, old[0] * old[1], 6, generator=torch.Generator().manual_seed(0))
    factor = tuple((n + 0.1) / o for o, n in zip(old, new, strict=True))
    theirs = interpolated(table, old, new, scale_factor=factor)
    torch.testing.assert_close(resized(table, old, new, "scale_factor"), theirs, atol=5e-6, rtol=0)


def test_the_two_rules_differ_by_the_printed_mean():
    table = torch.randn(1, 64, 192, generator=torch.Generator().manual_seed(0))
    by_factor, by_size = (resized(table, (8, 8), (4, 4), rule) for rule in ("scale_factor", "size"))
    assert (by_factor - by_size).abs().mean().item() == pytest.approx(0.175, abs=0.02)


def test_a_grid_of_the_same_size_is_left_as_it_is():
    table = torch.randn(1, 16, 3)
    assert resized(table, (4, 4), (4, 4), "scale_factor") is table


def test_a_table_is_resized_in_float32_under_autocast():
    table = torch.randn(1, 64, 8, generator=torch.Generator().manual_seed(0))
    plain = resized(table, (8, 8), (4, 4), "size")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resized(table, (8, 8), (4, 4), "size"), plain)


def test_a_size_first_seen_in_inference_mode_can_be_trained_on_later():
    table = torch.randn(1, 9 * 9, 4, requires_grad=True)
    with torch.inference_mode():
        resized(table, (9, 9), (5, 5), "size")
    resized(table, (9, 9), (5, 5), "size").sum().backward()
    assert table.grad is not None


def test_the_slice_rule_takes_the_first_rows_of_the_table_as_it_is_stored():
    table = torch.randn(1, 64, 3)
    assert torch.equal(resized(table, (8, 8), (4, 4), "slice"), table[:, :16])


def test_the_slice_rule_refuses_a_grid_with_more_tokens_than_the_table():
    with pytest.raises(ValueError, match="9 x 9 needs 81 positions, the table of 8 x 8 has 64"):
        resized(torch.randn(1, 64, 3), (8, 8), (9, 9), "slice")
