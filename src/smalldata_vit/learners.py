"""The LightningModules: training without labels, and training with them."""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from smalldata_vit.contracts import Classifier, Method
from smalldata_vit.learner import Learner
from smalldata_vit.parts.collapse import Watch


class Pretraining(Learner):
    """Trains without labels; watches for collapse."""

    def check_method(self, method: Method) -> None:
        """Any method trains here, but one that needs labels finds none."""
        if isinstance(method, Classifier):
            raise TypeError(f"{type(method).__name__} needs labels, and a pretrain stage hides them: use finetune")
        self.collapse = Watch()

    def labels(self, index: Tensor) -> Tensor:
        """All hidden."""
        return torch.full_like(index, -1)

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

    def labels(self, index: Tensor) -> Tensor:
        """Those of the images."""
        return self.labels_on_device[index]

    @cached_property
    def labels_on_device(self) -> Tensor:
        """Of all images, beside the network, so that no step waits for them; asked when the network is there."""
        return self.images.labels.to(self.device)

    def watch(self, numbers: Mapping[str, float]) -> None:
        """Nothing beyond the check for finite numbers."""
