import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from made_layouts import jpegs, loaded, shown

from smalldata_vit.data.sampled import digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of eight training images."""
    jpegs(tmp_path / "made", [f"train/{c}/{i}.JPEG" for c in ("n1", "n2", "n3") for i in range(8)])
    return tmp_path / "made"


def files(root: Path, **changed: object) -> list[str]:
    return list(loaded("sin10k", root, **{f"source__lists__{k}": v for k, v in changed.items()}).train.files)


def test_as_many_images_of_each_class_are_drawn_as_are_asked_for(root: Path) -> None:
    found = loaded("sin10k", root, source__lists__images_per_class=3, num_classes=3, num_train=9)
    assert torch.bincount(found.train.labels).tolist() == [3, 3, 3]
    assert all(f"/{name}/" in file for file, name in shown(found, "train").items())


def test_a_draw_depends_on_its_seed_alone_and_smaller_ones_lie_in_larger_ones(root: Path) -> None:
    three = files(root, images_per_class=3)
    assert files(root, images_per_class=3) == three
    assert files(root, images_per_class=3, sample_seed=1) != three
    assert set(files(root, images_per_class=2)) < set(three) < set(files(root, images_per_class=5))


def test_images_that_are_added_move_a_draw_only_where_they_are_drawn_themselves(root: Path) -> None:
    before = set(files(root, images_per_class=3))
    new = [f"train/n1/{i}.JPEG" for i in range(8, 12)]
    jpegs(root, new, start=50)
    after = set(files(root, images_per_class=3))
    assert after - before <= set(new)


def test_a_class_with_too_few_images_is_named(root: Path) -> None:
    told = r"images_per_class=9, but n1 has 8 training images; 3 of 3 classes have fewer than 9"
    with pytest.raises(ValueError, match=told):
        files(root, images_per_class=9)


def test_the_run_s_record_lists_the_sample_and_gives_it_back(root: Path, tmp_path: Path) -> None:
    drawn = loaded("sin10k", root, source__lists__images_per_class=4, validation=0.25)
    record = tmp_path / "data.json"
    record.write_text(json.dumps(drawn.record), encoding="utf-8")
    assert drawn.val is not None
    given = files(root, chosen=str(record))
    assert sorted(given) == sorted([*drawn.train.files, *drawn.val.files])
    assert given == files(root, images_per_class=4)


def test_a_list_of_names_is_taken_as_it_is(root: Path, tmp_path: Path) -> None:
    names = ["train/n3/7.JPEG", "train/n1/0.JPEG", "train/n2/5.JPEG"]
    (tmp_path / "list.txt").write_text("\n".join(names), encoding="utf-8")
    assert files(root, chosen=str(tmp_path / "list.txt")) == sorted(names)


def test_names_that_are_not_there_are_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("train/n1/0.JPEG\nn1/99.JPEG\n", encoding="utf-8")
    told = (
        r"names 1 of 2 images that are not among the 24 training images in .*, for example n1/99.JPEG; names are like"
    )
    with pytest.raises(ValueError, match=told):
        files(root, chosen=str(tmp_path / "list.txt"))


def test_a_list_that_is_no_file_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lists.chosen=.*nowhere.txt is no file"):
        files(root, chosen=str(tmp_path / "nowhere.txt"))


@pytest.mark.parametrize(
    ("changed", "told"), [({"fraction": 0.5}, r"fraction=0.5 .*are not its sample"), (None, "is no data.json of a run")]
)
def test_a_record_that_does_not_hold_the_whole_sample_is_refused(
    root: Path, tmp_path: Path, changed: dict[str, object] | None, told: str
) -> None:
    record = {} if changed is None else loaded("sin10k", root, source__lists__images_per_class=4, **changed).record
    (tmp_path / "data.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        files(root, chosen=str(tmp_path / "data.json"))


def test_the_log_has_the_digest_of_the_names(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="smalldata_vit.data.sampled"):
        drawn = files(root, images_per_class=2)
    assert f"sample of 6 of 24 training images (2 of each class, seed 0): sha256 {digest(drawn)}" in caplog.text
    assert digest(drawn) == digest(drawn[::-1]) != digest(drawn[1:])


def test_another_sample_is_other_data_and_the_same_sample_elsewhere_is_not(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "list.txt").write_text("\n".join(files(root, images_per_class=3)), encoding="utf-8")
    three = loaded("sin10k", root, source__lists__images_per_class=3).split_hash
    assert loaded("sin10k", tmp_path / "copy", source__lists__images_per_class=3).split_hash == three
    assert loaded("sin10k", root, source__lists__chosen=str(tmp_path / "list.txt")).split_hash == three
    other = loaded("sin10k", root, source__lists__images_per_class=3, source__lists__sample_seed=1)
    assert other.split_hash != three


def test_class_folders_without_a_folder_for_training_can_be_sampled(root: Path) -> None:
    found = loaded(
        "sin10k", root / "train", source__parts=[], source__lists__of__splits__train=".",
        source__lists__images_per_class=1,
    )  # fmt: skip
    assert sorted(shown(found, "train").values()) == ["n1", "n2", "n3"]
