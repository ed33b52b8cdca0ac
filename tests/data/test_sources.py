import pickle
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from made_images import class_folders, dataset, noise

from smalldata_vit.data.cache import in_memory
from smalldata_vit.data.decode import BadImage
from smalldata_vit.data.digits import Digits
from smalldata_vit.data.folders import Folders
from smalldata_vit.data.sources import Opened, RawSplit, cache_folder, joined, stamp_of
from smalldata_vit.data.torchvision_sets import Torchvision

BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
BASE = "cifar-10-batches-py"


def cifar10(download: bool = False, verify: bool = False, page: str = "https://example.org/cifar") -> Torchvision:
    return Torchvision(
        dataset="CIFAR10",
        splits={"train": {"train": True}, "test": {"train": False}},
        files=[f"{BASE}/{name}" for name in [*BATCHES, "batches.meta"]],
        page=page,
        names=None,
        download=download,
        verify=verify,
    )


def write_cifar10(root: Path, each: int) -> np.ndarray:
    """Files as the official ones are laid out, with other pictures: uint8 (6 * each, 32, 32, 3), the last for test."""
    pictures = np.random.default_rng(0).integers(0, 256, (len(BATCHES), each, 32, 32, 3), dtype=np.uint8)
    (root / BASE).mkdir(parents=True)
    for name, batch in zip(BATCHES, pictures, strict=True):
        data = batch.transpose(0, 3, 1, 2).reshape(each, -1)
        (root / BASE / name).write_bytes(pickle.dumps({"data": data, "labels": [i % 10 for i in range(each)]}))
    names = [f"class {c}" for c in range(10)]
    (root / BASE / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return pictures.reshape(-1, 32, 32, 3)


def test_torchvision_s_pictures_labels_and_names_arrive_unchanged(tmp_path: Path) -> None:
    pictures = write_cifar10(tmp_path / "root", each=20)
    splits = cifar10().splits(tmp_path / "root")
    train = in_memory(splits["train"], "made-train", tmp_path / "cache", None).images
    test = in_memory(splits["test"], "made-test", tmp_path / "cache", None).images
    assert (len(train), len(test)) == (100, 20)
    assert train.names == [f"class {c}" for c in range(10)]
    assert train.labels.tolist() == [i % 10 for i in range(20)] * 5
    taken = train.take(torch.tensor([7, 99]))
    assert np.array_equal(torch.stack(list(taken)).permute(0, 2, 3, 1).numpy(), pictures[[7, 99]])
    assert np.array_equal(test.take(torch.tensor([3]))[0].permute(1, 2, 0).numpy(), pictures[103])


def test_files_that_are_not_the_official_ones_are_refused_unless_that_is_wanted(tmp_path: Path) -> None:
    write_cifar10(tmp_path, each=20)
    with pytest.raises(ValueError, match=r"(?s)CIFAR10 from .*example.org/cifar.*dataset.source.verify=false"):
        cifar10(verify=True).splits(tmp_path)["train"].open()


def test_torchvision_s_images_can_be_read_in_another_process(tmp_path: Path) -> None:
    pictures = write_cifar10(tmp_path, each=20)
    item = cifar10().splits(tmp_path)["test"].open().item
    picture, label = pickle.loads(pickle.dumps(item))(13)
    assert np.array_equal(picture, pictures[113])
    assert label == 3


def test_damaged_files_without_checksums_are_an_error_in_words(tmp_path: Path) -> None:
    write_cifar10(tmp_path, each=20)
    (tmp_path / BASE / "data_batch_2").write_bytes(b"\x80\x04 nonsense")
    with pytest.raises(ValueError, match="torchvision does not read CIFAR10"):
        cifar10().splits(tmp_path)["train"].open()


def test_missing_files_are_named_with_the_folder_and_the_page(tmp_path: Path) -> None:
    write_cifar10(tmp_path, each=20)
    (tmp_path / BASE / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError) as error:
        cifar10().splits(tmp_path)
    told = str(error.value)
    assert f"missing: {BASE}/data_batch_3 (" in told
    assert f"{BASE}/test_batch" in told
    assert str(tmp_path) in told
    assert "https://example.org/cifar" in told
    assert "dataset.root=FOLDER" in told
    assert "dataset.source.download is false" in told


def test_a_download_without_a_network_ends_in_the_same_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(FileNotFoundError, match=r"fetching them failed: .*unreachable.*https://example.org/cifar"):
        cifar10(download=True).splits(tmp_path / "new")


def test_files_that_are_there_are_never_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, each=20)
    monkeypatch.setattr(Torchvision, "_fetch", lambda self, root: pytest.fail("fetched"))
    assert set(cifar10(download=True).splits(tmp_path)) == {"train", "test"}


def test_an_unknown_dataset_of_torchvision_is_refused_when_it_is_built() -> None:
    with pytest.raises(ValueError, match=r"torchvision.datasets has no CIFAR11; it has .*CIFAR10"):
        Torchvision("CIFAR11", {}, [], "", None, False, True)


def test_facts_of_a_dataset_hold_when_its_images_come_as_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 3, "b": 3})
    class_folders(tmp_path / "test", {"a": 2, "b": 2}, start=50)
    found = dataset(tmp_path, cifar10(), layout="folder", num_classes=2, num_train=6, mean=[0.1, 0.2, 0.3]).load(0)
    assert len(found.train) == 6
    assert found.mean == (0.1, 0.2, 0.3)


def test_digits_are_the_1797_scans_with_a_fixed_stratified_test_split() -> None:
    splits = {name: in_memory(raw, name, Path(), None).images for name, raw in Digits().splits(Path()).items()}
    train, test = splits["train"], splits["test"]
    assert (len(train), len(test)) == (1437, 360)
    assert not set(train.files) & set(test.files)
    assert torch.bincount(test.labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    # Written down once: other test images would make results incomparable.
    assert test.files[:3] == ["digit_0015", "digit_0030", "digit_0032"]
    assert int(train.take(torch.arange(1437)).max()) == 255  # type: ignore[union-attr]


def test_joined_splits_are_read_as_one() -> None:
    one = RawSplit("x", lambda: Opened(["a"], ["1", "2"], lambda i: (noise(i), 0)), {"why": ["p"]})
    two = RawSplit("y", lambda: Opened(["a"], ["3"], lambda i: (noise(9), 0)), {"why": ["q"]})
    both = joined(one, two)
    opened = both.open()
    assert list(opened.files) == ["1", "2", "3"]
    assert np.array_equal(opened.item(1)[0], noise(1))
    assert np.array_equal(opened.item(2)[0], noise(9))
    assert both.ignored == {"why": ["p", "q"]}
    assert both.stamp not in (None, "x", "y")


def test_splits_with_other_classes_are_not_joined() -> None:
    splits = [RawSplit(None, lambda name=name: Opened([name], [], lambda i: (noise(0), 0))) for name in "ab"]
    with pytest.raises(ValueError, match=r"different classes: \['a'\] and \['b'\]"):
        joined(*splits).open()


def test_a_stamp_changes_with_names_sizes_times_and_the_folder(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "one", {"a": 2})
    files = sorted(root.rglob("*.png"))
    stamps = {stamp_of(root, files), stamp_of(root, files[:1]), stamp_of(tmp_path, files)}
    files[0].write_bytes(files[0].read_bytes() + b"?")
    stamps.add(stamp_of(root, files))
    files[0].unlink()
    assert len(stamps | {stamp_of(root, files)}) == 5


def test_the_cache_is_what_was_typed_else_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALLDATA_VIT_CACHE", "/somewhere")
    assert cache_folder("/typed") == Path("/typed")
    assert cache_folder(None) == Path("/somewhere")
    monkeypatch.delenv("SMALLDATA_VIT_CACHE")
    assert cache_folder(None) == Path("~/.cache/smalldata-vit").expanduser()


def test_an_image_that_its_source_cannot_read_is_a_bad_image_with_a_name(tmp_path: Path) -> None:
    opened = Folders().splits(class_folders(tmp_path, {"a": 1}))["train"].open()
    (tmp_path / "a" / "000.png").write_bytes(b"")
    with pytest.raises(BadImage, match=r"a/000\.png: an empty file"):
        opened.item(0)
