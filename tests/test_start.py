"""What a stage starts from: its key, whether it is from scratch, what is said of it, and the head that is kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smalldata_vit import skipping
from smalldata_vit.backbones.vit import vit
from smalldata_vit.contracts import DataFacts
from smalldata_vit.foreign import Weights
from smalldata_vit.handoff import HandOffError
from smalldata_vit.head_start import keep_head
from smalldata_vit.journal import Journal
from smalldata_vit.methods.supervised import Supervised
from smalldata_vit.results import write_json
from smalldata_vit.start import Source, hand_over, is_from_scratch

FACTS = DataFacts(num_images=8, num_classes=5, image_size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
ASKED: dict[str, Any] = {
    **{"stage": None, "file": None, "timm": None, "format": "auto", "weights": "encoder"},
    **{"head": "keep", "positions": "bicubic", "new": [], "left_over": []},
}
TIMM = ASKED | {"timm": "deit_tiny_patch16_224"}


def small_vit(drop_path_rate: float = 0.0) -> nn.Module:
    return vit(16, 4, 24, 1, 3, 2, drop_path_rate)


def classifier() -> Supervised:
    return Supervised(backbone=small_vit, facts=FACTS)


def weights(**more: Any) -> Weights:
    head = {"weight": torch.randn(5, 24), "bias": torch.randn(5)}
    return Weights(**({"encoder": small_vit().state_dict(), "head": head, "sha256": "a" * 64} | more))


@pytest.mark.parametrize("more", [{}, {"left_over": ["x.*"]}, {"new": ["y"]}, {"format": "timm"}])
def test_the_key_of_weights_of_timms_is_found_without_them(tmp_path: Path, more: dict[str, Any]) -> None:
    found = skipping.source_key(TIMM | more, tmp_path)
    assert found == Source.find(TIMM | more, tmp_path).key
    assert "deit_tiny_patch16_224" in str(found)
    assert (found == skipping.source_key(TIMM, tmp_path)) is (more == {})


def test_declarations_change_the_key_of_a_file(tmp_path: Path) -> None:
    torch.save(dict(small_vit().state_dict()), tmp_path / "a.pth")
    plain = ASKED | {"file": str(tmp_path / "a.pth")}
    declared = plain | {"left_over": ["x.*"]}
    keys = {skipping.source_key(asked, tmp_path) for asked in (plain, declared)}
    assert keys == {Source.find(asked, tmp_path).key for asked in (plain, declared)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("source", "pretrained", "expected"),
    [
        (Source("scratch"), False, True),
        (Source("scratch"), True, False),
        (Source.find(TIMM, Path()), False, False),
        (Source("x", Path("a.pth"), from_scratch=None), False, None),
        (Source("x", guide=Source("y", from_scratch=False)), False, False),
    ],
)
def test_only_what_owes_nothing_to_other_images_is_from_scratch(
    source: Source, pretrained: bool, expected: bool | None
) -> None:
    assert is_from_scratch({"arch": {"pretrained": pretrained}}, source) is expected


@pytest.mark.parametrize("told", [True, False])
def test_a_checkpoint_of_ours_is_as_much_from_scratch_as_the_stage_that_it_lies_in(tmp_path: Path, told: bool) -> None:
    folder = tmp_path / "pretrain"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"encoder": dict(small_vit().state_dict())}, folder / "checkpoints" / "step_00000003.ckpt")
    write_json(folder / "stage.json", {"status": "finished", "from_scratch": told})
    asked = ASKED | {"file": str(folder / "checkpoints" / "step_00000003.ckpt")}
    assert Source.find(asked, tmp_path).from_scratch is told


def test_weights_of_images_that_were_normalised_otherwise_are_a_warning() -> None:
    journal, source = Journal(None, "finetune"), Source.find(TIMM, Path())
    hand_over(classifier(), FACTS, source, weights(normalised=(FACTS.mean, FACTS.std)), journal)
    assert journal.warnings == []
    hand_over(classifier(), FACTS, source, weights(normalised=((0.4, 0.4, 0.4), FACTS.std)), journal)
    assert (
        "timm's deit_tiny_patch16_224 was trained on images normalised with mean [0.4, 0.4, 0.4]" in journal.warnings[0]
    )


def test_what_a_format_leaves_over_stands_in_the_report() -> None:
    source = Source.find(TIMM, Path())
    told = hand_over(classifier(), FACTS, source, weights(left_over=["mlphead.x"]), Journal(None, "finetune"))
    assert told["hand_off"]["left_over"] == ["mlphead.x"]
    assert told["start_from"]["sha256"] == "a" * 64


def test_a_kept_head_is_the_sources_bit_for_bit() -> None:
    method, offered = classifier(), weights()
    keep_head(method, offered)
    assert torch.equal(method.head.weight, offered.head["weight"])
    assert torch.equal(method.head.bias, offered.head["bias"])


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({}, "the source has no head of a classifier"),
        ({"weight": torch.zeros(7, 24), "bias": torch.zeros(7)}, r"\(7, 24\).*\(5, 24\)"),
    ],
)
def test_a_head_that_cannot_be_kept_is_refused(head: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(HandOffError, match=said):
        keep_head(classifier(), weights(head=head))
