import pytest
import torch

from smalldata_vit.backbones.sizes import check_windows
from smalldata_vit.backbones.windows import HIDDEN, fit_window, needs_mask, padding, window_mask

CPU = torch.device("cpu")


def written_out(grid, window, shift, fit):
    """Token by token: two tokens of a window see each other if no edge of the grid lies between them."""
    sides = tuple(-(-side // window) * window for side in grid)
    windows = []
    for top in range(0, sides[0], window):
        for left in range(0, sides[1], window):
            tokens = [(top + y, left + x) for y in range(window) for x in range(window)]
            # What lies here after the roll came from (place + shift) mod side; what wrapped around has crossed an edge.
            came = [((y + shift) % sides[0], (x + shift) % sides[1]) for y, x in tokens]
            wrapped = [(y + shift >= sides[0], x + shift >= sides[1]) for y, x in tokens]
            real = [y < grid[0] and x < grid[1] for y, x in came]
            mask = torch.zeros(len(tokens), len(tokens))
            for i in range(len(tokens)):
                for j in range(len(tokens)):
                    hidden = real[i] != real[j] if fit == "fitted" else False
                    both_empty = fit == "fitted" and not real[i] and not real[j]
                    if hidden or (wrapped[i] != wrapped[j] and not both_empty):
                        mask[i, j] = HIDDEN
            windows.append(mask)
    return torch.stack(windows)


@pytest.mark.parametrize("fit", ["padded", "fitted"])
@pytest.mark.parametrize(("grid", "shift"), [((8, 8), 2), ((8, 12), 2), ((6, 6), 2), ((6, 5), 0), ((5, 7), 1)])
def test_tokens_see_each_other_if_no_edge_lies_between_them(grid, shift, fit):
    mask = window_mask(grid, (4, 4), (shift, shift), fit, CPU)
    assert torch.equal(mask, written_out(grid, 4, shift, fit))


def test_a_mask_is_made_once():
    first = window_mask((8, 8), (4, 4), (2, 2), "padded", CPU)
    assert window_mask((8, 8), (4, 4), (2, 2), "padded", CPU) is first


def test_zeros_that_fill_a_grid_up_need_no_mask_where_they_may_be_seen():
    assert not needs_mask((6, 6), (4, 4), (0, 0), "padded")
    assert needs_mask((6, 6), (4, 4), (0, 0), "fitted")
    assert not needs_mask((8, 8), (4, 4), (0, 0), "fitted")
    assert padding((6, 9), (4, 4)) == (2, 3)


def test_a_fitted_grid_that_one_window_holds_is_one_window_without_shift():
    assert fit_window((2, 2), (4, 4), (0, 0), "fitted") == ((2, 2), (0, 0))
    assert fit_window((4, 4), (4, 4), (2, 2), "fitted") == ((4, 4), (0, 0))
    assert fit_window((3, 8), (4, 4), (2, 2), "fitted") == ((3, 4), (0, 2))
    assert fit_window((3, 8), (4, 4), (2, 2), "padded") == ((4, 4), (2, 2))


def test_a_window_larger_than_its_grid_is_refused_with_the_grids_and_windows_that_fit():
    check_windows((16, 16), [4, 4, 4])
    with pytest.raises(ValueError, match=r"\[4, 4, 4\].*8 x 8, 4 x 4, 2 x 2.*windows=\[4, 4, 2\]"):
        check_windows((8, 8), [4, 4, 4])
    with pytest.raises(ValueError, match=r"windows=\[1\]"):
        check_windows((8, 8), [0])
