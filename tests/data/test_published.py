"""Downloads: what comes is whole or not there at all, and what a person brought is used."""

import hashlib
import socket
import tarfile
import urllib.request
from pathlib import Path

import pytest
from made_images import noise, save
from made_layouts import CONF, configured, write
from omegaconf import OmegaConf

from smalldata_vit.data.listed import Listed, Lists
from smalldata_vit.data.published import Published

PAGE = "https://example.org/things"


def published(files: tuple[str, ...] = ("images/", "list.txt")) -> Published:
    return Published("Things", files, PAGE)


def bring(folder: Path) -> Path:
    (folder / "inside" / "images").mkdir(parents=True)
    write(folder / "inside" / "images" / "1.txt", ["one"])
    write(folder / "inside" / "list.txt", ["1"])
    return folder / "inside"


def test_what_was_fetched_lies_in_place_and_nothing_else_is_left(tmp_path: Path) -> None:
    published().settle(tmp_path / "new", bring, {})
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [".Things.lock", "images", "list.txt"]
    assert (tmp_path / "new" / "images" / "1.txt").read_text() == "one\n"


def test_a_fetch_that_breaks_off_leaves_nothing_in_place_and_names_the_page(tmp_path: Path) -> None:
    def broken(folder: Path) -> Path:
        bring(folder)
        raise OSError("Connection reset")

    told = r"Things needs images/, list.txt in .*; missing: images/, list.txt \(fetching them failed: Connection reset"
    with pytest.raises(FileNotFoundError, match=told) as error:
        published().settle(tmp_path, broken, {})
    assert PAGE in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == [".Things.lock"]


def test_what_a_killed_process_left_is_not_taken_for_the_data(tmp_path: Path) -> None:
    write(tmp_path / ".fetching-Things" / "inside" / "images" / "half.txt", ["half"])
    published().settle(tmp_path, bring, {})
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["1.txt"]


def test_what_lies_there_already_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "list.txt", ["mine"])
    published().settle(tmp_path, bring, {})
    assert (tmp_path / "list.txt").read_text() == "mine\n"
    assert (tmp_path / "images" / "1.txt").is_file()


def test_a_download_that_lacks_a_part_says_which(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"fetching them failed: what came has no labels.txt"):
        published(("images/", "labels.txt")).settle(tmp_path, bring, {})


def test_the_time_to_wait_for_an_answer_is_as_before_afterwards(tmp_path: Path) -> None:
    seen = []

    def fetch(folder: Path) -> Path:
        seen.append(socket.getdefaulttimeout())
        return bring(folder)

    before = socket.getdefaulttimeout()
    published().settle(tmp_path, fetch, {})
    assert seen == [20.0]
    assert socket.getdefaulttimeout() == before


def archive(root: Path) -> str:
    """`made.tar` in the root with class folders below `made`; its MD5."""
    for number, name in enumerate(("a", "b")):
        save(noise(number), root / "made" / "images" / name / "0.png")
    with tarfile.open(root / "made.tar", "w") as tar:
        tar.add(root / "made", "made")
    (root / "made").rename(root.parent / "gone")
    return hashlib.md5((root / "made.tar").read_bytes(), usedforsecurity=False).hexdigest()


def listed(md5: str | None) -> Listed:
    def lists(home: Path) -> Lists:
        return Lists(["a", "b"], {"train": [("images/a/0.png", 0), ("images/b/0.png", 1)]})

    return Listed("Made", "made", ["images/"], PAGE, {"https://example.org/made.tar": md5}, True, lists)


def offline(*arguments: object, **options: object) -> None:
    raise OSError("Network is unreachable")


def test_an_archive_that_a_person_put_there_is_checked_and_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    root = tmp_path / "root"
    md5 = archive(root)
    assert list(listed(md5).splits(root)["train"].open().files) == ["images/a/0.png", "images/b/0.png"]
    assert (root / "made.tar").is_file()


def test_an_archive_with_another_checksum_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    root = tmp_path / "root"
    archive(root)
    with pytest.raises(FileNotFoundError, match=r"fetching them failed: .*unreachable"):
        listed("0" * 32).splits(root)
    assert not (root / "made").joinpath("images").exists()


def test_torchvision_s_archives_are_found_where_a_person_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    for split in ("train", "val", "test"):
        write(data / f"images_variant_{split}.txt", [f"{split} A 300"])
        save(noise(len(split)), data / "images" / f"{split}.jpg")
    write(data / "variants.txt", ["A 300"])
    (tmp_path / "root").mkdir()
    with tarfile.open(tmp_path / "root" / "fgvc-aircraft-2013b.tar.gz", "w:gz") as tar:
        tar.add(data.parent, data.parent.name)
    found = configured("aircraft", tmp_path / "root", source__download=True, most_shared=1.0).load(0)
    assert [Path(file).name for file in found.train.files] == ["train.jpg", "val.jpg"]


FACTS = {
    "cifar10": (10, 50_000, 10_000, 32), "cifar100": (100, 50_000, 10_000, 32), "svhn": (10, 73_257, 26_032, 32),
    "cinic10": (10, 90_000, 90_000, 32), "tiny_imagenet": (200, 100_000, 10_000, 64),
    "flowers102": (102, 2_040, 6_149, 224), "pets": (37, 3_680, 3_669, 224), "dtd": (47, 3_760, 1_880, 224),
    "indoor67": (67, 5_360, 1_340, 224), "cub200": (200, 5_994, 5_794, 224), "aircraft": (100, 6_667, 3_333, 224),
    "cars": (196, 8_144, 8_041, 224), "chaoyang": (4, 4_021, 2_139, 224), "imagenet": (1000, 1_281_167, 50_000, 224),
    "sin10k": (1000, 10_000, None, 224),
}  # fmt: skip
"""Published: classes, training and test images, and the side in pixels that networks see."""


@pytest.mark.parametrize("name", FACTS)
def test_a_config_expects_the_published_counts(name: str) -> None:
    config = OmegaConf.load(CONF / f"{name}.yaml")
    assert (config.num_classes, config.num_train, config.num_test, config.image_size) == FACTS[name]
