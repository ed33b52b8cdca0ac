import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from smalldata_vit.parts import instances
from smalldata_vit.parts.instances import Targets, instance_entropy

ROWS, WIDTH, CLASSES = 8, 6, 23


def head(classes: int = CLASSES, width: int = WIDTH, dtype: torch.dtype = torch.float64) -> nn.Linear:
    torch.manual_seed(1)
    layer = nn.Linear(width, classes, dtype=dtype)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def features(rows: int = ROWS, width: int = WIDTH, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(2), dtype=dtype, requires_grad=True)


def pairs(share: float, dtype: torch.dtype = torch.float64) -> Targets:
    """Some rows are mixed with another class, the last with its own."""
    first = torch.tensor([3, 0, 5, 22, 7, 3, 11, 9])
    second = torch.tensor([5, 3, 0, 7, 22, 11, 3, 9])
    return Targets(first, second, torch.tensor(share, dtype=dtype))


def dense(targets: Targets, smoothing: float, classes: int = CLASSES) -> Tensor:
    """t = λ LS(first) + (1 - λ) LS(second), a row for each image, written out."""
    rows = []
    for one, other in zip(targets.first.tolist(), targets.second.tolist(), strict=True):
        row = [smoothing / classes] * classes
        row[one] += float(targets.share) * (1 - smoothing)
        row[other] += (1 - float(targets.share)) * (1 - smoothing)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("share", [0.5, 0.83, 1.0])
def test_the_entropy_is_that_of_the_dense_targets(smoothing: float, share: float) -> None:
    layer, z, targets = head(), features(), pairs(share)
    expected = -(dense(targets, smoothing) * F.log_softmax(layer(z), dim=1)).sum(1)
    torch.testing.assert_close(instance_entropy(z, layer, targets, smoothing)[0], expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [1, 3 * CLASSES, 10**6])
def test_the_gradient_on_row_k_is_the_closed_form_for_every_k(
    monkeypatch: pytest.MonkeyPatch, smoothing: float, chunk: int
) -> None:
    monkeypatch.setattr(instances, "CHUNK", chunk)
    layer, z, targets = head(), features(), pairs(0.7)
    weight = torch.linspace(0.5, 2, ROWS, dtype=torch.float64)
    error = (layer(z).softmax(1) - dense(targets, smoothing)).detach() * weight[:, None]
    (instance_entropy(z, layer, targets, smoothing)[0] * weight).sum().backward()
    for k in range(CLASSES):
        written_out = sum((error[i, k] * z.detach()[i] for i in range(ROWS)), start=torch.zeros(WIDTH).double())
        torch.testing.assert_close(layer.weight.grad[k], written_out)
        torch.testing.assert_close(layer.bias.grad[k], error[:, k].sum())
    torch.testing.assert_close(z.grad, error @ layer.weight.detach())


def test_smoothing_before_mixing_equals_smoothing_after_it() -> None:
    targets, smoothing = pairs(0.7), 0.1
    mixed = dense(targets, 0.0)
    after = -(((1 - smoothing) * mixed + smoothing / CLASSES) * F.log_softmax(head()(features()), dim=1)).sum(1)
    torch.testing.assert_close(instance_entropy(features(), head(), targets, smoothing)[0], after)


def test_the_second_result_is_the_log_probability_of_the_first_class() -> None:
    layer, z, targets = head(), features(), pairs(0.7)
    expected = F.log_softmax(layer(z), dim=1).gather(1, targets.first[:, None])[:, 0]
    _, own = instance_entropy(z, layer, targets)
    torch.testing.assert_close(own, expected.detach())
    assert not own.requires_grad


def test_bf16_products_give_a_float32_entropy_near_the_exact_one() -> None:
    layer, z, targets = head(dtype=torch.float32), features(dtype=torch.float32), pairs(0.7, torch.float32)
    exact = instance_entropy(z, layer, targets, 0.1)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = instance_entropy(z, layer, targets, 0.1)[0]
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=2e-2, atol=2e-2)
    rounded.sum().backward()
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == z.grad.dtype == torch.float32


def test_a_second_backward_is_refused_because_the_logits_are_gone() -> None:
    layer, z = head(), features()
    entropy = instance_entropy(z, layer, pairs(0.7))[0].sum()
    entropy.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace operation"):
        entropy.backward()


def peak_bytes(run: object) -> int:
    """The most memory that was in use at once beyond what there was before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()  # type: ignore[operator]
    held = peak = 0
    events = sorted(watched.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    for event in events:
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def forward_and_backward(plain: bool) -> int:
    rows, classes, width = 256, 20_000, 8
    layer, z = head(classes, width, torch.float32), features(rows, width, torch.float32)
    index = torch.arange(rows)
    targets = Targets(index, index.flip(0), torch.tensor(0.7))

    def run() -> None:
        if plain:
            soft = torch.zeros(rows, classes).scatter_(1, index[:, None], 0.7)
            soft.scatter_add_(1, index.flip(0)[:, None], torch.full((rows, 1), 0.3))
            F.cross_entropy(layer(z), soft, label_smoothing=0.1).backward()
        else:
            instance_entropy(z, layer, targets, 0.1)[0].mean().backward()

    return peak_bytes(run)


def test_memory_is_that_of_the_logits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "CHUNK", 2**17)
    logits = 256 * 20_000 * 4
    assert logits < forward_and_backward(plain=False) < 1.3 * logits
    assert forward_and_backward(plain=True) > 3 * logits


def test_the_gradient_of_the_entropy_stays_in_the_memory_of_the_logits() -> None:
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        instance_entropy(features(), head(), pairs(0.7), 0.1)
    assert saved.count(ROWS * CLASSES) == 1
    assert max(saved) == ROWS * CLASSES
