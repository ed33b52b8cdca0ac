"""An option typed in the place of an experiment's own: what the experiment set inside the other goes with it."""

import pytest

from smalldata_vit import config


def views_of(stage: str, *words: str) -> dict[str, object]:
    cfg = config.compose(words)
    config.check(cfg)
    groups = config.stage_config(cfg, stage)["views"]["groups"]
    assert isinstance(groups, dict)
    return groups


def test_values_of_an_experiment_inside_parts_that_typed_views_lack_are_taken_out() -> None:
    light = views_of("finetune", "experiment=gani/vit_cifar10", "finetune.views=light")["whole"]
    assert not {"policy", "erasing"} & set(light)


def test_values_of_an_experiment_inside_parts_that_typed_views_have_stay() -> None:
    groups = views_of("pretrain", "experiment=gani/vit_cifar10", "pretrain.views=two_crops")
    own = views_of("pretrain", "experiment=gani/vit_cifar10")
    assert set(groups) == {"global"}
    assert groups["global"]["crop"]["scale"] == own["global"]["crop"]["scale"]


def test_values_without_a_target_where_an_object_belongs_are_refused_by_name() -> None:
    with pytest.raises(config.ConfigError, match=r"whole\.policy has values \(variant\) but no _target_"):
        views_of("finetune", "finetune.views=light", "+finetune.views.groups.whole.policy.variant=torchvision")


def test_a_value_of_a_part_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(config.ConfigError, match=r"there is no finetune\.views\.groups\.whole\.policy here"):
        views_of("finetune", "finetune.views=light", "finetune.views.groups.whole.policy.variant=torchvision")
