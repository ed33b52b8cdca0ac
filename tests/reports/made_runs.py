"""Output folders as runs leave them, made up: numbers that a test chooses, with all files that a report reads."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ["cat", "dog", "<owl>"]


def make_run(
    folder: Path,
    words: str = "method=dino",
    seed: int = 0,
    accuracy: float = 0.9,
    labels: int | None = 10,
    pretrained: bool = True,
    status: str = "finished",
    lr: str = "0.001",
) -> Path:
    """A run of pretraining (or none) and fine-tuning that ends with this test accuracy, a fraction."""
    stages: dict[str, Any] = {}
    if pretrained:
        stages["pretrain"] = stage_outcome({"val/knn_accuracy": 0.7, "test/knn_accuracy": 0.71}, 0, 40.0, seed)
        stages["pretrain"]["metrics"] |= {"test/linear_accuracy@10": 0.8, "test/linear_accuracy@all": 0.85}
        stages["pretrain"]["untrained"] = {"test/linear_accuracy@10": 0.5, "test/linear_accuracy@all": 0.6}
        make_stage(folder / "pretrain", {"seed": seed, "method": {"_target_": "dino"}}, "val/knn_accuracy", 0.7)
    metrics = {"val/accuracy": accuracy - 0.01, "test/accuracy": accuracy, "test/per_class_accuracy/0": 1.0}
    stages["finetune"] = stage_outcome(metrics, labels, 20.0, seed)
    stages["finetune"]["evaluators"] = {"accuracy": {"num_images": 8, "confusion": [[3, 0, 1], [0, 2, 0], [1, 0, 1]]}}
    if pretrained:
        stages["finetune"]["start_from"] = {"source": "pretrain", "weights": "teacher", "sha256": "ab" * 32}
        lists = {"loaded": ["patch.weight", "blocks.0.weight"], "resized": {"pos_embed": [8, 16]}}
        stages["finetune"]["hand_off"] = lists | {"new": ["head.bias"], "left_over": [], "rule": "bicubic"}
    config = {"seed": seed, "lr": lr, "dataset": {"labels_per_class": labels}, "method": {"_target_": words}}
    make_stage(folder / "finetune", config, "val/accuracy", accuracy - 0.01)
    keep_predictions(folder / "finetune")
    command = f"python run.py {words} seed={seed} output_dir={folder}"
    command += "" if labels is None else f" dataset.labels_per_class={labels}"
    results = {"schema": 1, "status": status, "stages": stages, "baselines": {}, "reasons": {}, "error": None}
    results |= {"name": "made_up", "seed": seed, "command": command}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def stage_outcome(metrics: Mapping[str, float], labels: int | None, seconds: float, seed: int) -> dict[str, Any]:
    """What stage.json and results.json have of a finished stage."""
    return {
        "status": "finished", "metrics": dict(metrics), "labels_per_class": labels, "seconds": seconds, "seed": seed,
        "steps": 100, "images_seen": 6400, "flops": 2e12 * seconds, "device": "cpu", "devices": 1, "train_images": 30,
        "precision": "32-true", "warnings": ["a < b & c"], "start_from": None,
    }  # fmt: skip


def make_stage(folder: Path, config: Mapping[str, Any], judged: str, ends: float, rows: int = 50) -> None:
    """A stage's files: config, metrics, data, versions, views."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(as_yaml(config))
    lines = ["step,epoch,seconds,name,value"]
    for step in range(1, rows + 1):
        values = {"train/loss": 2 * math.exp(-step / 20), "train/learning_rate": 1e-3, "train/images_per_second": 900.0}
        values |= {"train/teacher_entropy": 3.0 + step / 50, "train/uniform_entropy": 6.9, "train/waiting": 0.01}
        values |= {judged: ends * (1 - math.exp(-step / 10))} if step % 10 == 0 else {}
        lines += [f"{step},{step / 10:g},{step / 5:.3f},{name},{value!r}" for name, value in values.items()]
    lines.append(f"{rows},{rows / 10:g},{rows / 5:.3f},{judged},{ends!r}")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "data.json").write_text(json.dumps({"classes": CLASSES}))
    versions = {"python": "3.11", "commit": "c0ffee", "versions": {"torch": "2.15"}, "platform": "Linux", "cores": 2}
    (folder / "about.json").write_text(json.dumps(versions))
    random = np.random.default_rng(0)
    views = random.integers(0, 255, (3, 2, 8, 8, 3), dtype=np.uint8)
    plain = random.integers(0, 255, (3, 70, 70, 3), dtype=np.uint8)
    np.savez_compressed(folder / "views.npz", index=np.arange(3), plain=plain, views_global=views)


def keep_predictions(folder: Path) -> None:
    """predictions.npz of eight test images, of which two are wrong."""
    label, named = np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 2, 1, 1, 0, 2])
    said = np.full((8, 3), 0.1, np.float16)
    said[np.arange(8), named] = 0.8
    wrong = np.array([[3, 0, 2], [6, 2, 0]], np.int32)
    pictures, odds = np.full((2, 8, 8, 3), 90, np.uint8), np.array([[0.1, 0.8], [0.1, 0.8]], np.float16)
    arrays = {"index": np.arange(8), "label": label, "named": named, "probabilities": said, "mistakes": wrong}
    arrays |= {"odds": odds, "pictures": pictures}
    np.savez_compressed(folder / "predictions.npz", **{f"test_{name}": array for name, array in arrays.items()})


def as_yaml(node: Mapping[str, Any], indent: str = "") -> str:
    """A mapping as OmegaConf would save it."""
    text = ""
    for key, value in node.items():
        inner = isinstance(value, Mapping)
        said = "\n" + as_yaml(value, indent + "  ") if inner else f" {'null' if value is None else value}\n"
        text += f"{indent}{key}:{said}"
    return text


ACCURACIES = {
    "method=dino": (0.91, 0.93, 0.92),
    "method=supervised": (0.85, 0.88, 0.84),
    "method=simclr": (0.9, 0.89, 0.9),
}


def make_sweep(folder: Path) -> Path:
    """Three arms with three seeds each."""
    for method, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            place = folder / f"{method.replace('=', '-')}_{seed}"
            make_run(place, method, seed, accuracy, pretrained=method != "method=supervised")
    return folder
