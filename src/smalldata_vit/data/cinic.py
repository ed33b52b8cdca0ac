"""CINIC-10: Darlow, Crowley, Antoniou, Storkey, CINIC-10 is not ImageNet or CIFAR-10 (2018), arXiv 1810.03505."""

from pathlib import Path
from typing import Literal

from smalldata_vit.data.listed import Lists
from smalldata_vit.data.split_folders import split_folders


def cinic10(home: Path, judge: Literal["test", "valid"]) -> Lists:
    """Its three parts of 90,000 images; `judge` is the folder that is tested on, the other one validates."""
    other = "valid" if judge == "test" else "test"
    return split_folders(home, {"train": "train", "val": other, "test": judge})
