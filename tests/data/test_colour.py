import itertools

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv
from PIL import Image, ImageFilter
from scipy.stats import kstest

from smalldata_vit.data.blur import GaussianBlur, blurred, blurred_within
from smalldata_vit.data.colour import ColourJitter, Grayscale, Solarize
from smalldata_vit.data.colour_changes import change_brightness, change_contrast, change_hue, change_saturation
from smalldata_vit.data.rotation import Rotation


def images(count=12, side=16, seed=0):
    """Values of 8 bits, with black, white, grey and pure colours among them."""
    made = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    made[0, :, 0] = torch.eye(3)[torch.arange(side) % 3].T
    made[0, :, 1] = torch.linspace(0, 1, side)
    return (made * 255).round() / 255


def drawn(operation, count, views=1, seed=0):
    return operation.draw(np.random.default_rng(seed).random((count, views, operation.numbers)))


def flat(drawn_choices):
    return {key: value.flatten(0, 1) for key, value in drawn_choices.items()}


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (change_brightness, tv.adjust_brightness, 0.0, 1.9),
        (change_contrast, tv.adjust_contrast, 0.0, 1.9),
        (change_saturation, tv.adjust_saturation, 0.0, 1.9),
        (change_hue, tv.adjust_hue, -0.5, 0.5),
    ],
)
def test_each_change_of_colour_is_torchvisions(ours, theirs, low, high):
    amounts = torch.linspace(low, high, 12)
    made = ours(images(), amounts)
    expected = torch.stack([theirs(image, amount.item()) for image, amount in zip(images(), amounts, strict=True)])
    torch.testing.assert_close(made, expected, atol=4e-6, rtol=0)


def test_a_whole_jitter_in_its_drawn_order_is_torchvisions_chain():
    jitter, n = ColourJitter(0.8, 0.4, 0.4, 0.2, 0.1), 200
    uniform = np.random.default_rng(3).random((n, 1, jitter.numbers))
    drawn_choices = flat(jitter.draw(uniform))
    made = jitter(images(n, 8), drawn_choices)
    for i, image in enumerate(images(n, 8)):
        if uniform[i, 0, 0] < 0.8:
            factors = [*drawn_choices["factors"][i].tolist(), drawn_choices["shift"][i].item()]
            changes = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
            for change in np.argsort(uniform[i, 0, 1:5]):
                image = changes[change](image, factors[change])
        assert (made[i] - image).abs().max() * 255 < 0.04


def test_all_orders_of_a_jitter_are_equally_likely():
    slots = drawn(ColourJitter(1.0, 0.4, 0.4, 0.2, 0.1), 48_000)["slots"][:, 0].tolist()
    orders = [(*(c for c in s[:3] if c >= 0), 3, *(c for c in s[3:] if c >= 0)) for s in slots]
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert sum(counts) == 48_000
    assert max(abs(c - 2000) for c in counts) < 4 * 44  # standard deviation of a count: 44


def test_factors_and_radii_are_uniform_in_their_ranges_and_chances_as_asked():
    n = 20_000
    jitter = drawn(ColourJitter([0.8, 0.1], 0.4, 1.5, 0.2, 0.1), n, views=2)
    blur = drawn(GaussianBlur(0.5, [0.1, 2.0]), n)
    ranges = [(0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1), (0.1, 2.0)]
    values = [*jitter["factors"][:, 0].unbind(1), jitter["shift"][:, 0], blur["radius"][:, 0]]
    for value, (low, high) in zip(values, ranges, strict=True):
        assert kstest(value.double().numpy(), "uniform", (low, high - low)).statistic < 0.0115  # 1 % critical value
    assert jitter["on"].double().mean(0).tolist() == pytest.approx([0.8, 0.1], abs=0.012)
    assert blur["on"].double().mean().item() == pytest.approx(0.5, abs=0.015)


def test_a_jitter_without_hue_and_saturation_leaves_them():
    jitter = ColourJitter(1.0, 0.4, 0.4, 0.0, 0.0)
    gray = images()[:, :1].expand(-1, 3, -1, -1).clone()
    made = jitter(gray.clone(), flat(drawn(jitter, 12)))
    assert not torch.equal(made, gray)
    torch.testing.assert_close(made[:, 0], made[:, 2], atol=1e-6, rtol=0)
    assert not (drawn(jitter, 12)["slots"] == 2).any()


def test_gray_and_solarize_are_torchvisions():
    on = torch.arange(12) % 2 == 0
    gray = Grayscale(0.5)(images(), {"on": on})
    solarized = Solarize(0.5, 128)(images(), {"on": on})
    for i, image in enumerate(images()):
        expected_gray = tv.rgb_to_grayscale(image, 3) if on[i] else image
        expected = tv.solarize((image * 255).round().to(torch.uint8), 128) / 255 if on[i] else image
        torch.testing.assert_close(gray[i], expected_gray, atol=1e-6, rtol=0)
        torch.testing.assert_close(solarized[i], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [6, 8, 16, 33])
def test_the_blur_is_pillows_but_for_its_rounding(side):
    radii = torch.linspace(0.1, 2.0, 12)
    made = blurred(images(12, side), radii) * 255
    for image, radius, ours in zip(images(12, side), radii, made, strict=True):
        picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
        theirs = np.array(picture.filter(ImageFilter.GaussianBlur(radius.item())))
        difference = (ours - torch.from_numpy(theirs).permute(2, 0, 1)).abs()
        assert difference.max() < 3  # Pillow rounds to 8 bits six times
        assert difference.mean() < 1.1


def test_the_blur_keeps_a_plain_image_and_the_variance_of_its_radius():
    plain = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(blurred(plain, torch.tensor([1.7])), plain, atol=1e-6, rtol=0)
    point = torch.zeros(1, 3, 31, 31)
    point[:, :, 15, 15] = 1
    spread = blurred(point, torch.tensor([1.7]))[0, 0].sum(0)
    assert (spread * (torch.arange(31) - 15.0) ** 2).sum().item() == pytest.approx(1.7**2, abs=1e-3)


def test_a_rotation_is_torchvisions():
    rotation = Rotation(degrees=20)
    uniform = np.random.default_rng(0).random((12, 1, 2))
    made = rotation(images(), flat(rotation.draw(uniform)))
    for image, number, ours in zip(images(), uniform[:, 0, 1], made, strict=True):
        expected = tv.rotate(image, -20 + 40 * number, tv.InterpolationMode.BILINEAR)
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "operation",
    [
        ColourJitter(0.7, 0.4, 0.4, 0.2, 0.1),
        Grayscale(0.5),
        Solarize(0.5, 128),
        GaussianBlur(0.5, [0.1, 2.0]),
        Rotation(20, 0.5),
    ],
)
def test_the_form_of_fixed_shapes_makes_the_views_of_the_one_by_rows(operation):
    some = flat(drawn(operation, 12))
    torch.testing.assert_close(operation.masked(images(), some), operation(images(), some), atol=1e-6, rtol=0)


@pytest.mark.parametrize("operation", [ColourJitter(0.7, 0.8, 0.8, 0.8, 0.2), GaussianBlur(0.5, [0.1, 2.0])])
def test_large_views_are_changed_one_by_one_to_what_they_are_together(operation):
    some = flat(drawn(operation, 6))
    large, small = images(6, 80), images(6, 80)
    expected = torch.cat(
        [operation.masked(small[i : i + 1], {k: v[i : i + 1] for k, v in some.items()}) for i in range(6)]
    )
    torch.testing.assert_close(operation(large, some), expected, atol=2e-6, rtol=0)


def test_a_jitter_of_nothing_leaves_every_bit():
    jitter = ColourJitter(0.0, 0.4, 0.4, 0.2, 0.1)
    assert torch.equal(jitter.masked(images(), flat(drawn(jitter, 12))), images())


@pytest.mark.parametrize("radii", [(0.0, 0.3), (0.1, 2.0), (2.5, 4.0)])
def test_a_large_view_is_blurred_from_a_few_pixels_as_by_the_whole_matrix_also_at_its_borders(radii):
    blur, radius = GaussianBlur(1.0, radii), torch.linspace(*radii, 5)
    many = images(5, 80)
    torch.testing.assert_close(
        blurred_within(many, radius, max(blur.reach, 1)), blurred(many, radius), atol=1e-6, rtol=0
    )


def test_the_blur_of_large_views_is_pillows_but_for_its_rounding():
    radii, blur = torch.linspace(0.1, 2.0, 4), GaussianBlur(1.0, [0.1, 2.0])
    made = blur(images(4, 96), {"on": torch.ones(4, dtype=torch.bool), "radius": radii}) * 255
    for image, radius, ours in zip(images(4, 96), radii, made, strict=True):
        picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
        theirs = np.array(picture.filter(ImageFilter.GaussianBlur(radius.item())))
        assert (ours - torch.from_numpy(theirs).permute(2, 0, 1)).abs().max() < 3


def test_a_list_of_probabilities_that_does_not_fit_the_views_is_refused():
    with pytest.raises(ValueError, match="names 3 views, but the group has 2"):
        drawn(Grayscale([0.1, 0.2, 0.3]), 4, views=2)
    with pytest.raises(ValueError, match="not between 0 and 1"):
        drawn(Grayscale(1.2), 4)
