"""The LightningModules: training an encoder, and training to name classes."""

from collections.abc import Mapping

from smalldata_vit.contracts import Classifier, Method
from smalldata_vit.learner import Learner
from smalldata_vit.parts.collapse import Watch


class Pretraining(Learner):
    """Trains an encoder, without labels unless the stage reads them; watches for collapse."""

    def check_method(self, method: Method) -> None:
        """Any method trains here; one that names classes too, where the stage reads labels."""
        self.collapse = Watch()

    def watch(self, numbers: Mapping[str, float]) -> None:
        """Name a collapse and the knob to turn, once."""
        sentence = self.collapse.look(
            {name.removeprefix("train/"): value for name, value in numbers.items()}, self.step
        )
        if sentence is not None:
            self.journal.warn(sentence)


class FineTuning(Learner):
    """Trains on labels, from scratch or from what an earlier stage learnt."""

    def check_method(self, method: Method) -> None:
        """Only a method that names classes."""
        if not isinstance(method, Classifier):
            raise TypeError(
                f"{type(method).__name__} cannot name classes, and a finetune stage needs that: use pretrain"
            )

    def watch(self, numbers: Mapping[str, float]) -> None:
        """Nothing beyond the check for finite numbers."""
