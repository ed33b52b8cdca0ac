"""What a pass looks at and draws from."""

from types import SimpleNamespace

import pytest
import torch

from smalldata_vit.passage import Passage, seed_generators


def test_a_stage_that_reads_labels_refuses_images_without_one() -> None:
    class Labels:
        labels = torch.tensor([0, -1, 2, -1])

        def __len__(self) -> int:
            return 4

    with pytest.raises(ValueError, match="2 of 4 images have no label"):
        Passage.labels.func(SimpleNamespace(images=Labels(), device=torch.device("cpu")))


def test_seeding_a_device_draws_what_torch_draws() -> None:
    seed_generators(5, torch.device("cpu"))
    drawn, seed = torch.rand(3), torch.initial_seed()
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert seed == 5
