from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from policy_samples import drawn, flat, images, named, one_kernel
from torchvision.transforms import AutoAugment as TheirAutoAugment
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, TrivialAugmentWide
from torchvision.transforms import RandAugment as TheirRandAugment
from torchvision.transforms.autoaugment import _apply_op

from smalldata_vit.data.policies import RANDOM, AutoAugment, RandAugment, TrivialAugment
from smalldata_vit.data.policies_arithmetic import as_torchvision
from smalldata_vit.data.policies_levels import HIGHEST, SIGNED, WIDE, magnitudes
from smalldata_vit.data.policies_plan import OPERATIONS

SHARED = [OPERATIONS[k] for k in (*RANDOM[1:], OPERATIONS.index("Invert"))]
TABLES = {
    "AutoAugment": (TheirAutoAugment(), 10, magnitudes(10, HIGHEST), 331),
    "RandAugment": (TheirRandAugment(), 31, magnitudes(31, HIGHEST), 331),
    "TrivialAugment": (TrivialAugmentWide(), 31, magnitudes(31, WIDE, fewest_bits=2), 1),
}
NEAREST, BILINEAR = InterpolationMode.NEAREST, InterpolationMode.BILINEAR


def one_by_one(pictures, name, sizes, mode, fill):
    """torchvision's operation on each image; translations in pixels."""
    each = zip(pictures, sizes, strict=True)
    return torch.stack([_apply_op(image, name, float(size), mode, [float(fill)] * 3) for image, size in each])


def all_sizes(name, table):
    """Every magnitude of an operation, with both signs where it has two."""
    sizes = table[OPERATIONS.index(name)]
    return np.concatenate([sizes, -sizes]) if name in SIGNED else sizes


@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("policy", ["AutoAugment", "TrivialAugment"])
def test_views_with_magnitudes_of_their_own_are_torchvisions_bits_of_each_image(policy, name, side):
    sizes = all_sizes(name, TABLES[policy][2])
    pictures, pixels = images(len(sizes), side), policy == "TrivialAugment"
    theirs = sizes * side if name.startswith("Translate") and not pixels else sizes
    for mode, number in ((NEAREST, 0), (BILINEAR, 1)):
        change = partial(as_torchvision, fill=[128] * 3)
        made = one_kernel(change, name, pictures, sizes, "torchvision", number, pixels=pixels)
        assert torch.equal(made, one_by_one(pictures, name, theirs, mode, 128))


def test_sharpness_is_torchvisions_at_224_pixels():
    sizes = np.array([-0.9, -0.3, 0.3, 0.9])
    made = one_kernel(partial(as_torchvision, fill=[0] * 3), "Sharpness", images(4, 224), sizes, "torchvision")
    assert torch.equal(made, one_by_one(images(4, 224), "Sharpness", sizes, NEAREST, 0))


@pytest.mark.parametrize("policy", TABLES)
def test_magnitudes_are_those_of_torchvision(policy):
    theirs, levels, ours, side = TABLES[policy]
    arguments = (levels,) if policy == "TrivialAugment" else (levels, (331, 331))
    for name, (values, two_ways) in theirs._augmentation_space(*arguments).items():
        unit = side if name.startswith("Translate") else 1
        expected = values.double().expand(levels).numpy()
        np.testing.assert_allclose(ours[OPERATIONS.index(name)] * unit, expected, atol=2e-5)
        assert two_ways == (name in SIGNED)


@pytest.mark.parametrize("policy", ["CIFAR10", "SVHN", "IMAGENET"])
def test_a_policy_draws_pairs_levels_and_signs_as_torchvision_tabulates_them(policy):
    n = 100_000
    some = named(AutoAugment(policy, fill=0), n)
    operation, magnitude = some.operation[:, 0].tolist(), some.magnitude[:, 0].tolist()
    space = TheirAutoAugment()._augmentation_space(10, (1, 1))
    expected = Counter()
    for pair in TheirAutoAugment(AutoAugmentPolicy[policy]).policies:
        for place, (name, chance, level) in enumerate(pair):
            size = float(space[name][0][level]) if level is not None else 0.0
            for sign in (-1, 1):
                value = sign * size if space[name][1] else size
                expected[place, OPERATIONS.index(name), round(value, 4)] += n * chance / 50
            expected[place, 0, 0.0] += n * (1 - chance) / 25
    found = Counter((p, o[p], round(m[p], 4)) for o, m in zip(operation, magnitude, strict=True) for p in range(2))
    expected = {key: count for key, count in expected.items() if count > 1e-6}
    assert found.keys() == expected.keys()
    assert max(abs(found[key] - expected[key]) / expected[key] ** 0.5 for key in expected) < 4.5


@pytest.mark.parametrize(
    "policy",
    [AutoAugment("CIFAR10", 128), AutoAugment("SVHN", 0, "bilinear"), RandAugment(3, 20, 7), TrivialAugment(128)],
    ids=["AutoAugment", "bilinear", "RandAugment", "TrivialAugment"],
)
def test_a_drawn_policy_is_torchvisions_operations_one_after_the_other(policy):
    pictures, what = images(60), named(policy, 60)
    made = policy(pictures / 255, flat(drawn(policy, 60)))
    mode, fill = InterpolationMode(policy.interpolation), policy.apply.keywords["fill"][0]
    for i, image in enumerate(pictures):
        for number, size in zip(what.operation[i, 0], what.magnitude[i, 0], strict=True):
            in_shares = OPERATIONS[number].startswith("Translate") and not what.pixels
            image = one_by_one(image[None], OPERATIONS[number], [size * 32 if in_shares else size], mode, fill)[0]
        assert torch.equal((made[i] * 255).round(), image.float())


def test_randaugment_draws_all_operations_equally_often_at_its_level():
    some = named(RandAugment(num_ops=2, magnitude=9, fill=0), 20_000)
    counts = np.bincount(some.operation.flatten(), minlength=len(OPERATIONS))[RANDOM]
    assert counts.sum() == 40_000
    assert abs(counts - 40_000 / 14).max() < 4 * 52  # standard deviation of a count: 52
    rotations = some.magnitude[some.operation == OPERATIONS.index("Rotate")]
    assert sorted(set(rotations.tolist())) == pytest.approx([-9.0, 9.0])
    assert (rotations > 0).mean() == pytest.approx(0.5, abs=0.04)


def test_trivialaugment_draws_all_operations_and_all_levels_equally_often():
    some = named(TrivialAugment(fill=0), 200_000)
    operation, magnitude = some.operation.ravel(), some.magnitude.ravel()
    counts = np.bincount(operation, minlength=len(OPERATIONS))[RANDOM]
    assert ((counts - 200_000 / 14) ** 2).sum() * 14 / 200_000 < 34.5  # chi-square, 13 degrees of freedom, 0.1 %
    for name in ("ShearX", "Rotate", "Solarize"):
        sizes, times = np.unique(magnitude[operation == OPERATIONS.index(name)].round(6), return_counts=True)
        assert len(sizes) == (31 if name == "Solarize" else 61)
        weight = np.where((sizes == 0) & (name != "Solarize"), 2, 1) / (31 if name == "Solarize" else 62)
        expected = times.sum() * weight
        assert ((times - expected) ** 2 / expected).sum() < (59.7 if name == "Solarize" else 99.6)  # 0.1 %


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandAugment(num_ops=2, magnitude=31, fill=0), "magnitude=31 must be from 0 to 30"),
        (lambda: TrivialAugment(fill=0, levels=1), "levels=1 leaves no range"),
        (lambda: AutoAugment("SVHN", 128, "bilinear", variant="gani"), "interpolation=bilinear cannot be chosen"),
    ],
)
def test_what_does_not_exist_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
