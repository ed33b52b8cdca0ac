import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from smalldata_vit.results import HIDDEN, Results, plain, read_json, write_json

SECRET = "s3cr3t-4711-abcdef"


def test_a_number_that_is_not_finite_is_null_with_a_reason_until_it_is_finite(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    results.update({"stages": {"finetune": {"metrics": {"test/accuracy": math.nan, "a.b": -math.inf, "c": 0.5}}}})
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["stages"]["finetune"]["metrics"] == {"test/accuracy": None, "a.b": None, "c": 0.5}
    assert data["reasons"] == {
        "stages.finetune.metrics.test/accuracy": "not a number",
        "stages.finetune.metrics.a.b": "minus infinity",
    }
    results.update({"stages": {"finetune": {"metrics": {"test/accuracy": 0.75}}}})
    assert results.load()["reasons"] == {}


def test_a_stages_new_record_replaces_its_old_one_and_leaves_the_others(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    results.update({"stages": {"pretrain": {"status": "finished"}}, "seed": 3})
    results.update({"status": "failed", "error": "boom", "stages": {"finetune": {"status": "failed", "error": "boom"}}})
    assert results.load()["error"] == "boom"
    results.update({"status": "finished", "stages": {"finetune": {"status": "finished"}}})
    data = results.load()
    assert data["stages"] == {"pretrain": {"status": "finished"}, "finetune": {"status": "finished"}}
    assert (data["schema"], data["seed"], data["status"], data["error"]) == (1, 3, "finished", None)


def test_updates_of_many_writers_all_arrive(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Results(path).update({"baselines": {f"b{i}": {"x": i}}}), range(24)))
    assert Results(path).load()["baselines"] == {f"b{i}": {"x": i} for i in range(24)}


def test_another_schema_and_a_torn_file_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"schema": 99}')
    with pytest.raises(ValueError, match=r"results\.json has schema 99, this version reads schema 1"):
        Results(path).update({"seed": 1})
    path.write_text('{"schema": 1, "sta')
    with pytest.raises(ValueError, match=r"results\.json is not whole JSON"):
        Results(path).load()


def test_no_secret_reaches_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_API_KEY", SECRET + "-env")
    data = {
        "logger": {"wandb": {"api_key": SECRET, "project": "p"}},
        "hub": {"TOKEN": SECRET, "db-password": SECRET, "client.secret": SECRET},
        "typed": [f"logger.wandb.api_key={SECRET}", f"+hub.token={SECRET}", "method=dino"],
        "error": f"server refused {SECRET}-env at once",
    }
    write_json(tmp_path / "config.json", data)
    Results(tmp_path / "results.json").update(data)
    for file in tmp_path.iterdir():
        assert SECRET not in file.read_text()
    assert read_json(tmp_path / "config.json")["typed"] == [
        f"logger.wandb.api_key={HIDDEN}",
        f"+hub.token={HIDDEN}",
        "method=dino",
    ]


def test_what_only_sounds_like_a_secret_is_written(tmp_path: Path) -> None:
    data = {
        "pooling": "class_token",
        "num_tokens": 65,
        "classes": {"key": 120, "token": 3},
        "keys": "a",
        "monkey": "b",
        "key": "ab" * 32,
    }
    write_json(tmp_path / "x.json", data)
    assert read_json(tmp_path / "x.json") == data


def test_numpy_numbers_and_paths_are_written_and_objects_are_refused_by_place() -> None:
    assert plain({"a": np.float32(0.5), "b": np.int64(3), "c": Path("x/y"), "d": (1, None, True)}) == {
        "a": 0.5,
        "b": 3,
        "c": "x/y",
        "d": [1, None, True],
    }
    with pytest.raises(TypeError, match=r"stages\.pretrain\.metrics\[1\] is a Tensor"):
        plain({"stages": {"pretrain": {"metrics": [1, torch.zeros(2)]}}})


def test_a_file_name_with_undecodable_bytes_can_be_recorded(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"files": [b"caf\xe9.png".decode("utf-8", "surrogateescape"), "täßt.png"]})
    assert read_json(tmp_path / "x.json")["files"][1] == "täßt.png"
