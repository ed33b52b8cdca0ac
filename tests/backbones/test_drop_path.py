import itertools

import pytest
import torch
from timm.layers.drop import DropPath as TimmDropPath
from torch import nn

from smalldata_vit.backbones.drop_path import DropPath, places, rates, replace_drop_paths


def dropped(rows, rate=0.5, seed=0, width=3):
    torch.manual_seed(seed)
    return DropPath(rate)(torch.ones(rows, 2, width))[:, 0, 0]


def test_slices_of_a_global_batch_together_drop_what_the_whole_drops():
    total, views = 12, 3
    whole = dropped(views * total).reshape(views, total)
    for cuts in ([0, 4, 8, 12], [0, 5, 12], [0, 1, 2, 12]):
        parts = []
        for start, stop in itertools.pairwise(cuts):
            with places(start, stop, total):
                parts.append(dropped(views * (stop - start)).reshape(views, -1))
        assert torch.equal(torch.cat(parts, dim=1), whole)


def test_without_places_the_batch_is_the_whole():
    outside = dropped(10)
    with places(0, 10, 10):
        assert torch.equal(dropped(10), outside)


def test_views_of_one_image_are_dropped_independently():
    with places(0, 64, 64):
        first, second = dropped(128).reshape(2, 64)
    assert not torch.equal(first, second)


def test_rows_that_are_no_whole_number_of_views_are_refused():
    with places(0, 4, 8), pytest.raises(ValueError, match=r"9 rows .* 4 images"):
        dropped(9)


@pytest.mark.parametrize("bad", [(-1, 2, 4), (2, 2, 4), (0, 5, 4)])
def test_places_outside_the_batch_are_refused(bad):
    with pytest.raises(ValueError, match="start < stop"), places(*bad):
        pass


def test_places_end_with_their_context_even_when_it_fails():
    with pytest.raises(RuntimeError), places(0, 2, 8):
        raise RuntimeError
    assert dropped(3).shape == (3,)


def test_kept_rows_are_scaled_so_that_the_mean_stays():
    out = dropped(20_000, rate=0.2)
    assert set(out.tolist()) == {0.0, 1.25}
    assert out.mean().item() == pytest.approx(1, abs=0.015)


def test_evaluation_and_rate_zero_change_nothing_and_draw_nothing():
    branch = torch.randn(4, 5)
    state = torch.get_rng_state()
    assert DropPath(0.5).eval()(branch) is branch
    assert DropPath(0.0)(branch) is branch
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(ValueError, match="drop-path rate"):
        DropPath(rate)


def test_masks_do_not_depend_on_precision():
    torch.manual_seed(0)
    low = DropPath(0.3)(torch.ones(50, 2, dtype=torch.bfloat16))
    torch.manual_seed(0)
    assert torch.equal(low == 0, DropPath(0.3)(torch.ones(50, 2)) == 0)


def test_the_linear_shape_rises_from_zero_to_the_rate():
    assert rates(0.1, 5, "linear") == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert rates(0.1, 3, "constant") == [0.1, 0.1, 0.1]
    assert rates(0.1, 1, "linear") == [0.0]


def test_timms_modules_are_replaced_wherever_they_are():
    network = nn.Sequential(
        nn.Linear(2, 2), nn.Sequential(TimmDropPath(0.25), nn.ModuleDict({"path": TimmDropPath(0.5)}))
    )
    replace_drop_paths(network)
    found = [m for m in network.modules() if isinstance(m, DropPath)]
    assert [m.drop_prob for m in found] == [0.25, 0.5]
    assert not any(isinstance(m, TimmDropPath) for m in network.modules())


def test_places_work_without_numbers_too():
    with torch.device("meta"), places(2, 4, 8):
        assert DropPath(0.5)(torch.empty(6, 3)).shape == (6, 3)
