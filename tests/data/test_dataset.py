import json
import logging
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from made_images import class_folders, dataset, noise, save
from omegaconf import OmegaConf
from PIL import Image

from smalldata_vit.data.dataset import Dataset, Splits, validation_share

CONF = Path(__file__).parents[2] / "conf" / "dataset"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty images of `a`, ten of `b`."""
    return class_folders(tmp_path / "images", {"a": 20, "b": 10})


def names(splits: Splits) -> list[set[str]]:
    return [set() if images is None else set(images.files) for images in (splits.train, splits.val, splits.test)]


def test_validation_is_carved_from_train_stratified_and_independent_of_the_run_s_seed(root: Path) -> None:
    first, other = (dataset(root, validation=0.2).load(seed) for seed in (0, 1))
    assert first.val is not None
    assert torch.bincount(first.val.labels).tolist() == [4, 2]
    assert not names(first)[0] & names(first)[1]
    assert len(names(first)[0] | names(first)[1]) == 30
    assert names(first) == names(other)
    assert first.split_hash == other.split_hash
    assert names(dataset(root, validation=0.2, validation_seed=1).load(0))[1] != names(first)[1]


def test_none_carves_nothing_and_the_set_s_own_validation_images_are_used(tmp_path: Path, root: Path) -> None:
    assert dataset(root, validation="none").load(0).val is None
    class_folders(tmp_path / "own" / "train", {"a": 4, "b": 4})
    class_folders(tmp_path / "own" / "valid", {"a": 2, "b": 2}, start=20)
    own = dataset(tmp_path / "own", validation=0.5).load(0)
    assert own.val is not None
    assert (len(own.train), len(own.val)) == (8, 4)


def test_the_set_s_own_validation_images_can_join_training(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 4, "b": 4})
    class_folders(tmp_path / "val", {"a": 2, "b": 2}, start=20)
    merged = dataset(tmp_path, merge_validation=True, num_train=12).load(0)
    assert len(merged.train) == 12
    assert merged.val is None


@pytest.mark.parametrize("wrong", [0, 1, 1.5, -0.1, "some"])
def test_a_validation_share_that_is_none_is_refused(wrong: float | str) -> None:
    with pytest.raises(ValueError, match=r"dataset.validation=.*: it is a share between 0 and 1, or none"):
        validation_share(wrong)


def test_labels_per_class_hides_labels_and_never_images(root: Path) -> None:
    every, few = dataset(root).load(0), dataset(root, labels_per_class=3).load(0)
    assert few.split_hash == every.split_hash
    assert len(few.train) == len(every.train) == 30
    assert every.labelled.tolist() == list(range(30))
    assert torch.bincount(few.train.labels[few.labelled]).tolist() == [3, 3]


def test_labelled_subsets_are_nested_and_change_with_the_seed(root: Path) -> None:
    found = {n: set(dataset(root, labels_per_class=n).load(0).labelled.tolist()) for n in (1, 2, 5, 15)}
    assert found[1] < found[2] < found[5] < found[15]
    assert len(found[15]) == 25
    assert set(dataset(root, labels_per_class=5).load(1).labelled.tolist()) != found[5]


def test_the_first_places_are_the_labelled_images(root: Path) -> None:
    few = dataset(root, labels_per_class=4).load(3)
    assert torch.equal(torch.nonzero(few.place < 4).flatten(), few.labelled)


def test_a_fraction_keeps_a_stratified_share_of_the_training_images_by_seed(root: Path) -> None:
    one, other = (dataset(root, fraction=0.5, validation=0.2).load(seed) for seed in (0, 1))
    assert torch.bincount(one.train.labels).tolist() == [8, 4]
    assert one.val is not None
    assert len(one.val) == 6
    assert names(one)[0] != names(other)[0]
    assert names(one)[1] == names(other)[1]
    assert one.split_hash != other.split_hash


def test_a_tiny_fraction_leaves_every_class_an_image(root: Path) -> None:
    assert torch.bincount(dataset(root, fraction=0.01).load(0).train.labels).tolist() == [1, 1]


def test_mean_and_deviation_are_measured_on_the_training_images_unless_they_are_given(tmp_path: Path) -> None:
    for name, level in (("a", 51), ("b", 153)):
        save(noise(0) * 0 + level, tmp_path / "train" / name / "0.png")
        save(noise(0) * 0 + 255 - level // 51, tmp_path / "test" / name / "0.png")
    found = dataset(tmp_path).load(0)
    assert found.mean == pytest.approx([0.4] * 3)
    assert found.std == pytest.approx([0.2] * 3)
    given = dataset(tmp_path, mean=[0.5, 0.5, 0.5], std=[0.1, 0.2, 0.3]).load(0)
    assert (given.mean, given.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match=r"dataset.mean has 1 values"):
        dataset(tmp_path, mean=[0.5]).load(0)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"num_train": 31}, "num_train is 30, expected 31.*dataset.num_train=30"),
        ({"num_classes": 3}, "num_classes is 2, expected 3"),
        ({"num_test": 5}, "num_test is 0, expected 5.*dataset.num_test=null"),
    ],
)
def test_a_fact_that_differs_is_an_error_with_both_numbers(root: Path, expected: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataset(root, **expected).load(0)


def test_unreadable_images_are_all_told_at_once_with_count_names_and_reasons(root: Path) -> None:
    (root / "a" / "003.png").write_bytes(b"")
    (root / "b" / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match="cannot be read") as error:
        dataset(root).load(0)
    told = str(error.value)
    assert "2 of 31 train images cannot be read" in told
    assert "a/003.png: an empty file" in told
    assert "b/text.jpg: no image format that is known" in told
    assert "dataset.on_bad_image=skip" in told


def test_unreadable_images_can_be_left_out_up_to_a_share(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "a" / "003.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "smalldata_vit"):
        found = dataset(root, on_bad_image="skip", most_bad_images=0.1, num_train=30).load(0)
    assert len(found.train) == 29
    assert found.record["unreadable"] == {"train": {"a/003.png": "an empty file"}}
    assert "1 of 30 train images cannot be read" in caplog.text
    with pytest.raises(ValueError, match=r"That is 3.3%, more than dataset.most_bad_images=0.01"):
        dataset(root, on_bad_image="skip").load(0)


def test_a_class_that_lost_all_its_images_is_an_error(root: Path) -> None:
    for file in (root / "b").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no training image is left in 1 of 2 classes: b"):
        dataset(root, on_bad_image="skip", most_bad_images=0.5).load(0)


@pytest.mark.filterwarnings("error")
def test_odd_files_of_all_kinds_are_read_or_named_before_training_begins(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(noise(0, 8, 8))
    folder = tmp_path / "a"
    folder.mkdir()
    picture.save(folder / "rotated.jpg", exif=exif)
    picture.convert("L").save(folder / "grey.png")
    picture.convert("P").save(folder / "palette.png", transparency=bytes(range(256)))
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(noise(1)[:, :, 0].astype("uint16") * 257).save(folder / "deep.png")
    picture.save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:100])
    (folder / "notes.txt").write_text("no image")
    (tmp_path / "nothing here").mkdir()
    found = dataset(tmp_path, on_bad_image="skip", most_bad_images=0.5).load(0)
    assert len(found.train) == 5
    assert list(found.record["unreadable"]["train"]) == ["a/cut.png"]
    assert found.record["ignored"]["train"] == {
        "not an image by its name": ["a/notes.txt"],
        "folders without an image": ["nothing here"],
    }


def test_pictures_that_are_in_train_and_test_are_told_and_too_many_are_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class_folders(tmp_path / "train", {"a": 10, "b": 10})
    class_folders(tmp_path / "test", {"a": 5, "b": 5}, start=18)  # the first two are the last two of train/b
    with pytest.raises(ValueError, match=r"2 of 10 test images are train images.*train/b/008.png = test/a/000.png"):
        dataset(tmp_path).load(0)
    with caplog.at_level(logging.WARNING, "smalldata_vit"):
        kept = dataset(tmp_path, most_shared=0.2).load(0)
    assert len(kept.train) == 20
    assert "2 of 10 test images are train images as well" in caplog.text
    pairs = [["train/b/008.png", "test/a/000.png"], ["train/b/009.png", "test/a/001.png"]]
    assert kept.record["shared"] == {"train/test": pairs}
    dropped = dataset(tmp_path, drop_shared=True).load(0)
    assert (len(dropped.train), len(dropped.test or [])) == (18, 10)
    assert "train/b/008.png" not in dropped.train.files


def test_copies_inside_train_that_the_carving_parts_are_noticed(tmp_path: Path) -> None:
    for i in range(40):
        save(noise(i % 20), tmp_path / "a" / f"{i}.png")
    with pytest.raises(ValueError, match="val images are train images as well"):
        dataset(tmp_path, validation=0.25).load(0)
    dropped = dataset(tmp_path, validation=0.25, drop_shared=True).load(0)
    assert dropped.record["shared"]["train/val"]
    assert len(dropped.train) < 30


def test_the_record_says_where_every_image_went_and_is_plain_json(root: Path) -> None:
    found = dataset(root, validation=0.2, labels_per_class=2).load(0)
    record = json.loads(json.dumps(found.record))
    assert record["split_hash"] == found.split_hash
    assert record["splits"]["train"]["per_class"] == [16, 8]
    assert record["splits"]["train"]["files"] == found.train.files
    assert found.val is not None
    assert record["splits"]["val"]["files"] == found.val.files
    assert record["labelled"] == [found.train.files[i] for i in found.labelled.tolist()]
    assert (record["seed"], record["validation_seed"], record["classes"]) == (0, 0, ["a", "b"])


def test_the_split_hash_is_that_of_the_images_and_not_of_the_folder_they_lie_in(root: Path, tmp_path: Path) -> None:
    copy = class_folders(tmp_path / "elsewhere", {"a": 20, "b": 10})
    assert dataset(copy).load(0).split_hash == dataset(root).load(0).split_hash
    save(noise(77), copy / "a" / "000.png")
    assert dataset(copy).load(0).split_hash != dataset(root).load(0).split_hash


def test_one_class_alone_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "smalldata_vit"):
        dataset(class_folders(tmp_path, {"only": 3})).load(0)
    assert "one class only (only)" in caplog.text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"fraction": 0.0}, "dataset.fraction=0.0: it is above 0"),
        ({"labels_per_class": 0}, "dataset.labels_per_class=0: it is at least 1"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_with_what_it_may_be(setting: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataset(Path("x"), **setting)


def test_class_folders_without_a_root_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"needs dataset\.root=FOLDER"):
        dataset().load(0)


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_dataset_file_builds_its_dataset_and_names_it_like_the_file(file: Path) -> None:
    built = instantiate(OmegaConf.load(file), _convert_="all")
    assert isinstance(built, Dataset)
    assert built.name == file.stem


def test_the_digits_are_split_as_the_main_job_has_them() -> None:
    found = instantiate(OmegaConf.load(CONF / "digits.yaml"), _convert_="all").load(0)
    assert [len(found.train), len(found.val), len(found.test)] == [1197, 240, 360]
    assert torch.bincount(found.train.labels[found.labelled]).tolist() == [10] * 10
    assert found.train.uniform
    assert found.num_classes == 10
