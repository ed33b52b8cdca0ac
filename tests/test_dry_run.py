"""`--dry-run`: what it says is what the command then does, and it leaves nothing behind."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from command import TINY, TINY_SUPERVISED, results, run, succeed
from PIL import Image
from test_run import run as quickly

from smalldata_vit import config
from smalldata_vit.assembly import load_data
from smalldata_vit.checkpoints import Checkpoints, checkpoint_name
from smalldata_vit.dry_run import measure as dry_run_measure
from smalldata_vit.dry_run.command import dry_run
from smalldata_vit.dry_run.data import looked_at
from smalldata_vit.dry_run.memory import bytes_of
from smalldata_vit.dry_run.outlook import Outlook, outlook, told
from smalldata_vit.dry_run.stage import Forecast
from smalldata_vit.dry_run.sweep import combinations, swept
from smalldata_vit.stage_order import StageError
from smalldata_vit.store import ChangedStage

WORDS = (*TINY, "pretrain.steps=4", "finetune.steps=3", "finetune.batch_size=32", "pretrain.evaluate_every_epochs=null")
ONE = (*TINY_SUPERVISED, "method=supervised", "finetune.steps=2")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # Lightning's, on torch 2.15


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One measured step is enough where no second counts."""
    monkeypatch.setattr(dry_run_measure, "SECONDS", 0.0)
    monkeypatch.setattr(dry_run_measure, "LEAST", 1)


def looked(*words: str) -> Outlook:
    cfg = config.compose(words)
    config.check(cfg)
    return outlook(cfg)


def stages(*words: str) -> dict[str, Forecast]:
    return {stage.stage: stage for stage in looked(*words).stages}


def left_in(folder: Path) -> dict[str, float]:
    return {str(p.relative_to(folder)): p.lstat().st_mtime for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Forecast]]:
    """A finished run of two stages with a store, and what a dry run said of it before."""
    folder = tmp_path_factory.mktemp("done")
    words = (*WORDS, f"store={folder / 'store'}", f"output_dir={folder / 'run'}")
    before = stages(*words)
    assert left_in(folder) == {}
    succeed(*words)
    return folder, before


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_what_is_foretold_of_a_stage_is_what_it_then_does(done: tuple[Path, dict[str, Forecast]], stage: str) -> None:
    folder, before = done
    told_of, record = before[stage], results(folder / "run")["stages"][stage]
    assert told_of.outlook == "runs"
    assert told_of.measured is not None
    cost = told_of.measured
    found = {
        "steps": told_of.steps,
        "images_seen": cost.images_seen,
        "flops": cost.flops,
        "train_images": cost.course.images,
        "device": cost.device,
        "key": told_of.key,
    }
    assert found == {name: record[name] for name in found}
    assert told_of.folder.resolve() == (folder / "run" / stage).resolve()
    log = (told_of.folder / "log.txt").read_text()
    assert f"{told_of.parameters:,} trainable parameters" in log


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_checkpoint_takes_what_is_foretold(done: tuple[Path, dict[str, Forecast]], stage: str) -> None:
    cost = done[1][stage].measured
    assert cost is not None
    [*_, newest] = sorted((done[0] / "run" / stage / "checkpoints").glob("*.ckpt"))
    assert newest.stat().st_size == pytest.approx(cost.checkpoint, rel=0.15, abs=100_000)


def test_a_finished_run_is_skipped_and_found_in_the_store_from_elsewhere(
    done: tuple[Path, dict[str, Forecast]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = done
    monkeypatch.setattr(dry_run_measure, "measured", None)
    for place in ("run", "elsewhere"):
        again = stages(*WORDS, f"store={folder / 'store'}", f"output_dir={folder / place}")
        assert {name: stage.outlook for name, stage in again.items()} == {"pretrain": "skipped", "finetune": "skipped"}
        assert {name: stage.key for name, stage in again.items()} == {n: s.key for n, s in before.items()}
    assert not (folder / "elsewhere").exists()


def test_a_stage_that_only_shares_its_start_runs_alone(done: tuple[Path, dict[str, Forecast]]) -> None:
    folder, _ = done
    again = stages(*WORDS, f"store={folder / 'store'}", f"output_dir={folder / 'other'}", "finetune.steps=5")
    assert {name: stage.outlook for name, stage in again.items()} == {"pretrain": "skipped", "finetune": "runs"}
    assert again["finetune"].steps == 5


def test_another_setting_in_the_same_folder_is_refused_as_the_run_refuses_it(
    done: tuple[Path, dict[str, Forecast]],
) -> None:
    folder, _ = done
    with pytest.raises(ChangedStage, match=r"pretrain.*seed: 0 -> 1"):
        looked(*WORDS, f"store={folder / 'store'}", f"output_dir={folder / 'run'}", "seed=1")


def test_a_stage_with_a_checkpoint_resumes_with_what_is_left(tmp_path: Path) -> None:
    words = (*ONE, "finetune.steps=10", f"output_dir={tmp_path}")
    [fresh] = looked(*words).stages
    position = {"step": 7, "total_steps": 10}
    path = fresh.folder / "checkpoints" / checkpoint_name(7)
    Checkpoints("hash").save_checkpoint({"position": position, "encoder": {"w": torch.zeros(1)}}, path)
    [again] = looked(*words).stages
    assert (fresh.outlook, fresh.steps, again.outlook, again.steps) == ("runs", 10, "resumes", 3)
    assert any("resumes at step 7 of 10" in remark for remark in again.remarks)
    assert again.measured is not None
    assert again.measured.flops == fresh.measured.flops  # type: ignore[union-attr]


def test_the_command_prints_it_and_writes_nothing(tmp_path: Path) -> None:
    done = run("--dry-run", *ONE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert lines["steps"].startswith("2 of 64 images")
    assert {"images", "weights", "FLOPs", "time", "memory", "folder", "files", "disk"} <= set(lines)
    assert left_in(tmp_path) == {}


def test_a_source_that_is_nowhere_is_refused_as_the_run_refuses_it() -> None:
    with pytest.raises(StageError, match="starts from pretrain"):
        looked(*WORDS, "stages=[finetune]")


def test_a_judging_stage_is_looked_at_without_training(done: tuple[Path, dict[str, Forecast]]) -> None:
    [stage] = looked(*TINY_SUPERVISED, "stages=[evaluate]", f"output_dir={done[0] / 'run'}").stages
    assert (stage.stage, stage.outlook, stage.steps, stage.measured) == ("evaluate", "runs", 0, None)
    assert stage.shown == 240 + 360


def class_folders(root: Path, images: int, side: int = 12) -> Path:
    for i in range(images):
        place = root / f"class{i % 3}" / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (7 * i % 256, 100, 255 - i)).save(place)
    return root


def settings_of(*words: str) -> dict[str, Any]:
    return config.stage_config(config.compose(words), "finetune")


def test_images_that_were_not_decoded_are_counted_and_not_decoded(tmp_path: Path) -> None:
    root, cache = class_folders(tmp_path / "images", 60), tmp_path / "cache"
    words = ("method=supervised", "dataset=folder", f"dataset.root={root}", f"dataset.cache={cache}")
    found = looked_at(settings_of(*words))
    assert not cache.exists()
    assert not found.exact
    assert "not decoded yet" in str(found.remark)
    assert sum(found.writes.values()) == 60 * 12 * 12 * 3
    splits = load_data(settings_of(*words))
    for name in ("train", "val"):
        assert len(getattr(found.splits, name)) == len(getattr(splits, name))
    kept = left_in(cache)
    again = looked_at(settings_of(*words))
    assert (again.exact, again.remark, again.writes) == (True, None, {})
    assert again.splits.split_hash == splits.split_hash
    assert left_in(cache) == kept


def test_files_that_are_not_here_are_made_up_and_said_so(tmp_path: Path) -> None:
    words = ("method=supervised", "dataset=cifar10", f"dataset.root={tmp_path / 'none'}", f"dataset.cache={tmp_path}")
    found = looked_at(settings_of(*words, "dataset.fraction=0.5"))
    assert (len(found.splits.train), len(found.splits.val or []), len(found.splits.test or [])) == (22500, 5000, 10000)
    assert found.splits.num_classes == 10
    assert "the run will download them" in str(found.remark)
    stop = looked_at(settings_of(*words, "dataset.source.download=false"))
    assert "the run will stop: CIFAR10 needs" in str(stop.remark)
    assert left_in(tmp_path) == {}


def test_a_folder_that_is_not_there_stops_a_dry_run_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        looked_at(settings_of("method=supervised", "dataset=folder", f"dataset.root={tmp_path / 'none'}"))


def test_the_share_of_one_of_several_devices_is_measured_and_the_whole_is_told(tmp_path: Path) -> None:
    words = (*ONE, "finetune.pass_size=16", f"output_dir={tmp_path}")
    [one], [two] = looked(*words).stages, looked(*words, "trainer.devices=2").stages
    assert one.measured is not None
    assert two.measured is not None
    assert two.measured.course == one.measured.course
    assert (two.measured.images_seen, two.measured.flops) == (one.measured.images_seen, one.measured.flops)
    assert any("one of 2 devices was measured" in remark for remark in two.remarks)


def test_a_disk_that_is_too_small_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(*ONE, f"output_dir={tmp_path}")
    assert not any("TOO LITTLE" in line for line in told(found))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": found.disk - 1}))
    assert any("TOO LITTLE" in line for line in told(found))


def test_memory_that_tensors_share_counts_once() -> None:
    whole = torch.zeros(10)
    assert bytes_of({"a": whole, "b": [whole[2:], {"c": torch.zeros(3, dtype=torch.int64)}], "d": 3}) == 40 + 24


def test_the_jobs_of_a_sweep_are_those_of_hydras_own_sweeper() -> None:
    listed = combinations(["seed=1,2", "arch.depth=range(1,3)"])
    assert listed == [[f"seed={s}", f"arch.depth={d}"] for s in (1, 2) for d in (1, 2)]
    assert len(combinations(["trainer=glob(*)"])) == len(config.options("trainer"))


def test_jobs_that_were_finished_before_are_not_run_again(tmp_path: Path) -> None:
    typed = [*ONE, "seed=0,1,2", f"output_dir={tmp_path}"]
    before = swept(typed, "2")
    assert (before.fates, before.at_once) == (["new"] * 3, 2)
    job = before.jobs[1]
    job.job.folder.mkdir(parents=True)
    (job.job.folder / "results.json").write_text(json.dumps({"status": "finished", "config_hash": job.hash}))
    after = swept(typed, "1")
    assert after.fates == ["new", "finished before", "new"]
    assert [one.job.number for one in after.todo] == [0, 2]


def test_a_stage_that_jobs_share_counts_once(tmp_path: Path) -> None:
    typed = [
        *WORDS,
        f"store={tmp_path / 'store'}",
        "finetune.optimization.lr=1e-3,1e-4",
        f"output_dir={tmp_path / 's'}",
    ]
    typed.remove("store=null")
    assert sorted(swept(typed, "1").stage_runs()) == ["finetune", "finetune", "pretrain"]
    assert sorted(swept([*typed, "store=null"], "1").stage_runs()) == ["finetune", "finetune", "pretrain", "pretrain"]
    assert left_in(tmp_path) == {}


def test_a_sweep_is_listed_and_estimated_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dry_run(["-m", "--dry-run", *ONE, "seed=0,1", "hydra.launcher.jobs=2"]) == 0
    told_of = capsys.readouterr().out
    assert "2 jobs (2 new), 2 at a time" in told_of
    assert "2 jobs have 2 x finetune to run" in told_of
    assert left_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dry-run", "--cfg", "job"], "--cfg: --dry-run goes with -m"),
        (["--dry-run", "pretrain.epoch=1"], "Did you mean pretrain.epochs?"),
        (["-m", "--dry-run", "seed=0,1", "pretrain.epoch=1"], "job 0"),
        (["-m", "--dry-run", "hydra/sweeper=optuna"], "what runs is decided while it runs"),
    ],
)
def test_what_cannot_be_foretold_is_refused_in_words(words: list[str], said: str) -> None:
    with pytest.raises(config.ConfigError, match=re.escape(said)):
        dry_run(words)


@pytest.mark.parametrize("words", [["--dry-run", "pretrain.epoch=1"], ["-m", "--dry-run", "pretrain.epoch=1,2"]])
def test_a_wrong_word_is_refused_before_anything_heavy_is_loaded(words: list[str]) -> None:
    refused, seconds = quickly(*words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Did you mean pretrain.epochs?" in refused.stderr
    assert seconds < 1.5
