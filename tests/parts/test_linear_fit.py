import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from smalldata_vit.parts.linear_fit import fit_head


def blobs(images: int, classes: int, width: int, spread: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, width, generator=chance)
    label = torch.arange(images) % classes
    return centres[label] + spread * torch.randn(images, width, generator=chance) + 2, label


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("regularisation", [0.1, 10.0, 1000.0])
@pytest.mark.parametrize(("images", "width"), [(12, 20), (200, 6)])
def test_head_is_that_of_scikit_learn(images: int, width: int, regularisation: float, normalize: bool) -> None:
    features, label = blobs(images, 4, width)
    weight, bias = fit_head(features, label, 4, regularisation, normalize)
    x = (F.normalize(features, dim=1) if normalize else features).double().numpy()
    known = LogisticRegression(C=regularisation, tol=1e-10, max_iter=50_000, solver="newton-cg").fit(x, label.numpy())
    size = np.abs(known.coef_).max()
    np.testing.assert_allclose(weight.numpy(), known.coef_, atol=2e-3 * size)
    np.testing.assert_allclose(bias - bias.mean(), known.intercept_ - known.intercept_.mean(), atol=5e-3 * size)


def test_two_classes_get_two_rows_that_mirror_each_other() -> None:
    features, label = blobs(40, 2, 5)
    weight, bias = fit_head(features, label, 2, 1.0, normalize=True)
    assert weight.shape == (2, 5)
    torch.testing.assert_close(weight[0], -weight[1], atol=1e-4, rtol=0)
    assert bias.dtype == weight.dtype == torch.float32


def test_order_of_the_images_does_not_matter() -> None:
    features, label = blobs(60, 3, 8)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    first, _ = fit_head(features, label, 3, 100.0, normalize=True)
    second, _ = fit_head(features[order], label[order], 3, 100.0, normalize=True)
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)


def test_the_same_images_give_the_same_bits() -> None:
    features, label = blobs(60, 3, 8)
    first, second = (fit_head(features, label, 3, 100.0, normalize=True) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_class_without_an_image_is_finite_and_the_least_likely() -> None:
    features, label = blobs(30, 3, 8)
    weight, bias = fit_head(features, label + (label > 0), 5, 1.0, normalize=True)
    assert bool(weight.isfinite().all())
    assert not weight[[1, 4]].any()
    assert float(bias[[1, 4]].max()) < float(bias[[0, 2, 3]].min())


def test_equal_features_give_a_head_that_cannot_tell_classes_apart() -> None:
    weight, bias = fit_head(torch.ones(10, 4), torch.arange(10) % 2, 2, 1.0, normalize=True)
    torch.testing.assert_close(weight, torch.zeros(2, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(bias[0], bias[1], atol=1e-6, rtol=0)


def test_works_under_no_grad_and_leaves_no_gradient() -> None:
    features, label = blobs(20, 2, 4)
    with torch.no_grad():
        weight, bias = fit_head(features.requires_grad_(), label, 2, 1.0, normalize=False)
    assert not weight.requires_grad
    assert not bias.requires_grad
    assert features.grad is None


def test_works_on_features_made_in_inference_mode() -> None:
    features, label = blobs(20, 2, 4)
    with torch.inference_mode():
        inside, _ = fit_head(features + 0, label + 0, 2, 1.0, normalize=False)
    outside, _ = fit_head(features, label, 2, 1.0, normalize=False)
    assert torch.equal(inside, outside)


@pytest.mark.parametrize(
    ("features", "label", "regularisation", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 1.0, "no images"),
        (torch.ones(2, 3), torch.tensor([0, -1]), 1.0, "labels run from -1 to 0"),
        (torch.ones(2, 3), torch.tensor([0, 2]), 1.0, "needs 0 to 1"),
        (torch.ones(2, 3), torch.tensor([0, 1]), 0.0, "must be positive"),
        (torch.full((2, 3), torch.nan), torch.tensor([0, 1]), 1.0, "2 of 2 images have features that are not finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    features: torch.Tensor, label: torch.Tensor, regularisation: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_head(features, label, 2, regularisation, normalize=True)
