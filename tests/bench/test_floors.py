"""Closed formulas against torch's counter and against the page's table."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from smalldata_vit.backbones.vit import vit
from smalldata_vit.bench.floors import Chip, Transformer, distillation, layers, least_traffic, training

GANI = Transformer(192, 9, 2, 4)
DEIT = Transformer(192, 12, 4, 16)
LARGE, SMALL = (2, 32), (8, 16)
HEAD = (192, 512, 512, 256, 1024)


def counted(short: bool, side: int, views: int) -> tuple[float, float]:
    """FLOP forward and backward by torch's counter."""
    network = vit(32, 4, 48, 3, 4, 2.0, 0.0, attention="explicit", short_last_block=short)
    with FlopCounterMode(display=False) as forward:
        out = network(torch.randn(views, 3, side, side))
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("short", [False, True])
def test_the_formula_counts_what_torch_counts(short: bool) -> None:
    formula = Transformer(48, 3, 2, 4, short)
    forward, backward = counted(short, 32, 2)
    assert formula.forward([(2, 32)]) == forward
    assert formula.backward([(2, 32)]) == backward


def test_a_step_of_ganis_dino_is_five_and_a_quarter_gflop() -> None:
    assert distillation(GANI, [LARGE, SMALL], [LARGE], HEAD) == pytest.approx(5.27e9, rel=0.002)


def test_the_class_token_alone_in_the_last_block_saves_eight_percent() -> None:
    short = Transformer(192, 9, 2, 4, short=True)
    whole = distillation(GANI, [LARGE, SMALL], [LARGE], HEAD)
    assert distillation(short, [LARGE, SMALL], [LARGE], HEAD) / whole == pytest.approx(0.92, abs=0.005)


@pytest.mark.parametrize(
    ("network", "views", "classes", "gflop"),
    [
        (DEIT, [(6, 112)], 2040, 10.2),
        (DEIT, [(1, 224)], 102, 7.5),
        (DEIT, [(1, 448)], 102, 42.7),
        (GANI, [(1, 32)], 10, 1.13),
    ],
)
def test_supervised_steps_cost_what_the_page_says(
    network: Transformer, views: list, classes: int, gflop: float
) -> None:
    assert training(network, views, classes) / 1e9 == pytest.approx(gflop, rel=0.01)


@pytest.mark.parametrize(
    ("network", "student", "teacher", "megabytes"),
    [
        (GANI, [LARGE, SMALL], [LARGE], 95),
        (DEIT, [(6, 112)], [], 159),
        (DEIT, [(1, 224)], [], 105),
        (DEIT, [(1, 448)], [], 417),
        (GANI, [(1, 32)], [], 20),
    ],
)
def test_least_traffic_is_what_the_page_says(
    network: Transformer, student: list, teacher: list, megabytes: float
) -> None:
    assert least_traffic(network, student, teacher) / 1e6 == pytest.approx(megabytes, rel=0.02)


def test_a_chip_that_runs_at_its_rates_is_used_wholly() -> None:
    chip = Chip(flops=1e12, bytes=1e9)
    assert chip.utilisation(1e12 / 5e9, 5e9) == 1
    assert chip.share_of_floor(1e9 / 1e8, 1e8) == 1


def test_linear_layers_cost_two_flop_a_weight() -> None:
    assert layers([3, 5, 7]) == 2 * (3 * 5 + 5 * 7)
