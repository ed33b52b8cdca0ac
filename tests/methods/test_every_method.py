"""What every method promises; a new file in conf/method is tested here without anybody editing this one."""

import copy
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from method_stand_ins import FACTS, START, TinyBackbone, batch, rows
from omegaconf import OmegaConf

from smalldata_vit.contracts import Method
from smalldata_vit.schedules import Progress

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))


def built(config: Path) -> Method:
    torch.manual_seed(0)
    factory = instantiate(OmegaConf.load(config), _convert_="all")
    return factory(backbone=TinyBackbone, facts=FACTS)


def train(method: Method, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for number in steps:
        progress = Progress(number, 8, 2)
        loss = method(batch(images=6, views=(2,), seed=number), progress)
        optimizer.zero_grad()
        loss.total.backward()
        method.before_step(progress)
        optimizer.step()
        method.after_step(progress, {name: seen.value for name, seen in loss.seen.items()})
        losses.append(loss.total.item())
    return losses


def adam(method: Method) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-2)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_resuming_from_saved_weights_equals_going_on(config: Path) -> None:
    method = built(config)
    optimizer = adam(method)
    train(method, optimizer, range(3))
    again = built(config)
    again.load_state_dict(copy.deepcopy(method.state_dict()))
    theirs = adam(again)
    theirs.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert train(method, optimizer, range(3, 8)) == train(again, theirs, range(3, 8))
    for name, value in method.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_trainable_parameter_moves_once_nothing_is_frozen(config: Path) -> None:
    method = built(config)
    before = {name: p.clone() for name, p in method.named_parameters() if p.requires_grad}
    train(method, adam(method), range(4))
    assert not [n for n, p in method.named_parameters() if p.requires_grad and torch.equal(p, before[n])]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_bf16_gives_finite_gradients_and_a_float32_loss(config: Path) -> None:
    method = built(config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(batch(images=6), START)
    loss.total.backward()
    assert loss.total.dtype == torch.float32
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_encoder_takes_images_and_is_among_the_sources(config: Path) -> None:
    method = built(config).eval()
    assert method.encoder(batch().views[0][:, 0]).shape == (4, 12)
    assert method.sources()["encoder"] is method.encoder
    modules = set(method.modules())
    assert all(network in modules for network in method.sources().values())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_method_that_does_not_couple_images_gives_each_image_its_own_loss(config: Path) -> None:
    method, whole = built(config), batch(images=4)
    if method.couples_images:
        pytest.skip("couples images")
    parts = [method(rows(whole, slice(b, b + 1)), START).total for b in range(4)]
    torch.testing.assert_close(method(whole, START).total, torch.stack(parts).mean())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_methods_are_built_and_run_on_the_meta_device(config: Path) -> None:
    with torch.device("meta"):
        method = built(config)
        given = batch(images=2)
        assert method(given, START).total.is_meta
