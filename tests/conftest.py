"""What every test shares: shapes are checked, nothing reaches the network, caches lie in the test's own folder."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

import pytest
from jaxtyping import install_import_hook

install_import_hook("smalldata_vit", "shape_checks.checked")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of a test run never mix with the user's."""
    monkeypatch.setenv("SMALLDATA_VIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
