"""ThreeAugment, held against the authors' Pillow operations and torchvision's jitter."""

import numpy as np
import pytest
import torch
from PIL import ImageFilter, ImageOps
from policy_samples import as_picture, as_tensor, drawn, flat, images
from scipy.stats import chisquare, kstest
from torchvision.transforms import functional as tv

from smalldata_vit.data.colour import BRIGHTNESS, CONTRAST, SATURATION
from smalldata_vit.data.policies_three import ThreeAugment


def without_jitter(choices):
    return {**choices, "on": torch.zeros_like(choices["on"])}


def test_one_of_three_changes_is_pillows_to_within_three_of_255():
    # Pillow rounds grey once and blur six times; a value that is merely rounded differs by less than one.
    policy, pictures = ThreeAugment(0.3), images(60)
    choices = flat(drawn(policy, 60))
    made = policy(pictures / 255, without_jitter(choices)) * 255
    for i, image in enumerate(pictures):
        picture, which = as_picture(image), int(choices["which"][i])
        changes = (
            lambda picture: ImageOps.grayscale(picture).convert("RGB"),
            lambda picture: ImageOps.solarize(picture, 128),
            lambda picture, i=i: picture.filter(ImageFilter.GaussianBlur(float(choices["radius"][i]))),
        )
        difference = (made[i] - as_tensor(changes[which](picture))).abs().max().item()
        assert difference < (1, 1e-3, 3)[which]


def test_the_jitter_comes_after_and_is_torchvisions():
    policy, pictures = ThreeAugment(0.3), images(30) / 255
    choices = flat(drawn(policy, 30))
    before, after = policy(pictures.clone(), without_jitter(choices)), policy(pictures.clone(), choices)
    steps = {BRIGHTNESS: tv.adjust_brightness, CONTRAST: tv.adjust_contrast, SATURATION: tv.adjust_saturation}
    for i, image in enumerate(before):
        for change in choices["slots"][i].tolist():
            if change >= 0:
                image = steps[change](image, float(choices["factors"][i, change]))
        torch.testing.assert_close(after[i], image, atol=2e-6, rtol=0)


def test_the_three_are_equally_frequent_and_factors_and_radii_uniform():
    n = 20_000
    some = drawn(ThreeAugment(0.3), n)
    assert chisquare(np.bincount(some["which"].flatten().numpy(), minlength=3)).pvalue > 1e-3
    assert kstest(some["radius"].flatten().double().numpy(), "uniform", (0.1, 1.9)).pvalue > 1e-3
    for factor in some["factors"].flatten(0, 1).double().numpy().T:
        assert kstest(factor, "uniform", (0.7, 0.6)).pvalue > 1e-3
    assert some["on"].all()
    assert (some["shift"] == 0).all()


def test_a_range_of_radii_in_the_wrong_order_is_refused():
    with pytest.raises(ValueError, match=r"radius=\[2.0, 0.1\]"):
        ThreeAugment(0.3, (2.0, 0.1))
