from collections import Counter

import numpy as np
import pytest
import torch
from torchvision.transforms import AutoAugment as TheirAutoAugment
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode
from torchvision.transforms import RandAugment as TheirRandAugment
from torchvision.transforms.autoaugment import _apply_op

from smalldata_vit.data.policies import (
    HIGHEST,
    OPERATIONS,
    RANDOM,
    SIGNED,
    AutoAugment,
    RandAugment,
    changed,
    magnitudes,
)


def images(count=5, side=32, seed=0):
    return torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def drawn(policy, count, seed=0):
    return policy.draw(np.random.default_rng(seed).random((count, 1, policy.numbers)))


@pytest.mark.parametrize("interpolation", [InterpolationMode.NEAREST, InterpolationMode.BILINEAR])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_on_a_batch_is_torchvisions_on_each_image(name, interpolation):
    for level in (3, 9):
        for sign in (1, -1) if name in SIGNED else (1,):
            magnitude = sign * magnitudes(10)[OPERATIONS.index(name), level]
            theirs = magnitude * 32 if name.startswith("Translate") else magnitude
            made = images() if name == "Identity" else changed(images(), name, magnitude, interpolation, [128.0] * 3)
            expected = [_apply_op(image, name, theirs, interpolation, [128.0] * 3) for image in images()]
            difference = (made.int() - torch.stack(expected).int()).abs()
            assert difference.max() <= (1 if name == "Sharpness" else 0)  # theirs blurs in float32


@pytest.mark.parametrize(("theirs", "levels"), [(TheirAutoAugment(), 10), (TheirRandAugment(), 31)])
def test_magnitudes_are_those_of_torchvision(theirs, levels):
    ours = magnitudes(levels)
    for name, (values, two_ways) in theirs._augmentation_space(levels, (331, 331)).items():
        unit = 331 if name.startswith("Translate") else 1
        expected = values.double().expand(levels).numpy()
        np.testing.assert_allclose(ours[OPERATIONS.index(name)] * unit, expected, atol=2e-5)
        assert two_ways == (name in SIGNED) == (name in HIGHEST)


@pytest.mark.parametrize("policy", ["CIFAR10", "SVHN", "IMAGENET"])
def test_a_policy_draws_pairs_levels_and_signs_as_torchvision_tabulates_them(policy):
    n = 100_000
    some = drawn(AutoAugment(policy, fill=0), n)
    operation, magnitude = some["operation"][:, 0].tolist(), some["magnitude"][:, 0].tolist()
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


def test_a_drawn_policy_is_its_operations_one_after_the_other():
    policy = AutoAugment("CIFAR10", fill=128)
    some = {key: value.flatten(0, 1) for key, value in drawn(policy, 30).items()}
    made = policy(images(30) / 255, some)
    for i, image in enumerate(images(30)):
        for number, magnitude in zip(some["operation"][i].tolist(), some["magnitude"][i].tolist(), strict=True):
            size = magnitude * 32 if OPERATIONS[number].startswith("Translate") else magnitude
            image = _apply_op(image, OPERATIONS[number], size, InterpolationMode.NEAREST, [128.0] * 3)
        assert (made[i] * 255 - image).abs().max() < 1.01
        if "Sharpness" not in {OPERATIONS[k] for k in some["operation"][i]}:
            assert torch.equal((made[i] * 255).round(), image.float())


def test_randaugment_draws_all_operations_equally_often_at_its_level():
    some = drawn(RandAugment(num_ops=2, magnitude=9, fill=0), 20_000)
    counts = np.bincount(some["operation"].flatten().numpy(), minlength=len(RANDOM))
    assert len(counts) == 14
    assert abs(counts - 40_000 / 14).max() < 4 * 52  # standard deviation of a count: 52
    rotations = some["magnitude"][some["operation"] == RANDOM.index("Rotate")]
    assert sorted(set(rotations.tolist())) == pytest.approx([-9.0, 9.0])
    assert (rotations > 0).double().mean().item() == pytest.approx(0.5, abs=0.04)


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="magnitude=31 must be from 0 to 30"):
        RandAugment(num_ops=2, magnitude=31, fill=0)
