"""TimmRandAugment, held against timm's own operations and draws."""

import random
from collections import defaultdict
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from policy_samples import as_picture, as_tensor, drawn, flat, images, named
from scipy.stats import chisquare, ks_2samp
from timm.data import auto_augment

from smalldata_vit.data.policies_arithmetic import as_pillow
from smalldata_vit.data.policies_native import apply_natively
from smalldata_vit.data.policies_plan import INTERPOLATIONS, OPERATIONS, apply_policy
from smalldata_vit.data.policies_timm import FACTORS, TIMM, TimmRandAugment, magnitude, parsed

MEAN = (124, 116, 104)
RECIPE = "rand-m9-mstd0.5-inc1"


def timms_name(name, increasing):
    suffix = "Increasing" if increasing and name in {*FACTORS, "Posterize", "Solarize"} else ""
    return name + ("Rel" if name.startswith("Translate") else suffix)


@pytest.mark.parametrize("increasing", [True, False])
def test_magnitudes_are_timms_at_every_level_and_sign(increasing, monkeypatch):
    levels = np.linspace(0, 10, 201)
    for negated in (False, True):
        monkeypatch.setattr(
            auto_augment, "_randomly_negate", lambda value, negated=negated: -value if negated else value
        )
        for number in TIMM:
            name = timms_name(OPERATIONS[number], increasing)
            to_argument = auto_augment.LEVEL_TO_ARG[name]
            if to_argument is not None:
                theirs = np.array([to_argument(level, {})[0] for level in levels], dtype=float)
                theirs -= OPERATIONS[number] in FACTORS
                theirs = np.maximum(theirs, 1) if OPERATIONS[number] == "Posterize" else theirs
                ours = magnitude(np.full(201, number), levels, np.full(201, float(negated)), increasing)
                np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("recipe", [RECIPE, "rand-m7-n3-p1.0-mstd3", "rand-m10-mstd101-inc1"])
@pytest.mark.parametrize("interpolation", ["random", "bicubic"])
def test_a_drawn_policy_is_timms_operations_one_after_the_other(recipe, interpolation):
    policy = TimmRandAugment(recipe, MEAN, interpolation)
    pictures, what = images(60), named(policy, 60)
    made = policy(pictures / 255, flat(drawn(policy, 60)))
    for i, image in enumerate(pictures):
        picture = as_picture(image)
        for layer, number in enumerate(what.operation[i, 0]):
            name, size = OPERATIONS[number], what.magnitude[i, 0, layer]
            if name != "Identity":
                size = 1 + size if name in FACTORS else size
                size = int(size) if name in {"Posterize", "Solarize", "SolarizeAdd"} else size
                arguments = () if name in {"AutoContrast", "Equalize", "Invert"} else (size,)
                resample = Image.Resampling[INTERPOLATIONS[what.interpolation[i, 0, layer]].upper()]
                operation = auto_augment.NAME_TO_OP[timms_name(name, increasing=True)]
                picture = operation(picture, *arguments, fillcolor=MEAN, resample=resample)
        assert torch.equal((made[i] * 255).round(), as_tensor(picture).float())


@pytest.mark.parametrize("side", [32, 45])
def test_pillow_itself_makes_the_bits_that_a_batch_makes(side):
    policy = TimmRandAugment("rand-m7-n3-p0.8-mstd3", MEAN)
    choices = flat(drawn(policy, 300))
    batch = apply_policy(images(300, side) / 255, choices, partial(as_pillow, fill=MEAN, cutout_fill=MEAN))
    assert torch.equal(apply_natively(images(300, side) / 255, choices, MEAN, MEAN), batch)


def timms_draws(recipe, n):
    """What timm's transform does to n images: arguments by operation, and how often it did nothing."""
    seen, picture = defaultdict(list), Image.new("RGB", (8, 8))
    transform = auto_augment.rand_augment_transform(recipe, {"img_mean": MEAN})

    def recorder(name):
        def record(image, *arguments, **_):
            seen[name].append(arguments)
            return image

        return record

    for operation in transform.ops:
        operation.aug_fn = recorder(operation.name)
    random.seed(0)
    np.random.seed(0)
    for _ in range(n):
        transform(picture)
    return seen


@pytest.mark.parametrize("recipe", [RECIPE, "rand-m9-mstd101-inc1", "rand-m6-n1-p0.8-mstd2-mmax8"])
def test_operations_and_magnitudes_have_timms_distribution(recipe):
    n, policy = 20_000, TimmRandAugment(recipe, MEAN)
    seen, some = timms_draws(recipe, n), named(policy, n)
    counts = np.array([(some.operation == number).sum() for number in TIMM])
    expected = n * policy.recipe.n * policy.recipe.p / 15
    assert chisquare(counts, np.full(15, counts.sum() / 15)).pvalue > 1e-3
    assert counts.sum() == pytest.approx(15 * expected, abs=4.5 * (n * policy.recipe.n / 4) ** 0.5)
    for number in TIMM:
        name = OPERATIONS[number]
        theirs = np.array([a[0] for a in seen[timms_name(name, bool(policy.recipe.inc))] if a], dtype=float)
        if len(theirs):
            theirs = np.maximum(theirs, 1) if name == "Posterize" else theirs - (name in FACTORS)
            ours = some.magnitude[some.operation == number]
            assert ks_2samp(ours.round(9), theirs.round(9), method="asymp").pvalue > 1e-3


def test_a_random_interpolation_is_bilinear_half_of_the_time_and_bicubic_else():
    ways = named(TimmRandAugment(RECIPE, MEAN), 20_000).interpolation.ravel()
    assert set(ways.tolist()) == {1, 2}
    assert (ways == 1).mean() == pytest.approx(0.5, abs=4.5 * (0.25 / 40_000) ** 0.5)


def test_one_bit_is_kept_where_timm_would_keep_none():
    bits = magnitude(np.full(3, OPERATIONS.index("Posterize")), np.array([10.0, 9.9, 7.0]), np.zeros(3), True)
    assert bits.tolist() == [1.0, 1.0, 2.0]
    assert auto_augment.LEVEL_TO_ARG["PosterizeIncreasing"](10.0, {}) == (0,)


def test_a_recipe_is_read_as_timm_reads_it():
    read = parsed("rand-m7-n3-p0.25-mstd1.5-mmax12-inc1")
    assert (read.m, read.n, read.p, read.mstd, read.mmax, read.inc) == (7, 3, 0.25, 1.5, 12, 1)
    assert parsed("rand") == parsed("rand-m10-n2-p0.5-mstd0-mmax0-inc0")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("augmix-m5", "must begin with rand-"),
        ("rand-m9-tweights", "tweights is none of"),
        ("rand-m9.5", "m9.5 is none of"),
        ("rand-m9-n0", "n0 must be at least n1"),
        ("rand-p1.5", "p1.5 at most p1"),
    ],
)
def test_a_recipe_that_is_not_understood_is_refused(recipe, message):
    with pytest.raises(ValueError, match=message):
        TimmRandAugment(recipe, MEAN)
