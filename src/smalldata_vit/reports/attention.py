"""Where finished networks look, side by side: `python -m smalldata_vit.reports.attention RUN [RUN …]`.

RUN is an output folder, of which every finished stage but the guide is shown, or the folder of one stage. For fixed
test images it writes attention.png (mean over heads), kept.png (the patches that hold most of the mass), rollout.png
(ViT), heads_<place>.png, and attention.json, with the overlap with masks where masks are given.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit import handoff
from smalldata_vit.assembly import build_judge, build_method, facts_of, load_data
from smalldata_vit.backbones.attention_maps import attention_maps, rollout
from smalldata_vit.checkpoints import newest_whole
from smalldata_vit.data.dataset import Splits
from smalldata_vit.reports.attention_picture import draw
from smalldata_vit.reports.attention_saliency import kept, mask_files, read_masks, saliency
from smalldata_vit.results import write_json
from smalldata_vit.schema import GUIDE, STAGES
from smalldata_vit.store import outcome_of

CPU = torch.device("cpu")
AT_ONCE = 128
"""Images in one forward."""


@dataclass(frozen=True)
class Trained:
    """A finished stage's network, and what it sees of test images."""

    name: str
    """In words, with its run."""
    folder: Path
    network: nn.Module
    config: Mapping[str, Any]
    splits: Splits

    def sees(self, places: Sequence[int]) -> Float[Tensor, "B 3 S S"]:
        """These test images as they enter the network."""
        judge, _ = build_judge({**self.config, "evaluator": {}}, self.splits, CPU)
        return judge.view(judge.splits["test"].take(torch.tensor(places)))

    def shown(self, places: Sequence[int]) -> Float[Tensor, "B 3 S S"]:
        """The same in colours 0..1."""
        view = self.config["evaluation_view"]
        mean, std = (view.get(n) or getattr(self.splits, n) for n in ("mean", "std"))
        return self.sees(places) * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]

    def maps(self, places: Sequence[int]) -> Float[Tensor, "B heads h w"]:
        """Attention of the last block."""
        parts = [places[first : first + AT_ONCE] for first in range(0, len(places), AT_ONCE)]
        return torch.cat([attention_maps(self.network, self.sees(part)) for part in parts])


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, write pictures and numbers, say where; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m smalldata_vit.reports.attention", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="output folder, or folder of one stage")
    parser.add_argument("--images", type=int, default=8, help="how many, spread evenly over the test split")
    parser.add_argument("--keep", type=float, default=0.6, help="share of a map's mass that is kept; DINO: 0.6")
    parser.add_argument("--masks", type=Path, help="folder of PNG masks named as test images or by their places")
    parser.add_argument("--into", type=Path, help="folder to write to; <first RUN>/attention when left out")
    asked = parser.parse_args(words)
    try:
        into = report(asked.runs, asked.images, asked.keep, asked.masks, asked.into or asked.runs[0] / "attention")
    except (ValueError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    print(f"pictures and attention.json are in {into}")
    return 0


def report(runs: Sequence[Path], number: int, keep: float, masks: Path | None, into: Path) -> Path:
    """Write everything; returns the folder. ValueError: runs that cannot be shown, or shown side by side."""
    networks = [load(folder) for run in runs for folder in stage_folders(run)]
    test = networks[0].splits.test
    if test is None or any(n.splits.test is None or n.splits.test.fingerprint != test.fingerprint for n in networks):
        raise ValueError("the runs have no test images in common: show runs on the same dataset")
    if number < 1:
        raise ValueError(f"--images {number}: at least one image is shown")
    files = {} if masks is None else mask_files(masks, test.files)
    available = list(files) or list(range(len(test)))
    count = min(number, len(available))
    places = [available[i * len(available) // count] for i in range(count)]
    into.mkdir(parents=True, exist_ok=True)
    pictures(networks, places, keep, into)
    found = [entry(one, files, keep) for one in networks]
    write_json(into / "attention.json", {"keep": keep, "images": [test.files[p] for p in places], "networks": found})
    return into


def entry(one: Trained, files: Mapping[int, Path], keep: float) -> dict[str, Any]:
    """What is recorded of a network: its stage, and the mean overlap with masks where there are some."""
    said = {"name": one.name, "folder": str(one.folder), "key": outcome_of(one.folder)["key"]}
    if not files:
        return said
    view = one.config["evaluation_view"]
    if view.get("mode", "squash") != "squash" or view.get("resize_ratio", 1) != 1:
        raise ValueError(f"{one.name} sees a cut-out of each image, and masks are made for whole images")
    masks = read_masks(files, one.config["image_size"])
    best, mean = (float(value.mean()) for value in saliency(one.maps(list(files)), masks, keep))
    print(f"{one.name}: overlap with {len(files)} masks {100 * best:.1f} % (best head), {100 * mean:.1f} % (mean)")
    return said | {"masks": len(files), "overlap_best_head": best, "overlap_mean_over_heads": mean}


def pictures(networks: Sequence[Trained], places: Sequence[int], keep: float, into: Path) -> None:
    """The overviews, and the heads of each image."""
    images, maps = networks[0].shown(places), [one.maps(places) for one in networks]
    paths = [None if (p := rollout(one.network, one.sees(places))) is None else p[:, 0] for one in networks]
    names, beside = ["image", *(one.name for one in networks)], [f"test {place}" for place in places]
    overviews: dict[str, Sequence[Tensor | None]] = {
        "attention": [m.mean(1) for m in maps],
        "kept": [kept(m.mean(1), keep) for m in maps],
        "rollout": paths,
    }
    for file, columns in overviews.items():
        if any(column is not None for column in columns):
            rows = [
                [(image, False), *(None if c is None else (c[i], True) for c in columns)]
                for i, image in enumerate(images)
            ]
            draw(rows, names, beside, into / f"{file}.png")
    most = max(m.shape[1] for m in maps)
    for i, place in enumerate(places):
        heads = [[*((h, True) for h in m[i]), *[None] * (most - len(m[i]))] for m in maps]
        rows = [[(images[i], False), *panels] for panels in heads]
        above = ["image", *(f"head {h}" for h in range(most))]
        draw(rows, above, [one.name for one in networks], into / f"heads_{place}.png")


def stage_folders(run: Path) -> list[Path]:
    """The finished stages of a run that trained something, in their order; ValueError if there is none."""
    if (run / "config.yaml").exists():
        return [run]
    there = [run / stage for stage in STAGES if stage != GUIDE and (run / stage / "checkpoints").is_dir()]
    finished = [folder for folder in there if outcome_of(folder).get("status") == "finished"]
    if not finished:
        raise ValueError(f"{run} holds no finished stage: it has to be the output folder of a run, or of one stage")
    return finished


def load(folder: Path) -> Trained:
    """A finished stage's encoder, with the weights that were selected there."""
    outcome, config = outcome_of(folder), yaml.safe_load((folder / "config.yaml").read_text())
    family = "best" if outcome.get("selected", {}).get("rule") == "best" else "step"
    found = newest_whole(folder / "checkpoints", family)
    if outcome.get("status") != "finished" or found is None:
        raise ValueError(f"{folder} is no finished stage with a whole checkpoint: run it to its end first")
    splits = load_data(config)
    network = build_method(config, facts_of(config, splits)).encoder
    handoff.load_encoder(network, torch.load(found.path, map_location="cpu", weights_only=True)["encoder"])
    return Trained(f"{folder.parent.name}: {described(config)}", folder, network.eval(), config, splits)


def described(config: Mapping[str, Any]) -> str:
    """What was done to a network, in a few words."""
    if not config["reads_labels"]:
        return "pretrained without labels"
    source = config["start_from"]
    if source is None:
        return "from scratch"
    named = source["stage"] or source["timm"] or Path(source["file"]).name
    return f"fine-tuned from {named}"


if __name__ == "__main__":
    sys.exit(main())
