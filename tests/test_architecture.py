"""The house rules that a machine can hold: who may import whom, what must not exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "smalldata_vit"
FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "src" / "hydra_plugins").rglob("*.py"), ROOT / "run.py"])

FLOORS = {
    "schedules": 0, "randomness": 0, "distributed": 0, "atomic": 0, "output": 0, "about": 0, "exactness": 0,
    "energy": 0,
    "schema": 1, "stage_hash": 1, "signatures": 1, "inheritance": 1, "jobs": 1, "contracts": 1,
    "results": 1, "metrics": 1, "signals": 1,
    "words": 2, "start_checks": 2, "handoff_tables": 2, "foreign_names": 2, "annotations": 2, "manifests": 2,
    "guided_time": 2, "console": 2, "store": 2, "backbones": 2,
    "wandb_unseen": 0, "live_table": 1, "wandb_facts": 2, "wandb_start": 2, "wandb_media": 2, "wandb_process": 3,
    "wandb_logger": 3, "tensorboard_logger": 3, "dashboards": 12,
    "overrides": 3, "checks": 3, "checkpoints": 3, "journal": 3, "optimization": 3, "parts": 3, "handoff": 3,
    "hydra_files": 3, "stage_settings": 4,
    "composition": 4, "foreign": 4, "as_trained": 4, "root_values": 4, "methods": 4, "evaluators": 4, "data": 4,
    "config": 5, "judging": 5, "passage": 5, "known_splits": 5, "foreign_timm": 5,
    "shares": 1, "sweep_values": 1, "sweep_compose": 6, "sweep_plan": 7, "sweep_progress": 2, "sweep_queue": 8,
    "sweep_words": 3, "sweep_record": 8, "sweep_table": 8, "sweep_cells": 9, "sweep_display": 10, "sweeps": 11,
    "search": 11,
    "skipping": 6, "learner": 6, "learners": 7, "tally": 5, "hardware": 6, "baselines": 6,
    "explain": 6, "completion": 7,
    "hydra_commands": 12, "flops": 7, "assembly": 7,
    "fitting": 8, "head_start": 8, "guide_maps": 9, "predictions": 8, "seen_views": 9, "start": 9, "evaluating": 10,
    "measured": 9, "watching": 8, "described": 8, "finishing": 10, "running": 11, "reports": 11,
    "stage_order": 11, "stages": 12,
    "cluster": 1, "cluster_task": 2, "cluster_leader": 2, "cluster_orders": 3, "cluster_queue": 3, "cluster_sweep": 12,
    "dry_run": 16, "run": 17, "bench": 18,
}  # fmt: skip
"""A file imports from lower floors, or from its own folder."""


def floor_of(file: Path) -> tuple[str, int]:
    if file == ROOT / "run.py":
        return "run", FLOORS["run"]
    if "hydra_plugins" in file.parts:
        return "hydra_plugins", 99
    first = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return first, FLOORS.get(first, -1)


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_file_has_a_floor() -> None:
    unknown = {floor_of(f)[0] for f in FILES if floor_of(f)[1] == -1 and f.name != "__init__.py"}
    assert unknown == set(), f"name the floor of {unknown} in tests/test_architecture.py"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_file_imports_only_from_floors_below_its_own(file: Path) -> None:
    place, floor = floor_of(file)
    for name in imported(file):
        match = re.match(r"smalldata_vit\.(\w+)", name)
        if match and match[1] in FLOORS and match[1] != place:
            assert FLOORS[match[1]] < floor, f"{file.name} (floor {floor}) imports {match[1]} ({FLOORS[match[1]]})"


ALLOWED = {
    "hydra": {
        "bench",
        "config",
        "composition",
        "hydra_files",
        "dry_run",
        "completion",
        "explain",
        "overrides",
        "hydra_commands",
        "seen_views",
        "stages",
        "assembly",
        "hardware",
        "running",
        "hydra_plugins",
        "search",
    },
    "omegaconf": {
        "search",
        "sweep_compose",
        "root_values",
        "bench",
        "config",
        "composition",
        "hydra_files",
        "stage_settings",
        "stage_order",
        "dry_run",
        "explain",
        "overrides",
        "inheritance",
        "hydra_commands",
        "stages",
        "running",
        "store",
        "assembly",
        "hydra_plugins",
        "checks",
    },
    "lightning": {
        "bench",
        "hardware",
        "learner",
        "learners",
        "checkpoints",
        "assembly",
        "data",
        "wandb_logger",
        "tensorboard_logger",
        "dry_run",
    },
    "wandb": {"wandb_process", "wandb_media", "dashboards"},
    "wandb_workspaces": {"dashboards"},
    "torchmetrics": {"evaluators"},
    "sklearn": {"evaluators", "parts", "data"},
    "matplotlib": {"reports"},
    "optuna": {"search"},
}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_heavy_package_is_imported_only_where_it_belongs(package: str) -> None:
    users = {floor_of(f)[0] for f in FILES if any(n == package or n.startswith(f"{package}.") for n in imported(f))}
    assert users <= ALLOWED[package]


def test_run_imports_nothing_heavier_than_hydra_at_its_top() -> None:
    tree = ast.parse((ROOT / "run.py").read_text())
    top = {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    top |= {n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom)}
    assert not any(name.split(".")[0] in {"torch", "timm", "lightning", "wandb", "torchvision"} for name in top)


def test_nobody_names_a_concrete_method_evaluator_or_dataset_but_yaml() -> None:
    allowed = {"smalldata_vit.evaluators.pixels", "smalldata_vit.evaluators.collected"}
    for file in FILES:
        place = floor_of(file)[0]
        for name in imported(file):
            for folder in ("methods", "evaluators"):
                if name.startswith(f"smalldata_vit.{folder}.") and place != folder:
                    assert any(name.startswith(a) for a in allowed), f"{file.name} names {name}"


@pytest.mark.parametrize("folder", ["methods"])
def test_files_of_a_folder_of_peers_do_not_import_each_other(folder: str) -> None:
    for file in (PACKAGE / folder).glob("*.py"):
        assert not any(n.startswith(f"smalldata_vit.{folder}.") for n in imported(file)), file.name


def test_forbidden_names_do_not_exist() -> None:
    names = re.compile(r"^(utils?|helpers?|misc|common|tools)$")
    assert [f for f in FILES if names.match(f.stem)] == []


def test_no_function_of_ours_takes_keyword_arguments_it_does_not_name() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None
    ]
    assert found == []


def test_no_error_is_swallowed() -> None:
    swallowed = [
        f"{file.name}:{node.lineno}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
    ]
    assert swallowed == []


def test_yaml_is_never_loaded_in_a_way_that_can_run_code() -> None:
    unsafe = re.compile(r"yaml\.(unsafe_load|load\b|full_load)|torch\.load\([^)]*weights_only=False|pickle\.load")
    assert [f.name for f in FILES if unsafe.search(f.read_text())] == []
