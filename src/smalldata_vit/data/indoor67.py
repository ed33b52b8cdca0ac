"""MIT Indoor-67: Quattoni, Torralba, Recognizing Indoor Scenes, CVPR 2009."""

from pathlib import Path

from smalldata_vit.data.listed import Lists


def indoor67(home: Path) -> Lists:
    """The 80 training and 20 test images or so of each class that the authors' two lists name, of some 15,620."""
    files = {split: _names(home / list_) for split, list_ in (("train", "TrainImages.txt"), ("test", "TestImages.txt"))}
    names = sorted({file.split("/")[0] for file in files["train"]})
    label = {name: number for number, name in enumerate(names)}
    if strange := sorted({file.split("/")[0] for file in files["test"]} - label.keys()):
        raise ValueError(f"{home / 'TestImages.txt'} names classes without training images: {', '.join(strange)}")
    return Lists(
        names, {s: [(f"Images/{file}", label[file.split("/")[0]]) for file in some] for s, some in files.items()}
    )


def _names(path: Path) -> list[str]:
    found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if strange := [name for name in found if name.count("/") != 1]:
        raise ValueError(f"{path} names {strange[0]!r}: expected is CLASS/FILE in every line")
    return found
