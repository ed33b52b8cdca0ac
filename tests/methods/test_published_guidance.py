"""DeiT-Ti guided by ResNet-56 as in Li et al., ECCV 2022: counts, groups and grids, on the meta device."""

from functools import partial

import pytest
import torch
from torch import nn

from smalldata_vit.backbones.resnet_cifar import resnet_cifar
from smalldata_vit.backbones.vit import vit
from smalldata_vit.contracts import DataFacts
from smalldata_vit.methods.supervised import Supervised
from smalldata_vit.optimization import parameter_groups
from smalldata_vit.parts.guidance import Guidance
from smalldata_vit.schedules import Constant


@pytest.fixture(scope="module")
def published() -> Supervised:
    """At 224 and 32 px, a hundred classes; without numbers."""
    facts = DataFacts(50_000, 100, 224, (0.5,) * 3, (0.25,) * 3)
    pairs = [[0, 0], [6, 1], [11, 2]]
    guidance = partial(Guidance, guide=partial(resnet_cifar, 56), image_size=32, weight=Constant(2.5), pairs=pairs)
    with torch.device("meta"):
        deit = partial(vit, 224, 16, 192, 12, 3, 4, drop_path_rate=0.1)
        return Supervised(deit, facts, head_init="zero", guidance=guidance)


def test_the_published_pair_of_networks_has_the_published_numbers_of_weights(published: Supervised) -> None:
    # The authors' total counts their guide with its head for a hundred classes, which guidance has no use for.
    total = sum(p.numel() for p in published.parameters()) + sum(p.numel() for p in nn.Linear(64, 100).parameters())
    assert sum(p.numel() for p in published.parameters() if p.requires_grad) == 5_565_332
    assert sum(p.numel() for p in published.guidance.projections.parameters()) == 21_616
    assert total == 6_426_952


def test_the_published_pair_has_105_tensors_without_decay_and_53_with(published: Supervised) -> None:
    groups = parameter_groups(published, "weights", {})
    assert {group["decays"]: len(group["params"]) for group in groups} == {False: 105, True: 53}  # type: ignore[arg-type]


def test_the_published_pairs_meet_on_grids_of_32_16_and_14_by_default_too(published: Supervised) -> None:
    image = torch.empty(2, 3, 224, 224, device="meta")
    _, own = published.tapped[0](image)
    wanted = published.guidance.guide(image)
    assert [max(a.shape[-1], b.shape[-1]) for a, b in zip(own, wanted, strict=True)] == [32, 16, 14]
    assert [b.shape[1] for b in wanted] == [16, 32, 64]
    assert published.guidance.pairs == [(0, 0), (6, 1), (11, 2)]
