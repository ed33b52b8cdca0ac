"""How many images fit into one forward."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from smalldata_vit import config as configuration
from smalldata_vit.assembly import Assembly, assemble, load_data
from smalldata_vit.fitting import first_of, free_memory, held_by_training, images_that_fit, kept_per_image
from smalldata_vit.journal import Journal

WORDS = ("stages=[pretrain]", "trainer=cpu", "arch.depth=2", "arch.width=32", "method.batch_norm=false")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    cfg = configuration.compose(list(WORDS))
    config = configuration.stage_config(cfg, "pretrain") | {"hash": "none"}
    folder: Path = tmp_path_factory.mktemp("fitting")
    return assemble(config, load_data(config), folder, Journal(None, "pretrain"), [], proof="one")


def test_what_a_forward_keeps_grows_with_its_images(stage: Assembly) -> None:
    one = stage.data.step(0).passes[0]
    few, many = (n * kept_per_image(stage.learner, first_of(one, n), nullcontext()) for n in (8, 32))
    assert few * 1.5 < many < few * 4.5, "four times the images; the weights of prototypes are kept once"


def test_measuring_leaves_the_method_as_it_was(stage: Assembly) -> None:
    before = {name: value.clone() for name, value in stage.method.state_dict().items()}
    kept_per_image(stage.learner, stage.data.step(0).passes[0], nullcontext())
    assert all(torch.equal(value, before[name]) for name, value in stage.method.state_dict().items())
    assert all(p.grad is None for p in stage.method.parameters())


@pytest.mark.parametrize("share", [1.5, 0.7, 0.3, 0.1])
def test_a_batch_is_cut_into_equal_passes_that_fit(stage: Assembly, share: float) -> None:
    one = stage.data.step(0).passes[0]
    per_image = 1.5 * kept_per_image(stage.learner, first_of(one, 8), nullcontext())
    free = int((share * 64 * per_image + held_by_training(stage.learner)) / 0.8) + 1
    most = images_that_fit(stage.learner, stage.data, free, nullcontext())
    assert most <= max(share * 64, 1)
    assert most > share * 64 / 2


def test_too_little_memory_for_one_image_is_said_with_the_sizes(stage: Assembly) -> None:
    with pytest.raises(MemoryError, match=r"one image needs .* MB .* are free"):
        images_that_fit(stage.learner, stage.data, 1000, nullcontext())


def test_there_is_some_free_memory_here() -> None:
    assert 2**26 < free_memory(torch.device("cpu")) < 2**50
