"""Labels reach a method exactly where its stage reads them, in pretraining too."""

from pathlib import Path

import pytest
from command import TINY, results, succeed
from hydra.utils import instantiate
from method_stand_ins import FACTS, TinyBackbone
from omegaconf import OmegaConf

from smalldata_vit.contracts import Method
from smalldata_vit.learner import refuse_other_labels

CONFIGS = {file.stem: file for file in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml")}
SMALL = (*(word for word in TINY if not word.startswith("method.")), "debug=true", "stages=[pretrain]")
SUPERVISED = (
    "method=supervised",
    "plan=supervised_transfer",
    "pretrain.views=digits_repeated",
    "pretrain.image_size=8",
    "pretrain.evaluation_view.mode=squash",
)


def built(name: str) -> Method:
    return instantiate(OmegaConf.load(CONFIGS[name]), _convert_="all")(backbone=TinyBackbone, facts=FACTS)


@pytest.mark.parametrize("name", ["supcon", "supervised"])
def test_what_learns_from_labels_is_refused_where_they_are_hidden(name: str) -> None:
    refuse_other_labels(built(name), reads_labels=True)
    with pytest.raises(TypeError, match=r"learns from labels, and this stage hides them: set its reads_labels=true"):
        refuse_other_labels(built(name), reads_labels=False)


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"supcon", "supervised"}))
def test_what_learns_without_labels_is_refused_where_they_are_read(name: str) -> None:
    refuse_other_labels(built(name), reads_labels=False)
    with pytest.raises(TypeError, match=r"learns from no labels, and reads_labels=true would only keep images"):
        refuse_other_labels(built(name), reads_labels=True)


def test_supcon_sees_the_labelled_images_alone_and_the_record_says_how_many(tmp_path: Path) -> None:
    succeed(*SMALL, "method=supcon", "dataset.labels_per_class=2", f"output_dir={tmp_path}")
    outcome = results(tmp_path)["stages"]["pretrain"]
    assert (outcome["train_images"], outcome["labels_per_class"]) == (20, 2)


def test_a_pretrain_stage_can_be_supervised(tmp_path: Path) -> None:
    succeed(*SMALL, *SUPERVISED, "pretrain.dataset.labels_per_class=null", f"output_dir={tmp_path}")
    outcome = results(tmp_path)["stages"]["pretrain"]
    assert outcome["status"] == "finished"
    assert outcome["train_images"] == 1197
