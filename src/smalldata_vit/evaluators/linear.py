"""Linear probe: logistic regression on an encoder's features, at several numbers of labels per class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit import distributed
from smalldata_vit.contracts import Evaluator, Method, Shown
from smalldata_vit.evaluators.collected import Collected, Rows
from smalldata_vit.parts.linear_fit import exact, fit_head


class LinearProbe(Evaluator):
    """Accuracy of a linear head fitted to the features of the first n training images of each class, and of all.

    `labels_per_class`: the n; one that exceeds the largest class is left out, as it would only repeat `all`.
    `regularisation_default`: scikit-learn's C, used until a choice was made. `regularisation_choices`: the values of
    C among which a judgement with `choose` picks, for each n, the one most accurate on the judged images (ties: the
    lower cross-entropy). `normalize`: whether features are brought to length 1.
    """

    needs_memory = True
    periodic = False
    choose: bool = False
    """Whether compute() may choose the regularisation on the judged images: set for the validation split alone."""

    def __init__(
        self,
        labels_per_class: Sequence[int],
        regularisation_default: float,
        regularisation_choices: Sequence[float],
        normalize: bool,
    ) -> None:
        super().__init__()
        if any(n < 1 for n in labels_per_class):
            raise ValueError(f"labels_per_class is {list(labels_per_class)}; each must be at least 1 (all is added)")
        self.labels_per_class = tuple(labels_per_class)
        self.regularisation_default = regularisation_default
        self.regularisation_choices = tuple(regularisation_choices)
        self.normalize = normalize
        self.memory, self.judged = Collected(torch.float32), Collected(torch.float32)
        self.regularisation: dict[str, float] | None = None
        self.used: dict[str, dict[str, int | float]] = {}

    def can_judge(self, method: Method) -> bool:
        """Every method has an encoder."""
        return True

    def reset(self) -> None:
        """Forget both sets of images; a regularisation that was chosen stays."""
        self.memory.clear()
        self.judged.clear()

    def update(self, method: Method, shown: Shown) -> None:
        """Keep the features of images to be judged or learnt from."""
        into = self.judged if shown.memory is None else self.memory
        into.add(method.encoder(shown.image).float(), shown.label, shown.index, shown.memory)

    def compute(self) -> dict[str, float]:
        """`linear_accuracy@n` for each n, and `@all`; not a number where a feature is not finite."""
        bank, judged = self.memory.gathered("training images"), self.judged.gathered("images to be judged")
        largest = int(bank.label.bincount().max())
        subsets = {str(n): bank.first(n) for n in self.labels_per_class if n <= largest} | {"all": bank}
        if not (bank.values.isfinite().all() and judged.values.isfinite().all()):
            return {f"linear_accuracy@{n}": float("nan") for n in subsets}
        scores, chosen, self.used = {}, {}, {}
        for n, subset in subsets.items():
            accuracy, chosen[n] = self._judge(n, subset, judged)
            scores[f"linear_accuracy@{n}"] = accuracy
            self.used[n] = {"regularisation": chosen[n], "bank_size": len(subset)}
        if self.choose:
            self.regularisation = chosen
        return scores

    def recorded(self) -> dict[str, object]:
        """What the last judgement used, by labels per class: the regularisation and the number of training images."""
        chosen = self.regularisation is not None
        return {"normalize": self.normalize, "chosen_on_validation": chosen, "by_labels_per_class": self.used}

    def _judge(self, n: str, subset: Rows, judged: Rows) -> tuple[float, float]:
        """Accuracy with n labels per class, and the regularisation that gave it."""
        kept = (self.regularisation or {}).get(n, self.regularisation_default)
        tried = self.regularisation_choices if self.choose else (kept,)
        num_classes = int(subset.label.max()) + 1
        best = exact(torch.zeros(3, 1, device=judged.values.device))
        if distributed.rank() == 0:  # one fit for all: the other ranks wait instead of competing for the same cores
            results = []
            for c in tried:
                weight, bias = fit_head(subset.values, subset.label, num_classes, c, self.normalize)
                accuracy, misfit = _score(weight, bias, judged.values, judged.label, self.normalize)
                results.append((accuracy, -misfit, c))
            best = torch.tensor(max(results), dtype=torch.float64, device=best.device)[:, None]
        accuracy, _, c = distributed.total(best)[:, 0].tolist()
        return accuracy, c


def _score(
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, " C"],
    features: Float[Tensor, "N D"],
    label: Int[Tensor, " N"],
    normalize: bool,
) -> tuple[float, float]:
    """Accuracy and mean cross-entropy; a class unknown to the head is wrong, and not in the latter."""
    x = exact(features)
    x = F.normalize(x, dim=1) if normalize else x
    logits = x @ exact(weight).T + bias.to(x.device).double()
    label = label.to(x.device)
    known = label < len(bias)
    misfit = F.cross_entropy(logits[known], label[known]) if bool(known.any()) else logits.new_zeros(())
    return float((logits.argmax(1) == label).double().mean()), float(misfit)
