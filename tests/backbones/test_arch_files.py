from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

FILES = sorted((Path(__file__).parents[2] / "conf" / "arch").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_arch_is_a_factory_of_networks_for_the_images_of_its_stage(file):
    stage = OmegaConf.create({"image_size": 32, "arch": OmegaConf.load(file)})
    factory = instantiate(stage.arch)
    with torch.device("meta"):
        student, teacher = factory(), factory(drop_path_rate=0.0)
        assert student(torch.empty(2, 3, 32, 32)).shape == (2, student.num_features)
    assert teacher.state_dict().keys() == student.state_dict().keys()


def test_the_digits_arch_has_sixteen_tokens_of_an_eight_pixel_digit_and_their_mean():
    stage = OmegaConf.create({"image_size": 8, "arch": OmegaConf.load(FILES[0].with_name("vit_digits.yaml"))})
    network = instantiate(stage.arch)()
    assert network.pos_embed.shape == (1, 16, 64)
    assert network(torch.zeros(3, 3, 8, 8)).shape == (3, 64)
