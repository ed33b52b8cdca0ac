"""Policies in Pillow's arithmetic, held against Pillow on each image."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from policy_samples import as_picture, as_tensor, drawn, flat, images, named, one_kernel

from smalldata_vit.data.policies import AutoAugment
from smalldata_vit.data.policies_arithmetic import as_pillow
from smalldata_vit.data.policies_levels import HIGHEST, magnitudes
from smalldata_vit.data.policies_native import apply_natively
from smalldata_vit.data.policies_plan import INTERPOLATIONS, OPERATIONS, apply_policy
from smalldata_vit.data.policies_uda import UDA, UDARandAugment

RESAMPLING = [Image.Resampling[name.upper()] for name in INTERPOLATIONS]
FILL, CUTOUT = (124, 116, 104), (125, 122, 113)
UDA_HALF = UDARandAugment(0.5, FILL, CUTOUT)


def moved_by(picture, matrix, resample, fill):
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill)


def solarized_more(picture, summand):
    return picture.point([min(255, v + summand) if v < 128 else v for v in range(256)] * 3)


def cut_out(picture, side, centre):
    values, half = np.array(picture), int(side) // 2
    x, y = (int(share * picture.width) for share in centre)
    values[max(0, y - half) : y + half, max(0, x - half) : x + half] = CUTOUT
    return Image.fromarray(values)


def of_pillow(picture, name, size, resample, fill, centre):
    """One picture after one operation, in Pillow's own calls."""
    enhance = {"Brightness", "Color", "Contrast", "Sharpness"}
    if name in enhance:
        return getattr(ImageEnhance, name)(picture).enhance(1 + size)
    return {
        "Identity": lambda: picture,
        "ShearX": lambda: moved_by(picture, (1, size, 0, 0, 1, 0), resample, fill),
        "ShearY": lambda: moved_by(picture, (1, 0, 0, size, 1, 0), resample, fill),
        "TranslateX": lambda: moved_by(picture, (1, 0, size * picture.width, 0, 1, 0), resample, fill),
        "TranslateY": lambda: moved_by(picture, (1, 0, 0, 0, 1, size * picture.height), resample, fill),
        "Rotate": lambda: picture.rotate(size, resample, fillcolor=fill),
        "Posterize": lambda: ImageOps.posterize(picture, int(size)),
        "Solarize": lambda: ImageOps.solarize(picture, size),
        "SolarizeAdd": lambda: solarized_more(picture, int(size)),
        "AutoContrast": lambda: ImageOps.autocontrast(picture),
        "Equalize": lambda: ImageOps.equalize(picture),
        "Invert": lambda: ImageOps.invert(picture),
        "Cutout": lambda: cut_out(picture, size, centre),
    }[name]()


SIZES = {
    "ShearX": np.linspace(-0.3, 0.3, 13), "ShearY": np.linspace(-0.3, 0.3, 13),
    "TranslateX": np.linspace(-0.45, 0.45, 13), "TranslateY": np.linspace(-0.45, 0.45, 13),
    "Rotate": np.linspace(-30, 30, 13),
    "Brightness": np.linspace(-0.9, 0.9, 13), "Color": np.linspace(-0.9, 0.9, 13),
    "Contrast": np.linspace(-0.9, 0.9, 13), "Sharpness": np.linspace(-0.9, 0.9, 13),
    "Posterize": np.arange(1, 9), "Solarize": np.linspace(0, 256, 13), "SolarizeAdd": np.arange(0, 129, 8),
    "AutoContrast": np.zeros(10), "Equalize": np.zeros(10), "Invert": np.zeros(3), "Cutout": np.arange(2, 21),
}  # fmt: skip


@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize("name", OPERATIONS[1:])
def test_views_with_magnitudes_of_their_own_are_pillows_bits_of_each_picture(name, side):
    sizes = SIZES[name].astype(float)
    pictures, change = images(len(sizes), side), partial(as_pillow, fill=FILL, cutout_fill=CUTOUT)
    centre = np.random.default_rng(0).random((len(sizes), 1, 1, 2))
    for number in range(3) if name in OPERATIONS[1:6] else (0,):
        made = one_kernel(change, name, pictures, sizes, "pillow", number, centre)
        for image, size, where, ours in zip(pictures, sizes, centre[:, 0, 0], made, strict=True):
            theirs = of_pillow(as_picture(image), name, size, RESAMPLING[number], FILL, where)
            assert torch.equal(ours, as_tensor(theirs))


def ganis_rotation(picture, degrees):
    turned = picture.convert("RGBA").rotate(degrees)
    return Image.composite(turned, Image.new("RGBA", turned.size, (128,) * 4), turned).convert("RGB")


def published_form(image, what, i, fill):
    """A picture after its operations in the code that Gani et al. and IDMM have in common."""
    picture = as_picture(image)
    for layer, number in enumerate(what.operation[i, 0]):
        name, size = OPERATIONS[number], what.magnitude[i, 0, layer]
        centre = None if what.centre is None else what.centre[i, 0, layer]
        resample = Image.Resampling.BICUBIC if name.startswith("Shear") else Image.Resampling.NEAREST
        if name == "Rotate":
            picture = ganis_rotation(picture, size)
        else:
            picture = of_pillow(picture, name, size, resample, fill, centre)
    return as_tensor(picture)


@pytest.mark.parametrize(
    "policy",
    [
        AutoAugment("CIFAR10", 128, variant="gani"),
        AutoAugment("SVHN", 128, variant="gani"),
        AutoAugment("IMAGENET", 128, variant="gani"),
        UDARandAugment(1.0, (128, 128, 128), CUTOUT),
    ],
    ids=["CIFAR10", "SVHN", "IMAGENET", "UDA"],
)
def test_a_drawn_policy_is_pillows_operations_one_after_the_other(policy):
    pictures, what = images(100), named(policy, 100)
    made = policy(pictures / 255, flat(drawn(policy, 100)))
    for i, image in enumerate(pictures):
        assert torch.equal((made[i] * 255).round(), published_form(image, what, i, (128, 128, 128)).float())


@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize("policy", [*(AutoAugment(name, 7, variant="gani") for name in ("SVHN", "IMAGENET")), UDA_HALF])
def test_pillow_itself_makes_the_bits_that_a_batch_makes(policy, side):
    choices, fills = flat(drawn(policy, 300)), policy.apply.keywords
    cutout_fill = fills.get("cutout_fill", (0, 0, 0))
    batch = apply_policy(
        images(300, side) / 255, choices, partial(as_pillow, fill=fills["fill"], cutout_fill=cutout_fill)
    )
    assert torch.equal(apply_natively(images(300, side) / 255, choices, fills["fill"], cutout_fill), batch)


def test_ganis_policy_never_negates_a_rotation_and_solarizes_from_256_down():
    some = named(AutoAugment("SVHN", 128, variant="gani"), 20_000)
    assert (some.magnitude[some.operation == OPERATIONS.index("Rotate")] > 0).all()
    slopes = some.magnitude[some.operation == OPERATIONS.index("ShearX")]
    assert (slopes > 0).mean() == pytest.approx(0.5, abs=0.05)
    levels = magnitudes(10, HIGHEST, solarize=256)[OPERATIONS.index("Solarize")]
    np.testing.assert_allclose(levels, np.linspace(256, 0, 10), atol=1e-12)


def test_udas_policy_draws_all_135_pairs_of_operation_and_level_equally_often():
    n = 100_000
    some = named(UDARandAugment(1.0, FILL, CUTOUT), n)
    signs = some.operation * 1000 + np.abs(some.magnitude).round(3)
    for layer in range(2):
        sizes, counts = np.unique(signs[:, 0, layer].round(3), return_counts=True)
        # An operation without magnitude, or one whose levels round to the same number of bits, fills several cells.
        cells = {}
        for operation in UDA:
            for level in range(1, 10):
                size = policy_size(operation, level)
                cells[round(operation * 1000 + size, 3)] = cells.get(round(operation * 1000 + size, 3), 0) + 1
        assert len(cells) == len(sizes)
        expected = n * np.array([cells[key] for key in sorted(cells)]) / 135
        assert ((counts - expected) ** 2 / expected).sum() < len(sizes) - 1 + 4.5 * (2 * (len(sizes) - 1)) ** 0.5
    both = np.unique(some.operation[:, 0, 0] * 100 + some.operation[:, 0, 1], return_counts=True)[1]
    assert len(both) == 225
    assert ((both - n / 225) ** 2).sum() / (n / 225) < 224 + 4.5 * 448**0.5  # chi-square, 224 degrees of freedom


def policy_size(operation, level):
    return float(abs(UDARandAugment(1.0, FILL, CUTOUT).magnitudes[operation, level]).round(3))


def test_udas_operations_happen_with_their_probability():
    some = named(UDARandAugment(0.5, FILL, CUTOUT), 40_000)
    assert (some.operation > 0).mean() == pytest.approx(0.5, abs=4.5 * (0.25 / 80_000) ** 0.5)


def test_udas_cutout_grows_from_2_to_20_pixels():
    sizes = UDARandAugment(0.5, FILL, CUTOUT).magnitudes[OPERATIONS.index("Cutout"), 1:]
    assert sizes.tolist() == np.round(np.linspace(0, 20, 10))[1:].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, FILL, CUTOUT), "probability=1.5"),
        ((0.5, (1, 2), CUTOUT), "fill=.1, 2."),
        ((0.5, FILL, (300, 0, 0)), "30"),
    ],
)
def test_a_probability_or_colour_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UDARandAugment(*arguments)
